//! Operators that treat every row alike: lookup, projection, sums and gates.

use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor};

use crate::Operators;

/// Looks up the embedding of each token: `out[r] = table[tokens[r]]`.
///
/// # Shapes
///
/// - `table`: `[vocab_size, d_model]`
/// - `tokens`: `[rows]`
/// - result: `[rows, d_model]`
///
/// # Panics
///
/// Panics if a token is not in the table.
#[must_use]
pub fn embed(table: Tensor<2>, tokens: Tensor<1, Int>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as Operators>::embed(
        table.into_dispatch(),
        tokens.into_dispatch(),
    ))
}

/// Projects each row: `out = x · weightᵀ + bias`.
///
/// # Shapes
///
/// - `x`: `[rows, d_in]`
/// - `weight`: `[d_out, d_in]`, a row per output
/// - `bias`: `[d_out]`
/// - result: `[rows, d_out]`
///
/// # Panics
///
/// Panics if the shapes do not fit.
#[must_use]
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let ([_, d_in], [d_out, weight_d_in]) = (x.dims(), weight.dims());
    assert_eq!(weight_d_in, d_in, "linear: weight is [d_out, d_in]");
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        None => <Dispatch as Operators>::linear_without_bias(x, weight),
        Some(bias) => {
            assert_eq!(bias.dims(), [d_out], "linear: bias is [d_out]");
            <Dispatch as Operators>::linear_with_bias(x, weight, bias.into_dispatch())
        }
    })
}

/// Adds: `out = a + b`, the residual connection.
///
/// # Shapes
///
/// - `a`, `b`, result: `[rows, width]`
///
/// # Panics
///
/// Panics if the shapes differ.
#[must_use]
pub fn add(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    assert_eq!(a.dims(), b.dims(), "add: a and b are [rows, width]");
    Tensor::from_dispatch(<Dispatch as Operators>::add(a.into_dispatch(), b.into_dispatch()))
}

/// Gates: `out = silu(gate) ⊙ up` (Shazeer 2020, "GLU variants improve transformer").
///
/// # Shapes
///
/// - `gate`, `up`, result: `[rows, width]`
///
/// # Panics
///
/// Panics if the shapes differ.
#[must_use]
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    assert_eq!(gate.dims(), up.dims(), "swiglu: gate and up are [rows, width]");
    Tensor::from_dispatch(<Dispatch as Operators>::swiglu(gate.into_dispatch(), up.into_dispatch()))
}

/// `out = x · sigmoid(x)`.
///
/// # Shapes
///
/// - `x`, result: `[rows, width]`
#[must_use]
pub fn silu(x: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as Operators>::silu(x.into_dispatch()))
}

/// Takes the row whose logits are wanted: `out = x[row]`. Everything behind it belongs to the head.
///
/// A step takes the last row. In the deployed Program the executor chooses, which is why this is not a slice.
///
/// # Shapes
///
/// - `x`: `[rows, width]`
/// - result: `[1, width]`
///
/// # Panics
///
/// Panics if there is no such row.
#[must_use]
pub fn select(x: Tensor<2>, row: usize) -> Tensor<2> {
    assert!(row < x.dims()[0], "select: row out of range");
    Tensor::from_dispatch(<Dispatch as Operators>::select_row(x.into_dispatch(), row))
}
