//! Calls the kernels of the Program on rows that lie without padding.

use dynamax_kernels::format::{ALIGN, PANEL};
use dynamax_kernels::ops::{
    Attention, CacheMut, CausalConv, ConvActivation, SelectiveScan, Span, SsdShape, StateSpaceDual,
};
use dynamax_kernels::view::{ColumnsMut, LANES, Rows};
use dynamax_kernels::{Format, Input, Isa, Matrix, pack_panel};

use super::share::{pieces, share};
use crate::ops::{Activation, AttentionShape, DualShape};

/// Looks up rows of a table.
pub(super) fn embed(table: Rows<'_>, tokens: &[i64]) -> Vec<f32> {
    let row =
        |&token| {
            let index = usize::try_from(token).ok().filter(|&index| index < table.len());
            table.row(index.unwrap_or_else(|| {
                panic!("token {token} is not in a table of {} rows", table.len())
            }))
        };
    tokens.iter().flat_map(row).copied().collect()
}

/// Computes each row of the result from the same row of `x`.
fn each_row(x: Rows<'_>, mut kernel: impl FnMut(usize, &[f32], &mut [f32])) -> Vec<f32> {
    let mut out = vec![0.0; x.len() * x.width()];
    for (index, out) in out.chunks_exact_mut(x.width()).enumerate() {
        kernel(index, x.row(index), out);
    }
    out
}

pub(super) fn rms_norm(x: Rows<'_>, weight: &[f32], group: usize, eps: f32) -> Vec<f32> {
    each_row(x, |_, x, out| Isa::detect().rms_norm(x, weight, group, eps, out))
}

pub(super) fn gated_rms_norm(
    x: Rows<'_>,
    gate: Rows<'_>,
    weight: &[f32],
    group: usize,
    eps: f32,
) -> Vec<f32> {
    each_row(x, |row, x, out| {
        Isa::detect().gated_rms_norm(x, gate.row(row), weight, group, eps, out);
    })
}

pub(super) fn add(a: Rows<'_>, b: Rows<'_>) -> Vec<f32> {
    each_row(a, |row, a, out| Isa::detect().add(a, b.row(row), out))
}

pub(super) fn swiglu(gate: Rows<'_>, up: Rows<'_>) -> Vec<f32> {
    each_row(gate, |row, gate, out| Isa::detect().swiglu(gate, up.row(row), out))
}

pub(super) fn silu(x: Rows<'_>) -> Vec<f32> {
    each_row(x, |_, x, out| Isa::detect().silu(x, out))
}

pub(super) fn rope(x: Rows<'_>, angles: Rows<'_>) -> Vec<f32> {
    each_row(x, |row, x, out| Isa::detect().rope(x, angles.row(row), out))
}

pub(super) fn rope_angles(inv_freq: &[f32], position: u32, rows: usize) -> Vec<f32> {
    let mut out = vec![0.0; rows * 2 * inv_freq.len()];
    for (position, out) in (position..).zip(out.chunks_exact_mut(2 * inv_freq.len())) {
        Isa::detect().rope_angles(inv_freq, position, out);
    }
    out
}

/// Projects with a weight that is tiled on the way, one panel at a time: the bits are those of a Program stored as f32.
pub(super) fn linear(x: Rows<'_>, weight: Rows<'_>, bias: Option<&[f32]>) -> Vec<f32> {
    let (d_in, d_out) = (x.width(), weight.len());
    let mut out = vec![0.0; x.len() * d_out];
    let panel_bytes =
        Format::F32.panel_bytes(d_in).unwrap_or_else(|| panic!("linear: rows of {d_in} numbers"));
    let mut scratch = vec![0; panel_bytes + ALIGN];
    let start = scratch.as_ptr().align_offset(ALIGN);
    let panel = &mut scratch[start..start + panel_bytes];
    let mut rest = ColumnsMut::new(&mut out, x.len(), d_out, d_out);
    for first in (0..d_out).step_by(PANEL) {
        let rows = PANEL.min(d_out - first);
        let numbers: Vec<f32> =
            (first..first + rows).flat_map(|row| weight.row(row)).copied().collect();
        pack_panel(Format::F32, &numbers, d_in, panel)
            .unwrap_or_else(|error| panic!("linear: weight: {error}"));
        let matrix = Matrix::new(Format::F32, rows, d_in, panel)
            .unwrap_or_else(|error| panic!("linear: {error}"));
        let (mut columns, behind) = rest.split_at(rows);
        let bias = bias.map(|bias| &bias[first..first + rows]);
        Isa::detect().linear(matrix, Input::F32(x), bias, 0..1, &mut columns);
        rest = behind;
    }
    out
}

