//! The token table, and its second use as the head.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor};
use dynamax_burn::ops;

use super::Init;

/// One row of numbers per token.
///
/// # Shapes
///
/// - `weight`: `[vocab_size, d_model]`
#[derive(Module, Debug)]
pub struct Embedding {
    /// `[vocab_size, d_model]`.
    pub weight: Param<Tensor<2>>,
}

impl Embedding {
    /// Makes a table drawn from `init`.
    #[must_use]
    pub fn new(vocab_size: usize, d_model: usize, init: Init, device: &Device) -> Self {
        Self { weight: init.param([vocab_size, d_model], device) }
    }

    /// Looks tokens up: `y[b, t] = weight[tokens[b, t]]`.
    ///
    /// # Shapes
    ///
    /// - `tokens`: `[batch, seq]`, each smaller than `vocab_size`
    /// - returned: `[batch, seq, d_model]`
    #[must_use]
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        burn::tensor::module::embedding(self.weight.val(), tokens)
    }

    /// Scores every token: `y = x · weightᵀ`, the head of a model whose table is tied.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, seq, d_model]`
    /// - returned: `[batch, seq, vocab_size]`
    #[must_use]
    pub fn logits(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, seq, d_model] = x.dims();
        let weight = self.weight.val();
        let [vocab_size, _] = weight.dims();
        x.reshape([batch * seq, d_model])
            .matmul(weight.transpose())
            .reshape([batch, seq, vocab_size])
    }

    /// Looks tokens up as deployed: `[rows]` to `[rows, d_model]`.
    #[must_use]
    pub fn step(&self, tokens: Tensor<1, Int>) -> Tensor<2> {
        ops::embed(self.weight.val(), tokens)
    }

    /// Scores every token as deployed: `[rows, d_model]` to `[rows, vocab_size]`.
    #[must_use]
    pub fn step_logits(&self, x: Tensor<2>) -> Tensor<2> {
        ops::linear(x, self.weight.val(), None)
    }
}
