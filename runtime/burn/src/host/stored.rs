//! Operators on weights as a bundle stores them: the kernel reads them where they lie.

use std::borrow::Cow;

use burn::backend::tensor::FloatTensor;
use dynamax_kernels::format::PANEL;
use dynamax_kernels::view::{ColumnsMut, Rows};
use dynamax_kernels::{Input, Isa, Matrix, QuantizedRows};

use super::share::{pieces, share};
use crate::stored::MatrixShape;

/// Views stored bytes as a matrix.
///
/// # Panics
///
/// Panics if they have another length or alignment.
fn matrix(bytes: &[u8], shape: MatrixShape) -> Matrix<'_> {
    let MatrixShape { format, d_out, d_in } = shape;
    Matrix::new(format, d_out, d_in, bytes).unwrap_or_else(|error| panic!("stored weight: {error}"))
}

/// Looks up rows of a table.
pub(super) fn embed(table: &[u8], shape: MatrixShape, tokens: &[i64]) -> Vec<f32> {
    let table = matrix(table, shape);
    let mut out = vec![0.0; tokens.len() * shape.d_in];
    for (out, &token) in out.chunks_exact_mut(shape.d_in).zip(tokens) {
        let row = usize::try_from(token).unwrap_or_else(|_| panic!("token {token} is not an id"));
        table.row_into(row, out);
    }
    out
}

/// Multiplies a stored matrix with rows, on all threads of the pool.
pub(super) fn linear(
    x: Rows<'_>,
    weight: &[u8],
    shape: MatrixShape,
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let (isa, matrix, d_out) = (Isa::detect(), matrix(weight, shape), shape.d_out);
    let quantized = if shape.format.is_quantized() { quantize(x) } else { Cow::Borrowed(&[][..]) };
    let input = if shape.format.is_quantized() {
        Input::Quantized(QuantizedRows::new(bytemuck::cast_slice(&quantized), x.len(), x.width()))
    } else {
        Input::F32(x)
    };
    let mut out = vec![0.0; x.len() * d_out];
    share(
        0..matrix.panels(),
        pieces(weight.len() * x.len()),
        ColumnsMut::new(&mut out, x.len(), d_out, d_out),
        &|out, panels| out.split_at(panels * PANEL),
        &|panels, mut out| isa.linear(matrix, input, bias, panels, &mut out),
    );
    out
}

