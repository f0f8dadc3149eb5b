//! From one recorded operation to one operator.

use burn::backend::ir::{CustomOpIr, OperationIr, TensorIr};
use dynamax_bundle::{Activation, Op};

use super::CaptureError;
use super::lower::{Lowering, count, number};
use super::record::ROWS;
use super::weights::Role;

/// Lowers an operator of `dynamax_burn::ops`. Operands come in the order of the Program, then states; outputs are the
/// output, then the updated states.
pub(super) fn custom(to: &mut Lowering<'_>, op: &CustomOpIr) -> Result<(), CaptureError> {
    let name = op.id.as_str();
    match (name, &op.inputs[..], &op.outputs[..], &op.scalars[..]) {
        ("embed", [table, tokens], [out], []) => {
            to.expect_tokens(name, tokens)?;
            let table = to.weight(name, "table", table, Role::Matrix)?;
            to.emit(out, |out| Op::Embed { table, out })
        }
        ("rms_norm", [x, weight], [out], [group, eps]) => {
            let x = to.activation(name, "x", x)?;
            let weight = to.weight(name, "weight", weight, Role::Plain)?;
            to.emit(out, |out| Op::RmsNorm {
                x,
                weight,
                out,
                group: count(group),
                eps: number(eps),
            })
        }
        ("gated_rms_norm", [x, gate, weight], [out], [group, eps]) => {
            let (x, gate) = (to.activation(name, "x", x)?, to.activation(name, "gate", gate)?);
            let weight = to.weight(name, "weight", weight, Role::Plain)?;
            to.emit(out, |out| Op::GatedRmsNorm {
                x,
                gate,
                weight,
                out,
                group: count(group),
                eps: number(eps),
            })
        }
        ("linear", [x, weight, bias @ ..], [out], []) => {
            let x = to.activation(name, "x", x)?;
            let weight = to.weight(name, "weight", weight, Role::Matrix)?;
            let bias =
                bias.first().map(|bias| to.weight(name, "bias", bias, Role::Plain)).transpose()?;
            to.emit(out, |out| Op::Linear { x, weight, bias, out })
        }
        ("add", [a, b], [out], []) => {
            let (a, b) = (to.activation(name, "a", a)?, to.activation(name, "b", b)?);
            to.emit(out, |out| Op::Add { a, b, out })
        }
        ("swiglu", [gate, up], [out], []) => {
            let (gate, up) = (to.activation(name, "gate", gate)?, to.activation(name, "up", up)?);
            to.emit(out, |out| Op::SwiGlu { gate, up, out })
        }
        ("silu", [x], [out], []) => {
            let x = to.activation(name, "x", x)?;
            to.emit(out, |out| Op::Silu { x, out })
        }
        ("select", [x], [out], [row]) => {
            let (found, last) = (u64::from(count(row)), ROWS as u64 - 1);
            if found != last {
                return Err(CaptureError::Row { found, last });
            }
            let x = to.activation(name, "x", x)?;
            to.emit(out, |out| Op::Select { x, out })
        }
        ("rope_angles", [inv_freq, position], [out], []) => {
            to.expect_position(name, position)?;
            let inv_freq = to.weight(name, "inv_freq", inv_freq, Role::Plain)?;
            to.emit(out, |out| Op::RopeAngles { inv_freq, out })
        }
        ("rope", [x, angles], [out], [head_dim]) => {
            let (x, angles) =
                (to.activation(name, "x", x)?, to.activation(name, "angles", angles)?);
            to.emit(out, |out| Op::Rope { x, angles, out, head_dim: count(head_dim) })
        }
        ("attention", ..) => attention(to, op),
        ("causal_conv" | "selective_scan" | "state_space_dual", ..) => recurrence(to, op),
        _ => Err(unsupported(&OperationIr::Custom(op.clone()))),
    }
}

fn attention(to: &mut Lowering<'_>, op: &CustomOpIr) -> Result<(), CaptureError> {
    let name = op.id.as_str();
    let (
        [q, k, v, k_cache, v_cache, position],
        [out, k_updated, v_updated],
        [n_heads, n_kv_heads, window, scale],
    ) = (&op.inputs[..], &op.outputs[..], &op.scalars[..])
    else {
        return Err(unsupported(&OperationIr::Custom(op.clone())));
    };
    to.expect_position(name, position)?;
    let q = to.activation(name, "q", q)?;
    let k = to.activation(name, "k", k)?;
    let v = to.activation(name, "v", v)?;
    let window = Some(count(window));
    let k_cache = to.state(name, "k_cache", [k_cache, k_updated], window)?;
    let v_cache = to.state(name, "v_cache", [v_cache, v_updated], window)?;
    let (n_heads, n_kv_heads, scale) = (count(n_heads), count(n_kv_heads), number(scale));
    to.emit(out, |out| Op::Attention { q, k, v, k_cache, v_cache, out, n_heads, n_kv_heads, scale })
}

