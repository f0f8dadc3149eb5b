//! The recurrence over whole sequences, as matrix products: the state-space dual form.
//!
//! ```text
//! hₜ = exp(Δₜ·a) hₜ₋₁ + Δₜ bₜ xₜᵀ        yₜ = cₜᵀ hₜ
//! ```
//!
//! Source: Dao & Gu 2024, section 6. A sequence is cut into chunks. Within a chunk `y = (L ∘ c·bᵀ)·Δx`, where `L[i, j]` is
//! the decay from token `j` to token `i`; between chunks only states travel. Decays are exponentials of sums of `Δ·a ≤ 0`,
//! never of differences of longer sums: these would lose the small ones behind a large one.

use burn::tensor::{Device, Tensor, TensorData};

/// Longer chunks than this cost more in the products within than they save between.
const CHUNK_MAX: usize = 64;

/// The exponent of a decay to an earlier token: its exponential is zero.
const NEVER: f32 = -1e30;

/// Operands of [`state_space_dual`].
#[derive(Debug)]
pub(super) struct Dual {
    /// `[batch, seq, n_heads, head_dim]`.
    pub(super) x: Tensor<4>,
    /// Positive, `[batch, seq, n_heads]`.
    pub(super) dt: Tensor<3>,
    /// Negative, `[n_heads]`.
    pub(super) a: Tensor<1>,
    /// `[batch, seq, n_groups, d_state]`.
    pub(super) b: Tensor<4>,
    /// `[batch, seq, n_groups, d_state]`.
    pub(super) c: Tensor<4>,
    /// Tokens in a chunk; the result does not depend on it but for rounding.
    pub(super) chunk_size: usize,
}

/// Sizes of the chunked problem. A *block* is one chunk of one group of one sequence.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    chunks: usize,
    /// Tokens in a chunk.
    len: usize,
    groups: usize,
    /// Heads in a group.
    heads: usize,
    head_dim: usize,
    d_state: usize,
}

impl Sizes {
    fn blocks(&self) -> usize {
        self.batch * self.chunks * self.groups
    }

    /// Cuts `[batch, seq, groups · width]` into `[blocks, len, width]`. Tokens added at the end are zeros: they neither
    /// decay nor add to a state.
    fn cut(&self, x: Tensor<3>, width: usize) -> Tensor<3> {
        let [_, seq, full] = x.dims();
        let missing = self.chunks * self.len - seq;
        let x = match missing {
            0 => x,
            _ => {
                let zeros = Tensor::zeros([self.batch, missing, full], &x.device());
                Tensor::cat(vec![x, zeros], 1)
            }
        };
        let x = x.reshape([self.batch * self.chunks, self.len, self.groups, width]);
        x.swap_dims(1, 2).reshape([self.blocks(), self.len, width])
    }
}

/// Runs the recurrence from a zero state.
///
/// # Shapes
///
/// - returned: `[batch, seq, n_heads, head_dim]`
pub(super) fn state_space_dual(dual: Dual) -> Tensor<4> {
    let [batch, seq, n_heads, head_dim] = dual.x.dims();
    let [_, _, groups, d_state] = dual.b.dims();
    let len = dual.chunk_size.min(CHUNK_MAX).min(seq);
    let (chunks, heads) = (seq.div_ceil(len), n_heads / groups);
    let sizes = Sizes { batch, chunks, len, groups, heads, head_dim, d_state };
    let width = heads * head_dim;

    let log_decay = sizes.cut(dual.dt.clone() * dual.a.unsqueeze(), heads);
    let dx = dual.x * dual.dt.reshape([batch, seq, n_heads, 1]);
    let dx = sizes.cut(dx.reshape([batch, seq, n_heads * head_dim]), width);
    let b = sizes.cut(dual.b.reshape([batch, seq, groups * d_state]), d_state);
    let c = sizes.cut(dual.c.reshape([batch, seq, groups * d_state]), d_state);

    let per_head = log_decay.clone().swap_dims(1, 2).reshape([sizes.blocks() * heads, len]);
    let sums = sums_between(per_head);
    let mut y = within(sizes, sums.clone().exp(), dx.clone(), b.clone(), c.clone());
    if chunks > 1 {
        y = y + between(sizes, log_decay, sums, dx, b, c);
    }
    let y = y.reshape([batch * chunks, groups, len, width]).swap_dims(1, 2);
    y.reshape([batch, chunks * len, n_heads, head_dim]).narrow(1, 0, seq)
}

