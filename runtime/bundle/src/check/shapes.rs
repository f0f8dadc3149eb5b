//! Each operator alone: kinds, shapes and constants, as the documentation of [`Op`] gives them.

use super::lookup::{Lookup, Slot};
use super::{OpAt, ProgramError};
use crate::program::{Op, Program, TensorId};

/// Checks the operands and constants of one operator.
pub(super) fn check(program: &Program<'_>, op: OpAt, kind: &Op) -> Result<(), ProgramError> {
    let at = Lookup { program, op };
    match *kind {
        Op::Embed { table, out } => {
            let (_, d_model) = at.matrix(("table", table))?;
            at.activation_of(("out", out), d_model.into())
        }
        Op::RmsNorm { x, weight, out, group, eps } => {
            let width = same_widths(at, ("x", x), &[("out", out)])?;
            at.divide("group", group, width)?;
            let found = at.vector(("weight", weight))?;
            // One weight for each number, or one for each number of a group.
            let expected = if found == group { group } else { width };
            at.same_width(("weight", weight), found, expected.into())?;
            epsilon(at, eps)
        }
        Op::GatedRmsNorm { x, gate, weight, out, group, eps } => {
            let width = same_widths(at, ("x", x), &[("gate", gate), ("out", out)])?;
            at.divide("group", group, width)?;
            at.plain_of(("weight", weight), 1, width.into())?;
            epsilon(at, eps)
        }
        Op::Linear { x, weight, bias, out } => linear(at, x, weight, bias, out),
        Op::Add { a, b, out } => same_widths(at, ("a", a), &[("b", b), ("out", out)]).map(drop),
        Op::SwiGlu { gate, up, out } => {
            same_widths(at, ("gate", gate), &[("up", up), ("out", out)]).map(drop)
        }
        Op::Silu { x, out } | Op::Select { x, out } => {
            same_widths(at, ("x", x), &[("out", out)]).map(drop)
        }
        Op::RopeAngles { inv_freq, out } => {
            let half = at.vector(("inv_freq", inv_freq))?;
            at.activation_of(("out", out), u64::from(half).saturating_mul(2))
        }
        Op::Rope { x, angles, out, head_dim } => {
            let width = same_widths(at, ("x", x), &[("out", out)])?;
            at.divide("head_dim", head_dim, width)?;
            at.constant("head_dim", head_dim.is_multiple_of(2), "an even number")?;
            at.activation_of(("angles", angles), head_dim.into())
        }
        Op::Attention { .. } => attention(at, kind),
        Op::CausalConv { .. } => convolution(at, kind),
        Op::SelectiveScan { .. } => selective_scan(at, kind),
        Op::StateSpaceDual { .. } => state_space_dual(at, kind),
    }
}

/// The width of `first`, which the others share.
fn same_widths(at: Lookup<'_>, first: Slot, others: &[Slot]) -> Result<u32, ProgramError> {
    let width = at.activation(first)?;
    others.iter().try_for_each(|&slot| at.activation_of(slot, width.into()))?;
    Ok(width)
}

fn epsilon(at: Lookup<'_>, eps: f32) -> Result<(), ProgramError> {
    at.constant("eps", eps.is_finite() && eps >= 0.0, "finite, not negative")
}

fn linear(
    at: Lookup<'_>,
    x: TensorId,
    weight: TensorId,
    bias: Option<TensorId>,
    out: TensorId,
) -> Result<(), ProgramError> {
    let (d_out, d_in) = at.matrix(("weight", weight))?;
    at.activation_of(("x", x), d_in.into())?;
    at.activation_of(("out", out), d_out.into())?;
    bias.map_or(Ok(()), |bias| at.plain_of(("bias", bias), 1, d_out.into()))
}

fn attention(at: Lookup<'_>, op: &Op) -> Result<(), ProgramError> {
    let Op::Attention { q, k, v, k_cache, v_cache, out, n_heads, n_kv_heads, scale } = *op else {
        return Ok(());
    };
    let q_width = same_widths(at, ("q", q), &[("out", out)])?;
    let head_dim = at.divide("n_heads", n_heads, q_width)?;
    at.divide("n_kv_heads", n_kv_heads, n_heads)?;
    let kv_width = u64::from(n_kv_heads).saturating_mul(head_dim.into());
    at.activation_of(("k", k), kv_width)?;
    at.activation_of(("v", v), kv_width)?;
    let k_form = at.cache_of(("k_cache", k_cache), kv_width)?;
    let v_form = at.cache_of(("v_cache", v_cache), kv_width)?;
    if k_form != v_form {
        return Err(ProgramError::CachesDiffer { op: at.op });
    }
    at.constant("scale", scale.is_finite(), "finite")
}

fn convolution(at: Lookup<'_>, op: &Op) -> Result<(), ProgramError> {
    let Op::CausalConv { x, weight, bias, state, out, activation: _ } = *op else {
        return Ok(());
    };
    let channels = same_widths(at, ("x", x), &[("out", out)])?.into();
    let (d_conv, width) = at.plain(("weight", weight))?;
    at.same_width(("weight", weight), width, channels)?;
    // A state of no rows is refused as a tensor, so the convolution is at least two wide.
    at.state_of(("state", state), u64::from(d_conv).saturating_sub(1), channels)?;
    bias.map_or(Ok(()), |bias| at.plain_of(("bias", bias), 1, channels))
}

fn selective_scan(at: Lookup<'_>, op: &Op) -> Result<(), ProgramError> {
    let Op::SelectiveScan { x, dt, bc, a, d, state, out } = *op else {
        return Ok(());
    };
    let d_inner = same_widths(at, ("x", x), &[("dt", dt), ("out", out)])?.into();
    let (d_state, width) = at.plain(("a", a))?;
    at.same_width(("a", a), width, d_inner)?;
    at.activation_of(("bc", bc), u64::from(d_state).saturating_mul(2))?;
    at.plain_of(("d", d), 1, d_inner)?;
    at.state_of(("state", state), d_state.into(), d_inner)
}

fn state_space_dual(at: Lookup<'_>, op: &Op) -> Result<(), ProgramError> {
    let Op::StateSpaceDual {
        xbc,
        dt,
        dt_bias,
        a,
        d,
        state,
        out,
        n_heads,
        n_groups,
        d_state,
        dt_min,
        dt_max,
    } = *op
    else {
        return Ok(());
    };
    let d_inner = at.activation(("out", out))?;
    let head_dim = at.divide("n_heads", n_heads, d_inner)?;
    at.divide("n_groups", n_groups, n_heads)?;
    at.constant("d_state", d_state >= 1, "at least 1")?;
    // b and c, of each group.
    let bc = u64::from(n_groups).saturating_mul(d_state.into()).saturating_mul(2);
    at.activation_of(("xbc", xbc), bc.saturating_add(d_inner.into()))?;
    at.activation_of(("dt", dt), n_heads.into())?;
    for slot in [("dt_bias", dt_bias), ("a", a), ("d", d)] {
        at.plain_of(slot, 1, n_heads.into())?;
    }
    let rows = u64::from(n_heads).saturating_mul(d_state.into());
    at.state_of(("state", state), rows, head_dim.into())?;
    at.constant("dt_min", dt_min.is_finite() && dt_min >= 0.0, "finite, not negative")?;
    at.constant("dt_max", dt_min <= dt_max, "a number, not below `dt_min`")
}