/// `caches` are `[capacity, n_kv_heads · head_dim]` in size, and ordered by head.
pub(super) fn attention<N: Number>(
    [q, k, v]: [Rows<'_>; 3],
    caches: [Vec<N>; 2],
    capacity: usize,
    position: u32,
    shape: AttentionShape,
) -> (Vec<f32>, [Vec<N>; 2]) {
    let AttentionShape { n_heads, n_kv_heads, window, scale } = shape;
    let window = u32::try_from(window).unwrap_or_else(|_| panic!("attention: window {window}"));
    let op = Attention { q, k, v, position, window, n_heads, n_kv_heads, scale };
    let mut out = vec![0.0; q.len() * q.width()];
    let [mut k_cache, mut v_cache] = caches;
    let (per_head, width) = (k_cache.len() / n_kv_heads, q.width() / n_kv_heads);
    let columns = ColumnsMut::new(&mut out, q.len(), q.width(), q.width());
    let read = q.len() * (position as usize + q.len()) * k.width() * 2 * size_of::<N>();
    share(
        0..n_kv_heads,
        pieces(read),
        (&mut *k_cache, &mut *v_cache, columns),
        &|(keys, values, out), heads| {
            let (keys, more_keys) = keys.split_at_mut(heads * per_head);
            let (values, more_values) = values.split_at_mut(heads * per_head);
            let (out, more) = out.split_at(heads * width);
            ((keys, values, out), (more_keys, more_values, more))
        },
        &|heads, (keys, values, mut out)| {
            let (keys, values) = (N::cache(keys), N::cache(values));
            Isa::detect().attention(&op, heads, capacity, keys, values, &mut out);
        },
    );
    (out, [k_cache, v_cache])
}

/// Appends rows to a cache without attending.
pub(super) fn append<N: Number>(
    rows: Rows<'_>,
    mut cache: Vec<N>,
    position: u32,
    n_kv_heads: usize,
) -> Vec<N> {
    let (head_dim, capacity) = (rows.width() / n_kv_heads, cache.len() / rows.width());
    let heads = 0..n_kv_heads;
    Isa::detect().append(rows, head_dim, position, heads, capacity, N::cache(&mut cache));
    cache
}

/// A number of a cache.
pub(super) trait Number: Sized + Send {
    fn cache(numbers: &mut [Self]) -> CacheMut<'_>;
}

impl Number for f32 {
    fn cache(numbers: &mut [Self]) -> CacheMut<'_> {
        CacheMut::F32(numbers)
    }
}

impl Number for u16 {
    fn cache(numbers: &mut [Self]) -> CacheMut<'_> {
        CacheMut::F16(numbers)
    }
}

pub(super) fn causal_conv(
    x: Rows<'_>,
    weight: Rows<'_>,
    bias: Option<&[f32]>,
    mut state: Vec<f32>,
    (span, activation): (Span, Activation),
) -> (Vec<f32>, Vec<f32>) {
    let (channels, rows) = (x.width(), span.answered(x.len()));
    let activation = match activation {
        Activation::Identity => ConvActivation::Identity,
        Activation::Silu => ConvActivation::Silu,
    };
    let mut out = vec![0.0; rows * channels];
    Isa::detect().causal_conv_span(
        &CausalConv { x, weight, bias, activation },
        span,
        &mut ColumnsMut::new(&mut state, weight.len() - 1, channels, channels),
        &mut ColumnsMut::new(&mut out, rows, channels, channels),
    );
    (out, state)
}

pub(super) fn selective_scan(
    [x, dt, bc, a]: [Rows<'_>; 4],
    d: &[f32],
    mut state: Vec<f32>,
    span: Span,
) -> (Vec<f32>, Vec<f32>) {
    let (d_inner, d_state, rows) = (x.width(), a.len(), span.answered(x.len()));
    let mut out = vec![0.0; rows * d_inner];
    let both = (
        ColumnsMut::new(&mut state, d_state, d_inner, d_inner),
        ColumnsMut::new(&mut out, rows, d_inner, d_inner),
    );
    // Whole lanes, so that no two threads share a cache line.
    share(
        0..d_inner.div_ceil(LANES),
        pieces(x.len() * d_state * d_inner * 16),
        both,
        &|(state, out), lanes| {
            let channels = lanes * LANES;
            let (state, more_state) = state.split_at(channels);
            let (out, more) = out.split_at(channels);
            ((state, out), (more_state, more))
        },
        &|lanes, (mut state, mut out)| {
            let channels = lanes.start * LANES..(lanes.end * LANES).min(d_inner);
            let [x, dt, a] = [x, dt, a].map(|rows| rows.columns(channels.clone()));
            let scan = SelectiveScan { x, dt, bc, a, d: &d[channels] };
            Isa::detect().selective_scan_span(&scan, span, &mut state, &mut out);
        },
    );
    (out, state)
}

pub(super) fn state_space_dual(
    xbc: Rows<'_>,
    dt: Rows<'_>,
    [dt_bias, a, d]: [&[f32]; 3],
    mut state: Vec<f32>,
    (span, shape): (Span, DualShape),
) -> (Vec<f32>, Vec<f32>) {
    let DualShape { n_heads, n_groups, d_state, dt_min, dt_max } = shape;
    let per_head = state.len() / n_heads;
    let head_dim = per_head / d_state;
    let shape = SsdShape { n_heads, n_groups, d_state, head_dim, dt_min, dt_max };
    let scan = StateSpaceDual { xbc, dt, dt_bias, a, d, shape };
    let (d_inner, rows) = (n_heads * head_dim, span.answered(xbc.len()));
    let mut out = vec![0.0; rows * d_inner];
    let columns = ColumnsMut::new(&mut out, rows, d_inner, d_inner);
    share(
        0..n_heads,
        pieces(xbc.len() * state.len() * size_of::<f32>()),
        (&mut *state, columns),
        &|(state, out), heads| {
            let (state, more_state) = state.split_at_mut(heads * per_head);
            let (out, more) = out.split_at(heads * head_dim);
            ((state, out), (more_state, more))
        },
        &|heads, (state, mut out)| {
            let mut state = ColumnsMut::new(state, heads.len() * d_state, head_dim, head_dim);
            Isa::detect().state_space_dual_span(&scan, span, heads, &mut state, &mut out);
        },
    );
    (out, state)
}

/// `-exp(x)`, rounded once from f64: what a bundle stores in place of `a_log`.
pub(super) fn decays(a_log: &[f32]) -> Vec<f32> {
    a_log.iter().map(|x| -f64::from(*x).exp() as f32).collect()
}
