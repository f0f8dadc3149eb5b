//! The selective scan over whole sequences.
//!
//! ```text
//! hₜ = exp(Δₜ·a) ⊙ hₜ₋₁ + bₜ · Δₜxₜ        yₜ = cₜ · hₜ
//! ```
//!
//! Source: Gu & Dao 2023, section 3.2. A sequence is cut into about as many chunks as each has tokens. All chunks run at
//! once, token by token, from a zero state; then the states at their ends are carried over, chunk by chunk; then every
//! token reads what its chunk started with. So a sequence takes `2·sqrt(seq)` steps of large tensors rather than `seq`
//! of small ones, and keeps a few times `seq · d_state · d_inner` numbers for the gradient, where a scan by doubling
//! keeps `log(seq)` times as many. Decays are exponentials of sums of `Δ·a ≤ 0`, never quotients.

use burn::tensor::Tensor;

/// Operands of [`selective_scan`].
#[derive(Debug)]
pub(super) struct Scan {
    /// `[batch, seq, d_inner]`.
    pub(super) x: Tensor<3>,
    /// Positive, `[batch, seq, d_inner]`.
    pub(super) dt: Tensor<3>,
    /// Negative, `[d_state, d_inner]`.
    pub(super) a: Tensor<2>,
    /// `[batch, seq, d_state]`.
    pub(super) b: Tensor<3>,
    /// `[batch, seq, d_state]`.
    pub(super) c: Tensor<3>,
}

/// Runs the recurrence from a zero state.
///
/// # Shapes
///
/// - returned: `[batch, seq, d_inner]`
pub(super) fn selective_scan(scan: Scan) -> Tensor<3> {
    let [batch, seq, d_inner] = scan.x.dims();
    let len = seq.isqrt().max(1);
    let chunks = seq.div_ceil(len);
    let cut = |x| cut(x, chunks, len);
    let dx = cut(scan.x * scan.dt.clone());
    let (dt, b, c) = (cut(scan.dt), cut(scan.b), cut(scan.c));
    let a = scan.a.unsqueeze::<3>();

    let (mut y, ends) = within(&dt, &dx, &a, &b, &c);
    if chunks > 1 {
        let sums = dt.cumsum(1);
        let starts = carry(ends, sums.clone().narrow(1, len - 1, 1), &a, chunks);
        y = y + read(&sums, &a, &c, starts);
    }
    y.reshape([batch, chunks * len, d_inner]).narrow(1, 0, seq)
}

/// Cuts `[batch, seq, width]` into `[batch · chunks, len, width]`. Tokens added at the end are zeros: they neither decay
/// nor add to a state.
fn cut(x: Tensor<3>, chunks: usize, len: usize) -> Tensor<3> {
    let [batch, seq, width] = x.dims();
    let missing = chunks * len - seq;
    let x = match missing {
        0 => x,
        _ => {
            let zeros = Tensor::zeros([batch, missing, width], &x.device());
            Tensor::cat(vec![x, zeros], 1)
        }
    };
    x.reshape([batch * chunks, len, width])
}

/// Runs every chunk from a zero state: outputs `[rows, len, d_inner]`, and states at the ends `[rows, d_state, d_inner]`.
fn within(
    dt: &Tensor<3>,
    dx: &Tensor<3>,
    a: &Tensor<3>,
    b: &Tensor<3>,
    c: &Tensor<3>,
) -> (Tensor<3>, Tensor<3>) {
    let [_, len, _] = dt.dims();
    let token = |x: &Tensor<3>, t| x.clone().narrow(1, t, 1);
    let added = |t| token(b, t).swap_dims(1, 2) * token(dx, t);
    let mut state = added(0);
    let mut outputs = vec![token(c, 0).matmul(state.clone())];
    for t in 1..len {
        state = state * (token(dt, t) * a.clone()).exp() + added(t);
        outputs.push(token(c, t).matmul(state.clone()));
    }
    (Tensor::cat(outputs, 1), state)
}