/// Rows as int8 blocks; in words, so that they are aligned.
fn quantize(x: Rows<'_>) -> Cow<'static, [u32]> {
    let row_words = QuantizedRows::row_bytes(x.width()) / size_of::<u32>();
    let mut words = vec![0; x.len() * row_words];
    for (row, words) in words.chunks_exact_mut(row_words).enumerate() {
        Isa::detect().quantize_row(x.row(row), bytemuck::cast_slice_mut(words));
    }
    Cow::Owned(words)
}

/// The answered rows of a recurrence, and its state.
pub(super) fn answer<B: super::Host>(
    out: Vec<f32>,
    width: usize,
    state: Vec<f32>,
    dims: [usize; 2],
) -> (FloatTensor<B>, FloatTensor<B>) {
    let rows = out.len() / width;
    (B::tensor(out, [rows, width]), B::tensor(state, dims))
}

/// Implements [`StoredOperators`](crate::stored::StoredOperators) for a CPU backend.
macro_rules! implement_stored {
    ($backend:ty) => {
        impl crate::stored::StoredOperators for $backend {
            fn embed_stored(
                table: IntTensor<Self>,
                tokens: IntTensor<Self>,
                shape: MatrixShape,
            ) -> FloatTensor<Self> {
                let tokens = Self::integers(tokens);
                let out = stored::embed(Self::bytes(&table), shape, &tokens);
                Self::tensor(out, [tokens.len(), shape.d_in])
            }

            fn linear_stored(
                x: FloatTensor<Self>,
                weight: IntTensor<Self>,
                shape: MatrixShape,
            ) -> FloatTensor<Self> {
                let x = Operand::of::<Self>(&x);
                let out = stored::linear(x.rows(), Self::bytes(&weight), shape, None);
                Self::tensor(out, [x.dims[0], shape.d_out])
            }

            fn linear_stored_with_bias(
                x: FloatTensor<Self>,
                weight: IntTensor<Self>,
                bias: FloatTensor<Self>,
                shape: MatrixShape,
            ) -> FloatTensor<Self> {
                let [x, bias] = [&x, &bias].map(Operand::of::<Self>);
                let bias = Some(&*bias.numbers);
                let out = stored::linear(x.rows(), Self::bytes(&weight), shape, bias);
                Self::tensor(out, [x.dims[0], shape.d_out])
            }

            fn attend_halves(
                q: FloatTensor<Self>,
                k: FloatTensor<Self>,
                v: FloatTensor<Self>,
                k_cache: IntTensor<Self>,
                v_cache: IntTensor<Self>,
                at: IntTensor<Self>,
                shape: AttentionShape,
            ) -> (FloatTensor<Self>, IntTensor<Self>, IntTensor<Self>) {
                let (dims, at) = (dims(&k_cache), position::<Self>(at));
                let caches = [k_cache, v_cache].map(Self::into_halves);
                let [q, k, v] = [&q, &k, &v].map(Operand::of::<Self>);
                let (out, [k_cache, v_cache]) =
                    kernels::attention([q.rows(), k.rows(), v.rows()], caches, dims[0], at, shape);
                (
                    Self::tensor(out, q.dims),
                    Self::halves(k_cache, dims),
                    Self::halves(v_cache, dims),
                )
            }

            fn append(
                x: FloatTensor<Self>,
                cache: FloatTensor<Self>,
                at: IntTensor<Self>,
                n_kv_heads: usize,
            ) -> FloatTensor<Self> {
                let (dims, at) = (dims(&cache), position::<Self>(at));
                let (x, cache) = (Operand::of::<Self>(&x), Self::into_floats(cache));
                Self::tensor(kernels::append(x.rows(), cache, at, n_kv_heads), dims)
            }

            fn append_halves(
                x: FloatTensor<Self>,
                cache: IntTensor<Self>,
                at: IntTensor<Self>,
                n_kv_heads: usize,
            ) -> IntTensor<Self> {
                let (dims, at) = (dims(&cache), position::<Self>(at));
                let (x, cache) = (Operand::of::<Self>(&x), Self::into_halves(cache));
                Self::halves(kernels::append(x.rows(), cache, at, n_kv_heads), dims)
            }

            fn causal_conv_stored(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                state: FloatTensor<Self>,
                activation: Activation,
                span: Span,
            ) -> (FloatTensor<Self>, FloatTensor<Self>) {
                let (dims, state) = (dims(&state), Self::into_floats(state));
                let [x, weight] = [&x, &weight].map(Operand::of::<Self>);
                let how = (span, activation);
                let (out, state) = kernels::causal_conv(x.rows(), weight.rows(), None, state, how);
                stored::answer::<Self>(out, x.dims[1], state, dims)
            }

            fn causal_conv_stored_with_bias(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                state: FloatTensor<Self>,
                activation: Activation,
                span: Span,
            ) -> (FloatTensor<Self>, FloatTensor<Self>) {
                let (dims, state) = (dims(&state), Self::into_floats(state));
                let [x, weight, bias] = [&x, &weight, &bias].map(Operand::of::<Self>);
                let (bias, how) = (Some(&*bias.numbers), (span, activation));
                let (out, state) = kernels::causal_conv(x.rows(), weight.rows(), bias, state, how);
                stored::answer::<Self>(out, x.dims[1], state, dims)
            }

            fn selective_scan_stored(
                x: FloatTensor<Self>,
                dt: FloatTensor<Self>,
                bc: FloatTensor<Self>,
                a: FloatTensor<Self>,
                d: FloatTensor<Self>,
                state: FloatTensor<Self>,
                span: Span,
            ) -> (FloatTensor<Self>, FloatTensor<Self>) {
                let (dims, state) = (dims(&state), Self::into_floats(state));
                let [x, dt, bc, a, d] = [&x, &dt, &bc, &a, &d].map(Operand::of::<Self>);
                let operands = [x.rows(), dt.rows(), bc.rows(), a.rows()];
                let (out, state) = kernels::selective_scan(operands, &d.numbers, state, span);
                stored::answer::<Self>(out, x.dims[1], state, dims)
            }

            fn state_space_dual_stored(
                xbc: FloatTensor<Self>,
                dt: FloatTensor<Self>,
                dt_bias: FloatTensor<Self>,
                a: FloatTensor<Self>,
                d: FloatTensor<Self>,
                state: FloatTensor<Self>,
                how: (DualShape, Span),
            ) -> (FloatTensor<Self>, FloatTensor<Self>) {
                let (shape, span) = how;
                let (dims, state) = (dims(&state), Self::into_floats(state));
                let [xbc, dt, dt_bias, a, d] =
                    [&xbc, &dt, &dt_bias, &a, &d].map(Operand::of::<Self>);
                let (per_head, how) =
                    ([&*dt_bias.numbers, &*a.numbers, &*d.numbers], (span, shape));
                let (out, state) =
                    kernels::state_space_dual(xbc.rows(), dt.rows(), per_head, state, how);
                stored::answer::<Self>(out, shape.n_heads * dims[1], state, dims)
            }
        }
    };
}
pub(super) use implement_stored;
