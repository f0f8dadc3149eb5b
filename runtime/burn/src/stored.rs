//! Operators on weights as a bundle stores them, as one trait over backends.
//!
//! A weight is an integer tensor of its bytes: mapped, packed in panels, quantized or not. No backend ever unpacks one as
//! a whole. Caches of halves are integer tensors of their bits, because not every backend has 16-bit floats. A state goes
//! in and comes out; a backend updates it in place where nobody else holds it.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};
use dynamax_kernels::Format;
use dynamax_kernels::ops::Span;

use crate::ops::{Activation, AttentionShape, DualShape};

/// What the bytes of a stored matrix are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixShape {
    /// How a weight is stored.
    pub format: Format,
    /// Output rows.
    pub d_out: usize,
    /// Inputs of a row.
    pub d_in: usize,
}

/// The operators that differ from those of [`Operators`](crate::Operators) because a bundle stores what they read.
///
/// # Shapes
///
/// As those in [`crate::ops`], except
///
/// - `table`, `weight`: `[bytes]` u8
/// - `k_cache`, `v_cache` of halves: `[capacity, n_kv_heads · head_dim]` u16
/// - `a`: negative, in place of `a_log`
#[backend_extension(Flex, NdArray: cfg(feature = "ndarray"))]
pub trait StoredOperators: Backend {
    /// See [`crate::ops::embed`].
    fn embed_stored(
        table: IntTensor<Self>,
        tokens: IntTensor<Self>,
        shape: MatrixShape,
    ) -> FloatTensor<Self>;

    /// See [`crate::ops::linear`].
    fn linear_stored(
        x: FloatTensor<Self>,
        weight: IntTensor<Self>,
        shape: MatrixShape,
    ) -> FloatTensor<Self>;

    /// See [`crate::ops::linear`].
    fn linear_stored_with_bias(
        x: FloatTensor<Self>,
        weight: IntTensor<Self>,
        bias: FloatTensor<Self>,
        shape: MatrixShape,
    ) -> FloatTensor<Self>;

    /// See [`crate::ops::attention`].
    fn attend_halves(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        k_cache: IntTensor<Self>,
        v_cache: IntTensor<Self>,
        position: IntTensor<Self>,
        shape: AttentionShape,
    ) -> (FloatTensor<Self>, IntTensor<Self>, IntTensor<Self>);

    /// Appends rows to a cache without attending.
    fn append(
        x: FloatTensor<Self>,
        cache: FloatTensor<Self>,
        position: IntTensor<Self>,
        n_kv_heads: usize,
    ) -> FloatTensor<Self>;

    /// Appends rows to a cache of halves without attending.
    fn append_halves(
        x: FloatTensor<Self>,
        cache: IntTensor<Self>,
        position: IntTensor<Self>,
        n_kv_heads: usize,
    ) -> IntTensor<Self>;

    /// See [`crate::ops::causal_conv`]; of some rows, as the span says.
    fn causal_conv_stored(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        state: FloatTensor<Self>,
        activation: Activation,
        span: Span,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// See [`crate::ops::causal_conv`]; of some rows, as the span says.
    fn causal_conv_stored_with_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        state: FloatTensor<Self>,
        activation: Activation,
        span: Span,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// See [`crate::ops::selective_scan`]; of some rows, as the span says.
    fn selective_scan_stored(
        x: FloatTensor<Self>,
        dt: FloatTensor<Self>,
        bc: FloatTensor<Self>,
        a: FloatTensor<Self>,
        d: FloatTensor<Self>,
        state: FloatTensor<Self>,
        span: Span,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// See [`crate::ops::state_space_dual`]; of some rows, as the span says.
    fn state_space_dual_stored(
        xbc: FloatTensor<Self>,
        dt: FloatTensor<Self>,
        dt_bias: FloatTensor<Self>,
        a: FloatTensor<Self>,
        d: FloatTensor<Self>,
        state: FloatTensor<Self>,
        how: (DualShape, Span),
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}
