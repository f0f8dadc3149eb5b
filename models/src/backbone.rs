//! The backbones: what is trained, and what is deployed.
//!
//! Each is a Burn module whose parameters are named as in Hugging Face's checkpoints, without the outermost prefix.
//! `forward` takes whole sequences through plain differentiable Burn: for training, and as the reference of everything
//! else. [`Step::step`] takes some rows through the operators that devices have: it is what is captured.

mod head;
mod mamba;
mod mamba2;
mod time_step;
mod transformer;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};

use crate::config::Config;
use crate::layers::{Embedding, RmsNorm};
use crate::step::{States, Step, StepOutput};

pub use mamba::{Mamba, MambaLayer, MambaMixer};
pub use mamba2::{Mamba2, Mamba2Layer, Mamba2Mixer};
pub use transformer::{Attention, FeedForward, Transformer, TransformerLayer, inv_freq};

/// The residual stream on its way through a backbone, each `[batch, seq, d_model]`.
#[derive(Clone, Debug)]
pub struct Residuals {
    /// Before the first layer: the rows of the token table.
    pub embeddings: Tensor<3>,
    /// After each layer.
    pub layers: Vec<Tensor<3>>,
    /// After the last layer and the final norm: what the head sees.
    pub normed: Tensor<3>,
}

/// What a layer makes of a residual stream, `[batch, seq, d_model]`.
pub type Layer<'l> = &'l dyn Fn(Tensor<3>) -> Tensor<3>;

/// Any backbone.
#[derive(Module, Debug)]
pub enum Backbone {
    /// Llama, Mistral, Qwen 2, Qwen 3.
    Transformer(Transformer),
    /// Mamba.
    Mamba(Mamba),
    /// Mamba-2.
    Mamba2(Mamba2),
}

impl Backbone {
    /// Makes a backbone whose parameters are drawn at their first use.
    #[must_use]
    pub fn new(config: &Config, device: &Device) -> Self {
        match config {
            Config::Transformer(config) => Self::Transformer(Transformer::new(config, device)),
            Config::Mamba(config) => Self::Mamba(Mamba::new(config, device)),
            Config::Mamba2(config) => Self::Mamba2(Mamba2::new(config, device)),
        }
    }

