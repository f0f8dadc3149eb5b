//! The recurrences of Mamba and Mamba-2, and the convolution in front of them.

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::Operators;

/// What follows the sum in [`causal_conv`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `y = x`.
    Identity,
    /// `y = x · sigmoid(x)`.
    Silu,
}

/// Constants of [`state_space_dual`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DualShape {
    /// Heads.
    pub n_heads: usize,
    /// Groups that share `b` and `c`; divides `n_heads`.
    pub n_groups: usize,
    /// Numbers of state per channel.
    pub d_state: usize,
    /// `Δ` is clamped to this range.
    pub dt_min: f32,
    /// See `dt_min`; may be infinite.
    pub dt_max: f32,
}

/// Convolves each channel along the sequence, causally, then applies the activation. Returns the output and the
/// state.
///
/// # Shapes
///
/// - `x`, output: `[rows, channels]`
/// - `weight`: `[d_conv, channels]`; the last row meets the newest token
/// - `bias`: `[channels]`
/// - `state`: `[d_conv - 1, channels]`, the last inputs, oldest first
///
/// # Panics
///
/// Panics if the shapes do not fit.
#[must_use]
pub fn causal_conv(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    state: Tensor<2>,
    activation: Activation,
) -> (Tensor<2>, Tensor<2>) {
    let ([_, channels], [d_conv, weight_channels]) = (x.dims(), weight.dims());
    assert_eq!(weight_channels, channels, "causal_conv: weight is [d_conv, channels]");
    assert!(d_conv > 1, "causal_conv: d_conv is at least 2");
    assert_eq!(
        state.dims(),
        [d_conv - 1, channels],
        "causal_conv: state is [d_conv - 1, channels]"
    );
    let (x, weight, state) = (x.into_dispatch(), weight.into_dispatch(), state.into_dispatch());
    let (out, state) = match bias {
        None => <Dispatch as Operators>::causal_conv_without_bias(x, weight, state, activation),
        Some(bias) => {
            assert_eq!(bias.dims(), [channels], "causal_conv: bias is [channels]");
            <Dispatch as Operators>::causal_conv_with_bias(
                x,
                weight,
                bias.into_dispatch(),
                state,
                activation,
            )
        }
    };
    (Tensor::from_dispatch(out), Tensor::from_dispatch(state))
}

/// Runs Mamba's selective scan (Gu & Dao 2023, equation 2 with the discretisation of section 3.2). Returns the output
/// and the state.
///
/// ```text
/// h   ← exp(Δ·a) ⊙ h + Δ·b·x        Δ = softplus(dt), a = -exp(a_log)
/// out = h·c + d ⊙ x
/// ```
///
/// # Shapes
///
/// - `x`, `dt`, output: `[rows, d_inner]`
/// - `bc`: `[rows, 2 · d_state]`: `b`, then `c`
/// - `a_log`: `[d_state, d_inner]`, transposed against most checkpoints, so that a lane is a channel
/// - `d`: `[d_inner]`
/// - `state`: `[d_state, d_inner]`
///
/// # Panics
///
/// Panics if the shapes do not fit.
#[must_use]
pub fn selective_scan(
    x: Tensor<2>,
    dt: Tensor<2>,
    bc: Tensor<2>,
    a_log: Tensor<2>,
    d: Tensor<1>,
    state: Tensor<2>,
) -> (Tensor<2>, Tensor<2>) {
    let ([rows, d_inner], [d_state, a_width]) = (x.dims(), a_log.dims());
    assert_eq!(a_width, d_inner, "selective_scan: a_log is [d_state, d_inner]");
    assert_eq!(dt.dims(), [rows, d_inner], "selective_scan: dt is [rows, d_inner]");
    assert_eq!(bc.dims(), [rows, 2 * d_state], "selective_scan: bc is [rows, 2 · d_state]");
    assert_eq!(d.dims(), [d_inner], "selective_scan: d is [d_inner]");
    assert_eq!(state.dims(), [d_state, d_inner], "selective_scan: state is [d_state, d_inner]");
    let (out, state) = <Dispatch as Operators>::selective_scan(
        x.into_dispatch(),
        dt.into_dispatch(),
        bc.into_dispatch(),
        a_log.into_dispatch(),
        d.into_dispatch(),
        state.into_dispatch(),
    );
    (Tensor::from_dispatch(out), Tensor::from_dispatch(state))
}

/// Runs Mamba-2's recurrence (Dao & Gu 2024, section 3): as [`selective_scan`] with one `a` per head, and `b`, `c`
/// shared by the heads of a group. Returns the output and the state.
///
/// ```text
/// Δ = clamp(softplus(dt + dt_bias), dt_min, dt_max), a = -exp(a_log)
/// ```
///
/// # Shapes
///
/// - `xbc`: `[rows, d_inner + 2 · n_groups · d_state]`: `x`, then `b`, then `c`
/// - `dt`: `[rows, n_heads]`
/// - `dt_bias`, `a_log`, `d`: `[n_heads]`
/// - `state`: `[n_heads · d_state, head_dim]`
/// - output: `[rows, d_inner]`, `d_inner = n_heads · head_dim`
///
/// # Panics
///
/// Panics if the shapes do not fit.
#[must_use]
pub fn state_space_dual(
    xbc: Tensor<2>,
    dt: Tensor<2>,
    dt_bias: Tensor<1>,
    a_log: Tensor<1>,
    d: Tensor<1>,
    state: Tensor<2>,
    shape: DualShape,
) -> (Tensor<2>, Tensor<2>) {
    let DualShape { n_heads, n_groups, d_state, .. } = shape;
    let ([rows, width], [state_rows, head_dim]) = (xbc.dims(), state.dims());
    assert!(
        n_groups > 0 && n_heads.is_multiple_of(n_groups),
        "state_space_dual: n_groups divides n_heads"
    );
    assert_eq!(
        state_rows,
        n_heads * d_state,
        "state_space_dual: state is [n_heads · d_state, head_dim]"
    );
    assert_eq!(
        width,
        n_heads * head_dim + 2 * n_groups * d_state,
        "state_space_dual: xbc is [rows, d_inner + 2 · n_groups · d_state]"
    );
    assert_eq!(dt.dims(), [rows, n_heads], "state_space_dual: dt is [rows, n_heads]");
    for (name, vector) in [("dt_bias", &dt_bias), ("a_log", &a_log), ("d", &d)] {
        assert_eq!(vector.dims(), [n_heads], "state_space_dual: {name} is [n_heads]");
    }
    let (out, state) = <Dispatch as Operators>::state_space_dual(
        xbc.into_dispatch(),
        dt.into_dispatch(),
        dt_bias.into_dispatch(),
        a_log.into_dispatch(),
        d.into_dispatch(),
        state.into_dispatch(),
        shape,
    );
    (Tensor::from_dispatch(out), Tensor::from_dispatch(state))
}
