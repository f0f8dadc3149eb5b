//! From the residual stream to scores of tokens: a norm, then a matrix of its own or the token table again.

use burn::tensor::Tensor;
use dynamax_burn::ops;

use crate::layers::{Embedding, Linear, RmsNorm};

/// Scores every next token.
///
/// # Shapes
///
/// - `normed`: `[batch, seq, d_model]`
/// - returned: `[batch, seq, vocab_size]`
pub(super) fn logits(head: Option<&Linear>, table: &Embedding, normed: Tensor<3>) -> Tensor<3> {
    match head {
        Some(head) => head.forward(normed),
        None => table.logits(normed),
    }
}

/// Scores the token that follows the last row, as deployed.
///
/// # Shapes
///
/// - `residual`: `[rows, d_model]`
/// - returned: `[1, vocab_size]`
pub(super) fn step(
    norm: &RmsNorm,
    head: Option<&Linear>,
    table: &Embedding,
    residual: Tensor<2>,
) -> Tensor<2> {
    let last = residual.dims()[0] - 1;
    step_row(norm, head, table, ops::select(residual, last))
}

/// Scores the token that follows a row, as deployed.
///
/// # Shapes
///
/// - `row`: `[1, d_model]`
/// - returned: `[1, vocab_size]`
pub(super) fn step_row(
    norm: &RmsNorm,
    head: Option<&Linear>,
    table: &Embedding,
    row: Tensor<2>,
) -> Tensor<2> {
    let normed = norm.step(row);
    match head {
        Some(head) => head.step(normed),
        None => table.step_logits(normed),
    }
}
