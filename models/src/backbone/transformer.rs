//! Llama, Mistral, Qwen 2 and Qwen 3: one architecture with a few switches.

mod attention;
mod feed_forward;
mod rope;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use dynamax_burn::ops;

use super::{Layer, Residuals, head};
use crate::config::TransformerConfig;
use crate::layers::{Embedding, Init, Linear, RmsNorm};
use crate::step::{States, Step, StepOutput};

pub use attention::Attention;
pub use feed_forward::FeedForward;
pub use rope::inv_freq;

use rope::Angles;

/// A decoder-only transformer with rotary positions, grouped queries and gated feed-forward layers.
#[derive(Module, Debug)]
pub struct Transformer {
    /// `[vocab_size, d_model]`.
    pub embed_tokens: Embedding,
    /// The layers, first to last.
    pub layers: Vec<TransformerLayer>,
    /// Before the head.
    pub norm: RmsNorm,
    /// `[vocab_size, d_model]`; `None` when the token table is the head.
    pub lm_head: Option<Linear>,
    /// Turns a position into angles, `[head_dim / 2]`: a constant.
    #[module(skip)]
    pub inv_freq: Vec<f32>,
}

impl Transformer {
    /// Makes a transformer whose parameters are drawn at their first use.
    #[must_use]
    pub fn new(config: &TransformerConfig, device: &Device) -> Self {
        let init = Init::Normal { std: config.init_std };
        let (vocab_size, d_model) = (config.vocab_size, config.d_model);
        Self {
            embed_tokens: Embedding::new(vocab_size, d_model, init, device),
            layers: (0..config.n_layers)
                .map(|index| TransformerLayer::new(config, index, device))
                .collect(),
            norm: RmsNorm::new(d_model, config.norm_eps, device),
            lm_head: (!config.is_tied).then(|| Linear::new(d_model, vocab_size, init, device)),
            inv_freq: inv_freq(config),
        }
    }

    /// Scores every next token after every token: `[batch, seq]` to `[batch, seq, vocab_size]`.
    #[must_use]
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let angles = self.angles(&tokens);
        let x = self.embed_tokens.forward(tokens);
        let x = self.layers.iter().fold(x, |x, layer| layer.forward(x, &angles));
        self.logits(self.norm.forward(x))
    }

    /// Runs all layers over `[batch, seq]` tokens, and keeps the residual stream after each.
    #[must_use]
    pub fn residuals(&self, tokens: Tensor<2, Int>) -> Residuals {
        let angles = self.angles(&tokens);
        let embeddings = self.embed_tokens.forward(tokens);
        let mut x = embeddings.clone();
        let layers = self.layers.iter().map(|layer| {
            x = layer.forward(x.clone(), &angles);
            x.clone()
        });
        let layers = layers.collect();
        Residuals { embeddings, layers, normed: self.norm.forward(x) }
    }

    /// Runs the layers one after the other, as [`Backbone::walk`](super::Backbone::walk) says.
    pub(super) fn walk(
        &self,
        tokens: Tensor<2, Int>,
        mut each: impl FnMut(usize, Tensor<3>, Layer<'_>) -> Tensor<3>,
    ) -> Tensor<3> {
        let angles = self.angles(&tokens);
        let layers = self.layers.iter().enumerate();
        let x = self.embed_tokens.forward(tokens);
        layers.fold(x, |x, (index, layer)| each(index, x, &|x| layer.forward(x, &angles)))
    }

    /// Scores every next token: `[batch, seq, d_model]` to `[batch, seq, vocab_size]`.
    #[must_use]
    pub fn logits(&self, normed: Tensor<3>) -> Tensor<3> {
        head::logits(self.lm_head.as_ref(), &self.embed_tokens, normed)
    }

    fn angles(&self, tokens: &Tensor<2, Int>) -> Angles {
        Angles::new(&self.inv_freq, tokens.dims()[1], &tokens.device())
    }
}

impl Step for Transformer {
    fn states(&self, capacity: usize, device: &Device) -> States {
        let mut states = States::new();
        for attention in self.layers.iter().map(|layer| &layer.self_attn) {
            states.add_cache(capacity, attention.n_kv_heads * attention.head_dim, device);
        }
        states
    }

    fn step(
        &self,
        tokens: Tensor<1, Int>,
        position: Tensor<1, Int>,
        mut states: States,
    ) -> StepOutput {
        let [rows] = tokens.dims();
        let inv_freq = Tensor::from_data(self.inv_freq.as_slice(), &tokens.device());
        let angles = ops::rope_angles(inv_freq, position.clone(), rows);
        let mut x = self.embed_tokens.step(tokens);
        let residuals = self.layers.iter().map(|layer| {
            x = layer.step(x.clone(), angles.clone(), position.clone(), &mut states);
            x.clone()
        });
        let residuals = residuals.collect();
        let logits = head::step(&self.norm, self.lm_head.as_ref(), &self.embed_tokens, x);
        StepOutput { residuals, logits, exits: Vec::new(), states: states.finish() }
    }
}

/// One layer: attention, then a feed-forward network, each behind a norm and added to the residual stream.
#[derive(Module, Debug)]
pub struct TransformerLayer {
    /// Before the attention.
    pub input_layernorm: RmsNorm,
    /// Mixes tokens.
    pub self_attn: Attention,
    /// Before the feed-forward network.
    pub post_attention_layernorm: RmsNorm,
    /// Mixes channels.
    pub mlp: FeedForward,
}

impl TransformerLayer {
    /// Makes the layer number `index`.
    #[must_use]
    pub fn new(config: &TransformerConfig, index: usize, device: &Device) -> Self {
        Self {
            input_layernorm: RmsNorm::new(config.d_model, config.norm_eps, device),
            self_attn: Attention::new(config, index, device),
            post_attention_layernorm: RmsNorm::new(config.d_model, config.norm_eps, device),
            mlp: FeedForward::new(config, device),
        }
    }

    fn forward(&self, x: Tensor<3>, angles: &Angles) -> Tensor<3> {
        let x = self.self_attn.forward(self.input_layernorm.forward(x.clone()), angles) + x;
        self.mlp.forward(self.post_attention_layernorm.forward(x.clone())) + x
    }

    fn step(
        &self,
        x: Tensor<2>,
        angles: Tensor<2>,
        position: Tensor<1, Int>,
        states: &mut States,
    ) -> Tensor<2> {
        let h = self.input_layernorm.step(x.clone());
        let x = self.self_attn.step(h, angles, position, states) + x;
        self.mlp.step(self.post_attention_layernorm.step(x.clone())) + x
    }
}

/// Where projections into the residual stream start: smaller with depth, so that its variance does not grow.
fn residual_init(config: &TransformerConfig) -> Init {
    Init::Normal { std: config.init_std / (2.0 * config.n_layers as f64).sqrt() }
}