/// The state that each chunk starts with, `[batch · chunks, d_state, d_inner]`, from what each ends with by itself and
/// the sum of its time steps, `[batch · chunks, 1, d_inner]`.
fn carry(ends: Tensor<3>, totals: Tensor<3>, a: &Tensor<3>, chunks: usize) -> Tensor<3> {
    let [rows, d_state, d_inner] = ends.dims();
    let shape = [rows / chunks, chunks, d_state * d_inner];
    let decays = (totals * a.clone()).exp().reshape(shape);
    let ends = ends.reshape(shape);
    let chunk = |x: &Tensor<3>, index| x.clone().narrow(1, index, 1);
    let mut state = chunk(&ends, 0);
    let mut starts = vec![state.zeros_like(), state.clone()];
    for index in 1..chunks - 1 {
        state = state * chunk(&decays, index) + chunk(&ends, index);
        starts.push(state.clone());
    }
    Tensor::cat(starts, 1).reshape([rows, d_state, d_inner])
}

/// What every token reads of the state that its chunk started with, `[rows, len, d_inner]`.
///
/// # Shapes
///
/// - `sums`: `[rows, len, d_inner]`, time steps summed from the start of the chunk
/// - `starts`: `[rows, d_state, d_inner]`
fn read(sums: &Tensor<3>, a: &Tensor<3>, c: &Tensor<3>, starts: Tensor<3>) -> Tensor<3> {
    let [_, len, _] = sums.dims();
    let outputs = (0..len).map(|t| {
        let decay = (sums.clone().narrow(1, t, 1) * a.clone()).exp();
        c.clone().narrow(1, t, 1).matmul(decay * starts.clone())
    });
    Tensor::cat(outputs.collect(), 1)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution, Tensor};

    use super::{Scan, selective_scan};

    /// The recurrence as it is written, one token after the other.
    fn token_by_token(scan: Scan) -> Tensor<3> {
        let [batch, seq, d_inner] = scan.x.dims();
        let [d_state, _] = scan.a.dims();
        let mut state = Tensor::<3>::zeros([batch, d_state, d_inner], &scan.x.device());
        let outputs = (0..seq).map(|t| {
            let token = |x: &Tensor<3>| x.clone().narrow(1, t, 1);
            let decay = (token(&scan.dt) * scan.a.clone().unsqueeze()).exp();
            let added = token(&scan.b).swap_dims(1, 2) * (token(&scan.dt) * token(&scan.x));
            state = state.clone() * decay + added;
            (state.clone() * token(&scan.c).swap_dims(1, 2)).sum_dim(1)
        });
        Tensor::cat(outputs.collect(), 1)
    }

    fn scan(seq: usize) -> Scan {
        let device = Device::flex();
        let random =
            |shape, low, high| Tensor::random(shape, Distribution::Uniform(low, high), &device);
        Scan {
            x: random([2, seq, 6], -1.0, 1.0),
            dt: random([2, seq, 6], 0.0, 3.0),
            a: Tensor::random([5, 6], Distribution::Uniform(-20.0, -0.01), &device),
            b: random([2, seq, 5], -1.0, 1.0),
            c: random([2, seq, 5], -1.0, 1.0),
        }
    }

    #[test]
    fn chunks_give_what_single_tokens_give_for_any_length() {
        for seq in [1, 2, 3, 4, 5, 15, 16, 17, 60] {
            let scan = scan(seq);
            let again = Scan {
                x: scan.x.clone(),
                dt: scan.dt.clone(),
                a: scan.a.clone(),
                b: scan.b.clone(),
                c: scan.c.clone(),
            };
            let worst: f32 =
                (selective_scan(scan) - token_by_token(again)).abs().max().into_scalar();
            assert!(worst < 1e-5, "{seq} tokens: {worst}");
        }
    }
}