/// What tokens of a chunk owe to tokens of the same chunk, `[blocks, len, heads · head_dim]`.
///
/// # Shapes
///
/// - `decays`: `[blocks · heads, len, len]`
/// - `dx`: `[blocks, len, heads · head_dim]`
/// - `b`, `c`: `[blocks, len, d_state]`
fn within(sizes: Sizes, decays: Tensor<3>, dx: Tensor<3>, b: Tensor<3>, c: Tensor<3>) -> Tensor<3> {
    let Sizes { len, heads, head_dim, .. } = sizes;
    let blocks = sizes.blocks();
    let similar = c.matmul(b.swap_dims(1, 2)).reshape([blocks, 1, len * len]);
    let weights =
        (decays.reshape([blocks, heads, len * len]) * similar).reshape([blocks * heads, len, len]);
    let dx = dx.reshape([blocks, len, heads, head_dim]).swap_dims(1, 2);
    let y = weights.matmul(dx.reshape([blocks * heads, len, head_dim]));
    y.reshape([blocks, heads, len, head_dim]).swap_dims(1, 2).reshape([
        blocks,
        len,
        heads * head_dim,
    ])
}

/// What tokens of a chunk owe to earlier chunks, `[blocks, len, heads · head_dim]`.
///
/// # Shapes
///
/// - `log_decay`: `[blocks, len, heads]`
/// - `sums`: `[blocks · heads, len, len]`, from [`sums_between`]
/// - `dx`, `b`, `c`: as for [`within`]
fn between(
    sizes: Sizes,
    log_decay: Tensor<3>,
    sums: Tensor<3>,
    dx: Tensor<3>,
    b: Tensor<3>,
    c: Tensor<3>,
) -> Tensor<3> {
    let Sizes { batch, chunks, len, groups, heads, head_dim, d_state } = sizes;
    let (blocks, width) = (sizes.blocks(), heads * head_dim);
    // What each chunk adds to the state by its end.
    let to_end = sums.narrow(1, len - 1, 1).reshape([blocks, heads, len]).swap_dims(1, 2);
    let to_end = to_end.exp().reshape([blocks, len, heads, 1]);
    let dx = (dx.reshape([blocks, len, heads, head_dim]) * to_end).reshape([blocks, len, width]);
    let added =
        b.swap_dims(1, 2).matmul(dx).reshape([batch, chunks, groups, d_state, heads, head_dim]);
    // The state after each chunk but the last: all that was added, decayed over the chunks between.
    let sequences = batch * groups * heads;
    let added = added.permute([0, 2, 4, 1, 3, 5]).reshape([sequences, chunks, d_state * head_dim]);
    let added = added.narrow(1, 0, chunks - 1);
    let total = log_decay.clone().sum_dim(1).reshape([batch, chunks, groups * heads]);
    let total = total.swap_dims(1, 2).reshape([sequences, chunks]).narrow(1, 0, chunks - 1);
    let after = sums_between(total).exp().matmul(added);
    // The state before each chunk.
    let zeros = Tensor::zeros([sequences, 1, d_state * head_dim], &after.device());
    let before = Tensor::cat(vec![zeros, after], 1);
    let before = before
        .reshape([batch, groups, heads, chunks, d_state, head_dim])
        .permute([0, 3, 1, 4, 2, 5]);
    // What is read of it.
    let y =
        c.matmul(before.reshape([blocks, d_state, width])).reshape([blocks, len, heads, head_dim]);
    let from_start = log_decay.cumsum(1).exp().reshape([blocks, len, heads, 1]);
    (y * from_start).reshape([blocks, len, width])
}

