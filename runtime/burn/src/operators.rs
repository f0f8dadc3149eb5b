//! The operators as one trait over backends: what [`crate::ops`] dispatches on.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};

use crate::ops::{Activation, AttentionShape, DualShape};

/// One function per operator of the Program, under its name. Shapes and formulas are documented in [`crate::ops`],
/// which is what models call.
///
/// An operand that may be missing makes two functions, because a dispatch over backends has no optional tensors.
#[backend_extension(Flex, NdArray: cfg(feature = "ndarray"), Capture)]
pub trait Operators: Backend {
    /// See [`crate::ops::embed`].
    fn embed(table: FloatTensor<Self>, tokens: IntTensor<Self>) -> FloatTensor<Self>;

    /// See [`crate::ops::rms_norm`].
    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        group: usize,
        eps: f32,
    ) -> FloatTensor<Self>;

    /// See [`crate::ops::linear`].
    fn linear_without_bias(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`crate::ops::linear`].
    fn linear_with_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// See [`crate::ops::add`].
    fn add(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`crate::ops::swiglu`].
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`crate::ops::silu`].
    fn silu(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`crate::ops::rope_angles`].
    fn rope_angles(
        inv_freq: FloatTensor<Self>,
        position: IntTensor<Self>,
        rows: usize,
    ) -> FloatTensor<Self>;

    /// See [`crate::ops::rope`].
    fn rope(x: FloatTensor<Self>, angles: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`crate::ops::attention`]. Returns the output and the two caches.
    fn attend(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        k_cache: FloatTensor<Self>,
        v_cache: FloatTensor<Self>,
        position: IntTensor<Self>,
        shape: AttentionShape,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// See [`crate::ops::causal_conv`]. Returns the output and the state.
    fn causal_conv_without_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        state: FloatTensor<Self>,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// See [`crate::ops::causal_conv`]. Returns the output and the state.
    fn causal_conv_with_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        state: FloatTensor<Self>,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// See [`crate::ops::selective_scan`]. Returns the output and the state.
    fn selective_scan(
        x: FloatTensor<Self>,
        dt: FloatTensor<Self>,
        bc: FloatTensor<Self>,
        a_log: FloatTensor<Self>,
        d: FloatTensor<Self>,
        state: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// See [`crate::ops::state_space_dual`]. Returns the output and the state.
    fn state_space_dual(
        xbc: FloatTensor<Self>,
        dt: FloatTensor<Self>,
        dt_bias: FloatTensor<Self>,
        a_log: FloatTensor<Self>,
        d: FloatTensor<Self>,
        state: FloatTensor<Self>,
        shape: DualShape,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// See [`crate::ops::gated_rms_norm`].
    fn gated_rms_norm(
        x: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        group: usize,
        eps: f32,
    ) -> FloatTensor<Self>;

    /// See [`crate::ops::select`].
    fn select_row(x: FloatTensor<Self>, row: usize) -> FloatTensor<Self>;
}