fn recurrence(to: &mut Lowering<'_>, op: &CustomOpIr) -> Result<(), CaptureError> {
    let name = op.id.as_str();
    let ([inputs @ .., state], [out, updated]) = (&op.inputs[..], &op.outputs[..]) else {
        return Err(unsupported(&OperationIr::Custom(op.clone())));
    };
    let states = [state, updated];
    match (name, inputs, &op.scalars[..]) {
        ("causal_conv", [x, weight, bias @ ..], [activation]) => {
            let x = to.activation(name, "x", x)?;
            let weight = to.weight(name, "weight", weight, Role::Plain)?;
            let bias =
                bias.first().map(|bias| to.weight(name, "bias", bias, Role::Plain)).transpose()?;
            let state = to.state(name, "state", states, None)?;
            let activation =
                if count(activation) == 0 { Activation::Identity } else { Activation::Silu };
            to.emit(out, |out| Op::CausalConv { x, weight, bias, state, out, activation })
        }
        ("selective_scan", [x, dt, bc, a_log, d], []) => {
            let x = to.activation(name, "x", x)?;
            let dt = to.activation(name, "dt", dt)?;
            let bc = to.activation(name, "bc", bc)?;
            let a = to.weight(name, "a_log", a_log, Role::NegExp)?;
            let d = to.weight(name, "d", d, Role::Plain)?;
            let state = to.state(name, "state", states, None)?;
            to.emit(out, |out| Op::SelectiveScan { x, dt, bc, a, d, state, out })
        }
        (
            "state_space_dual",
            inputs @ [_, _, _, _, _],
            [n_heads, n_groups, d_state, dt_min, dt_max],
        ) => {
            let [xbc, dt, dt_bias, a, d] = dual_operands(to, inputs)?;
            let state = to.state(name, "state", states, None)?;
            let (n_heads, n_groups, d_state) = (count(n_heads), count(n_groups), count(d_state));
            let (dt_min, dt_max) = (number(dt_min), number(dt_max));
            to.emit(out, |out| Op::StateSpaceDual {
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
            })
        }
        _ => Err(unsupported(&OperationIr::Custom(op.clone()))),
    }
}

fn dual_operands(
    to: &mut Lowering<'_>,
    inputs: &[TensorIr],
) -> Result<[dynamax_bundle::TensorId; 5], CaptureError> {
    let name = "state_space_dual";
    Ok([
        to.activation(name, "xbc", &inputs[0])?,
        to.activation(name, "dt", &inputs[1])?,
        to.weight(name, "dt_bias", &inputs[2], Role::Plain)?,
        to.weight(name, "a_log", &inputs[3], Role::NegExp)?,
        to.weight(name, "d", &inputs[4], Role::Plain)?,
    ])
}

/// The error for an operation that is not an operator.
pub(super) fn unsupported(operation: &OperationIr) -> CaptureError {
    let name = match operation {
        OperationIr::Custom(custom) => custom.id.clone(),
        other => name(&format!("{other:?}")),
    };
    let instead = match name.as_str() {
        "matmul" => "use `ops::linear` with a weight of [d_out, d_in], or `ops::attention`",
        "mul" => "use `ops::swiglu`, or the gated norm; scale a weight instead of an activation",
        "mul_scalar" | "div_scalar" => "scale a weight instead of an activation",
        "add" | "add_scalar" => {
            "`+` adds two activations of one shape; a bias belongs to `ops::linear`"
        }
        "slice" | "select" | "gather" | "cat" => {
            "project with one `ops::linear` per part instead of cutting or joining activations; \
             take the last row with `ops::select`"
        }
        "sigmoid" | "exp" => "use `ops::silu` or `ops::swiglu`",
        "softmax" => "use `ops::attention`",
        "swap_dims" | "permute" => "store the parameter in the shape of its operator",
        "embedding" => "use `ops::embed`",
        "zeros" | "ones" | "full" | "random" => {
            "make it a parameter of the module, or `Tensor::from_data`"
        }
        "expand" => "operators repeat what they need by themselves",
        _ => "write the step with `dynamax_burn::ops`",
    };
    CaptureError::Unsupported { operation: name, instead }
}

/// The name of an operation in Burn's intermediate form, `Float(F32, Matmul(MatmulOpIr { … }))`, in snake case.
fn name(debug: &str) -> String {
    let head = debug.split('{').next().unwrap_or(debug);
    let mut words = head
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty() && !word.ends_with("Ir"));
    let mut snake = String::new();
    for c in words.next_back().unwrap_or("operation").chars() {
        if c.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}