/// `x[j + 1] + … + x[i]`, the exponent of the decay from `j` to `i`; [`NEVER`] for later `j`.
///
/// # Shapes
///
/// - `x`: `[rows, len]`
/// - returned: `[rows, len, len]`
fn sums_between(x: Tensor<2>) -> Tensor<3> {
    let ([rows, len], device) = (x.dims(), x.device());
    let earlier = table(len, |i, j| if j < i { 1.0 } else { 0.0 }, &device);
    let later = table(len, |i, j| if j > i { NEVER } else { 0.0 }, &device);
    (x.reshape([rows, len, 1]) * earlier.unsqueeze()).cumsum(1) + later.unsqueeze()
}

/// A constant, `[len, len]`.
fn table(len: usize, number: impl Fn(usize, usize) -> f32, device: &Device) -> Tensor<2> {
    let pairs = (0..len * len).map(|index| number(index / len, index % len));
    Tensor::from_data(TensorData::new(pairs.collect::<Vec<_>>(), [len, len]), device)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution, Tensor};

    use super::{Dual, state_space_dual};

    /// The recurrence as it is written, one token after the other.
    fn token_by_token(dual: &Dual) -> Tensor<4> {
        let [batch, seq, n_heads, head_dim] = dual.x.dims();
        let [_, _, groups, d_state] = dual.b.dims();
        let heads = |x: &Tensor<4>, t| {
            let x = x.clone().narrow(1, t, 1).reshape([batch, groups, 1, d_state]);
            x.repeat_dim(2, n_heads / groups).reshape([batch, n_heads, d_state, 1])
        };
        let mut state = Tensor::<4>::zeros([batch, n_heads, d_state, head_dim], &dual.x.device());
        let outputs = (0..seq).map(|t| {
            let dt = dual.dt.clone().narrow(1, t, 1).reshape([batch, n_heads, 1, 1]);
            let decay = (dt.clone() * dual.a.clone().reshape([1, n_heads, 1, 1])).exp();
            let x = dual.x.clone().narrow(1, t, 1).reshape([batch, n_heads, 1, head_dim]);
            state = state.clone() * decay + heads(&dual.b, t) * x * dt;
            let y = (state.clone() * heads(&dual.c, t)).sum_dim(2);
            y.reshape([batch, 1, n_heads, head_dim])
        });
        Tensor::cat(outputs.collect(), 1)
    }

    #[test]
    fn chunks_give_what_single_tokens_give_for_any_length_and_grouping() {
        let device = Device::flex();
        for (seq, chunk_size, groups) in
            [(1, 4, 1), (4, 4, 2), (5, 4, 1), (13, 4, 4), (64, 256, 2), (65, 256, 1), (130, 64, 2)]
        {
            let random =
                |shape, low, high| Tensor::random(shape, Distribution::Uniform(low, high), &device);
            let dual = Dual {
                x: random([2, seq, 4, 3], -1.0, 1.0),
                dt: Tensor::random([2, seq, 4], Distribution::Uniform(0.0, 3.0), &device),
                a: Tensor::random([4], Distribution::Uniform(-20.0, -0.01), &device),
                b: random([2, seq, groups, 5], -1.0, 1.0),
                c: random([2, seq, groups, 5], -1.0, 1.0),
                chunk_size,
            };
            let expected = token_by_token(&dual);
            let worst: f32 = (state_space_dual(dual) - expected).abs().max().into_scalar();
            assert!(
                worst < 1e-4,
                "{seq} tokens in chunks of {chunk_size}, {groups} groups: {worst}"
            );
        }
    }
}
