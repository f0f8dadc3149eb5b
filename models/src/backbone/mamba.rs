//! Mamba (Gu & Dao 2023).

mod mixer;
mod scan;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};

use super::{Residuals, head};
use crate::config::MambaConfig;
use crate::layers::{Embedding, Init, Linear, RmsNorm};
use crate::step::{States, Step, StepOutput};

pub use mixer::MambaMixer;

/// A stack of Mamba layers between a token table and a head.
#[derive(Module, Debug)]
pub struct Mamba {
    /// `[vocab_size, d_model]`.
    pub embeddings: Embedding,
    /// The layers, first to last.
    pub layers: Vec<MambaLayer>,
    /// Before the head.
    pub norm_f: RmsNorm,
    /// `[vocab_size, d_model]`; `None` when the token table is the head.
    pub lm_head: Option<Linear>,
}

impl Mamba {
    /// Makes a model whose parameters are drawn at their first use.
    #[must_use]
    pub fn new(config: &MambaConfig, device: &Device) -> Self {
        let init = Init::Normal { std: config.init_std };
        let (vocab_size, d_model) = (config.vocab_size, config.d_model);
        Self {
            embeddings: Embedding::new(vocab_size, d_model, init, device),
            layers: (0..config.n_layers).map(|_| MambaLayer::new(config, device)).collect(),
            norm_f: RmsNorm::new(d_model, config.norm_eps, device),
            lm_head: (!config.is_tied).then(|| Linear::new(d_model, vocab_size, init, device)),
        }
    }

    /// Scores every next token after every token: `[batch, seq]` to `[batch, seq, vocab_size]`.
    #[must_use]
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let x = self.embeddings.forward(tokens);
        let x = self.layers.iter().fold(x, |x, layer| layer.forward(x));
        self.logits(self.norm_f.forward(x))
    }

    /// Runs all layers over `[batch, seq]` tokens, and keeps the residual stream after each.
    #[must_use]
    pub fn residuals(&self, tokens: Tensor<2, Int>) -> Residuals {
        let embeddings = self.embeddings.forward(tokens);
        let mut x = embeddings.clone();
        let layers = self.layers.iter().map(|layer| {
            x = layer.forward(x.clone());
            x.clone()
        });
        let layers = layers.collect();
        Residuals { embeddings, layers, normed: self.norm_f.forward(x) }
    }

    /// Scores every next token: `[batch, seq, d_model]` to `[batch, seq, vocab_size]`.
    #[must_use]
    pub fn logits(&self, normed: Tensor<3>) -> Tensor<3> {
        head::logits(self.lm_head.as_ref(), &self.embeddings, normed)
    }
}

impl Step for Mamba {
    fn states(&self, _capacity: usize, device: &Device) -> States {
        let mut states = States::new();
        for layer in &self.layers {
            layer.mixer.add_states(&mut states, device);
        }
        states
    }

    fn step(
        &self,
        tokens: Tensor<1, Int>,
        _position: Tensor<1, Int>,
        mut states: States,
    ) -> StepOutput {
        let mut x = self.embeddings.step(tokens);
        let residuals = self.layers.iter().map(|layer| {
            x = layer.mixer.step(layer.norm.step(x.clone()), &mut states) + x.clone();
            x.clone()
        });
        let residuals = residuals.collect();
        let logits = head::step(&self.norm_f, self.lm_head.as_ref(), &self.embeddings, x);
        StepOutput { residuals, logits, exits: Vec::new(), states: states.finish() }
    }
}

/// One layer: a mixer behind a norm, added to the residual stream.
#[derive(Module, Debug)]
pub struct MambaLayer {
    /// Before the mixer.
    pub norm: RmsNorm,
    /// Mixes tokens and channels.
    pub mixer: MambaMixer,
}

impl MambaLayer {
    /// Makes a layer.
    #[must_use]
    pub fn new(config: &MambaConfig, device: &Device) -> Self {
        Self {
            norm: RmsNorm::new(config.d_model, config.norm_eps, device),
            mixer: MambaMixer::new(config, device),
        }
    }

    /// Maps `[batch, seq, d_model]` to the same shape.
    #[must_use]
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.mixer.forward(self.norm.forward(x.clone())) + x
    }
}