    /// Scores every next token after every token.
    ///
    /// # Shapes
    ///
    /// - `tokens`: `[batch, seq]`
    /// - returned: `[batch, seq, vocab_size]`
    #[must_use]
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        match self {
            Self::Transformer(model) => model.forward(tokens),
            Self::Mamba(model) => model.forward(tokens),
            Self::Mamba2(model) => model.forward(tokens),
        }
    }

    /// Runs all layers, and keeps the residual stream after each.
    ///
    /// # Shapes
    ///
    /// - `tokens`: `[batch, seq]`
    #[must_use]
    pub fn residuals(&self, tokens: Tensor<2, Int>) -> Residuals {
        match self {
            Self::Transformer(model) => model.residuals(tokens),
            Self::Mamba(model) => model.residuals(tokens),
            Self::Mamba2(model) => model.residuals(tokens),
        }
    }

    /// Runs the layers one after the other: `each` gets the number of a layer, the residual stream before it, and the
    /// layer itself, and says what the residual stream behind it is. Returns that behind the last, before the final
    /// norm.
    ///
    /// # Shapes
    ///
    /// - `tokens`: `[batch, seq]`
    /// - a residual stream, and returned: `[batch, seq, d_model]`
    pub fn walk(
        &self,
        tokens: Tensor<2, Int>,
        mut each: impl FnMut(usize, Tensor<3>, Layer<'_>) -> Tensor<3>,
    ) -> Tensor<3> {
        match self {
            Self::Transformer(model) => model.walk(tokens, each),
            Self::Mamba(model) => {
                let layers = model.layers.iter().enumerate();
                let x = model.embeddings.forward(tokens);
                layers.fold(x, |x, (index, layer)| each(index, x, &|x| layer.forward(x)))
            }
            Self::Mamba2(model) => {
                let layers = model.layers.iter().enumerate();
                let x = model.embeddings.forward(tokens);
                layers.fold(x, |x, (index, layer)| each(index, x, &|x| layer.forward(x)))
            }
        }
    }

    /// Scores every next token from a normed residual stream.
    ///
    /// # Shapes
    ///
    /// - `normed`: `[batch, seq, d_model]`
    /// - returned: `[batch, seq, vocab_size]`
    #[must_use]
    pub fn logits(&self, normed: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Transformer(model) => model.logits(normed),
            Self::Mamba(model) => model.logits(normed),
            Self::Mamba2(model) => model.logits(normed),
        }
    }

    /// Applies the final norm: with [`logits`](Self::logits), what an exit after any layer would say.
    ///
    /// # Shapes
    ///
    /// - `residual`, and returned: `[batch, seq, d_model]`
    #[must_use]
    pub fn final_norm(&self, residual: Tensor<3>) -> Tensor<3> {
        self.norm().forward(residual)
    }

    /// The final norm.
    pub(crate) fn norm(&self) -> &RmsNorm {
        match self {
            Self::Transformer(model) => &model.norm,
            Self::Mamba(model) => &model.norm_f,
            Self::Mamba2(model) => &model.norm_f,
        }
    }

    /// Scores the token that follows a row of the residual stream, as deployed: the head of an exit.
    ///
    /// # Shapes
    ///
    /// - `row`: `[1, d_model]`
    /// - returned: `[1, vocab_size]`
    #[must_use]
    pub fn step_head(&self, row: Tensor<2>) -> Tensor<2> {
        let (norm, head) = match self {
            Self::Transformer(model) => (&model.norm, &model.lm_head),
            Self::Mamba(model) => (&model.norm_f, &model.lm_head),
            Self::Mamba2(model) => (&model.norm_f, &model.lm_head),
        };
        head::step_row(norm, head.as_ref(), self.table(), row)
    }

    /// The matrix of the head, which may be the token table, `[vocab_size, d_model]`.
    #[must_use]
    pub fn head(&self) -> Tensor<2> {
        let head = match self {
            Self::Transformer(model) => &model.lm_head,
            Self::Mamba(model) => &model.lm_head,
            Self::Mamba2(model) => &model.lm_head,
        };
        head.as_ref().map_or_else(|| self.table().weight.val(), |head| head.weight.val())
    }

    /// Layers.
    #[must_use]
    pub fn n_layers(&self) -> usize {
        match self {
            Self::Transformer(model) => model.layers.len(),
            Self::Mamba(model) => model.layers.len(),
            Self::Mamba2(model) => model.layers.len(),
        }
    }

    /// Tokens in the table.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.table().weight.lazy_shape()[0]
    }

    /// Where the parameters are.
    #[must_use]
    pub fn device(&self) -> Device {
        self.table().weight.lazy_device()
    }

    fn table(&self) -> &Embedding {
        match self {
            Self::Transformer(model) => &model.embed_tokens,
            Self::Mamba(model) => &model.embeddings,
            Self::Mamba2(model) => &model.embeddings,
        }
    }
}

impl Step for Backbone {
    fn states(&self, capacity: usize, device: &Device) -> States {
        match self {
            Self::Transformer(model) => model.states(capacity, device),
            Self::Mamba(model) => model.states(capacity, device),
            Self::Mamba2(model) => model.states(capacity, device),
        }
    }

    fn step(&self, tokens: Tensor<1, Int>, position: Tensor<1, Int>, states: States) -> StepOutput {
        match self {
            Self::Transformer(model) => model.step(tokens, position, states),
            Self::Mamba(model) => model.step(tokens, position, states),
            Self::Mamba2(model) => model.step(tokens, position, states),
        }
    }
}
