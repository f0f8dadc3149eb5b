//! The three classifiers of DYNAMAX: from the residual stream to two logits, `[go on, exit]`.
//!
//! Each looks through a norm of its own, because the residual stream grows with depth and differs in scale between
//! models; so one learning rate fits all.

use burn::module::Module;
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};
use dynamax_burn::ops;

use super::config::ClassifierConfig;
use crate::backbone::MambaMixer;
use crate::config::MambaConfig;
use crate::layers::{Init, Linear, RmsNorm};
use crate::step::States;

/// Logits of a classifier.
pub(super) const LOGITS: usize = 2;

/// Any classifier.
#[expect(
    clippy::large_enum_variant,
    reason = "Burn's modules are not boxed, and a model has a few exits"
)]
#[derive(Module, Debug)]
pub enum Classifier {
    /// One layer.
    Calm(Calm),
    /// The feed-forward network of a transformer.
    Ffn(Ffn),
    /// A Mamba block: sees the tokens before, too.
    Mamba(MambaBlock),
}

impl Classifier {
    /// Makes a classifier that says nothing yet: both logits are zero.
    #[must_use]
    pub fn new(config: &ClassifierConfig, d_model: usize, eps: f64, device: &Device) -> Self {
        match *config {
            ClassifierConfig::Calm => Self::Calm(Calm::new(d_model, eps, device)),
            ClassifierConfig::Ffn { width } => Self::Ffn(Ffn::new(d_model, width, eps, device)),
            ClassifierConfig::Mamba { width, d_state } => {
                Self::Mamba(MambaBlock::new(d_model, [width, d_state], eps, device))
            }
        }
    }

    /// `calm`, `ffn` or `mamba`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Calm(_) => "calm",
            Self::Ffn(_) => "ffn",
            Self::Mamba(_) => "mamba",
        }
    }

    /// The last layer: `[2, ..]`, with a bias.
    pub(super) fn decision_mut(&mut self) -> &mut Linear {
        match self {
            Self::Calm(calm) => &mut calm.linear,
            Self::Ffn(ffn) => &mut ffn.down_proj,
            Self::Mamba(block) => &mut block.mixer.out_proj,
        }
    }

    /// Scores whole sequences, `[batch, seq, d_model]` to `[batch, seq, 2]`.
    #[must_use]
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Calm(calm) => calm.linear.forward(calm.norm.forward(x)),
            Self::Ffn(ffn) => ffn.forward(x),
            Self::Mamba(block) => block.mixer.forward(block.norm.forward(x)),
        }
    }

    /// Adds the states that are kept along a sequence.
    pub fn add_states(&self, states: &mut States, device: &Device) {
        if let Self::Mamba(block) = self {
            block.mixer.add_states(states, device);
        }
    }

    /// Scores the last row as deployed, `[rows, d_model]` to `[1, 2]`.
    #[must_use]
    pub fn step(&self, x: Tensor<2>, states: &mut States) -> Tensor<2> {
        let last = x.dims()[0] - 1;
        match self {
            Self::Calm(calm) => calm.linear.step(calm.norm.step(ops::select(x, last))),
            Self::Ffn(ffn) => ffn.step(ops::select(x, last)),
            // Every row goes through the states, whichever is asked for.
            Self::Mamba(block) => ops::select(block.mixer.step(block.norm.step(x), states), last),
        }
    }
}

/// The one layer of CALM (Schuster et al. 2022): `linear(norm(x))`.
#[derive(Module, Debug)]
pub struct Calm {
    /// `[d_model]`.
    pub norm: RmsNorm,
    /// `[2, d_model]`, with a bias.
    pub linear: Linear,
}

impl Calm {
    /// Makes a classifier.
    #[must_use]
    pub fn new(d_model: usize, eps: f64, device: &Device) -> Self {
        Self { norm: RmsNorm::new(d_model, eps, device), linear: decision(d_model, device) }
    }
}

/// The feed-forward network of a transformer block, narrow: `down(silu(gate(n)) ⊙ up(n))`, `n = norm(x)`.
#[derive(Module, Debug)]
pub struct Ffn {
    /// `[d_model]`.
    pub norm: RmsNorm,
    /// `[width, d_model]`.
    pub gate_proj: Linear,
    /// `[width, d_model]`.
    pub up_proj: Linear,
    /// `[2, width]`, with a bias.
    pub down_proj: Linear,
}

impl Ffn {
    /// Makes a classifier.
    #[must_use]
    pub fn new(d_model: usize, width: usize, eps: f64, device: &Device) -> Self {
        let init = Init::Uniform { bound: (d_model as f64).sqrt().recip() };
        Self {
            norm: RmsNorm::new(d_model, eps, device),
            gate_proj: Linear::new(d_model, width, init, device),
            up_proj: Linear::new(d_model, width, init, device),
            down_proj: decision(width, device),
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let normed = self.norm.forward(x);
        let gate = silu(self.gate_proj.forward(normed.clone()));
        self.down_proj.forward(gate * self.up_proj.forward(normed))
    }

    fn step(&self, x: Tensor<2>) -> Tensor<2> {
        let normed = self.norm.step(x);
        let gate = self.gate_proj.step(normed.clone());
        self.down_proj.step(ops::swiglu(gate, self.up_proj.step(normed)))
    }
}

/// A Mamba block (Gu & Dao 2023) of narrow width whose projection out ends in two logits.
#[derive(Module, Debug)]
pub struct MambaBlock {
    /// `[d_model]`.
    pub norm: RmsNorm,
    /// Its `out_proj` is `[2, width]`, with a bias.
    pub mixer: MambaMixer,
}

impl MambaBlock {
    /// Makes a classifier of `width` channels with `d_state` numbers of state each.
    #[must_use]
    pub fn new(d_model: usize, [width, d_state]: [usize; 2], eps: f64, device: &Device) -> Self {
        let config = MambaConfig {
            d_model,
            d_inner: width,
            d_state,
            dt_rank: width.div_ceil(16),
            n_layers: 1,
            ..MambaConfig::default()
        };
        let mixer =
            MambaMixer { out_proj: decision(width, device), ..MambaMixer::new(&config, device) };
        Self { norm: RmsNorm::new(d_model, eps, device), mixer }
    }
}

/// The last layer of each: starts at zero, so that training begins without an opinion.
fn decision(d_in: usize, device: &Device) -> Linear {
    Linear::new(d_in, LOGITS, Init::Constant(0.0), device).with_bias(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::Backbone;
    use crate::config::{Config, Mamba2Config, TransformerConfig};

    fn shares(config: &Config) -> Vec<f64> {
        let device = Device::flex();
        let all = Backbone::new(config, &device).num_params();
        let head = config.vocab_size() * config.d_model();
        let heads = if config.is_tied() { 1 } else { 2 };
        let layer = (all - heads * head) as f64 / config.n_layers() as f64;
        ["calm", "ffn", "mamba"]
            .map(|name| {
                let classifier = ClassifierConfig::narrow(name, config.d_model()).unwrap();
                let module = Classifier::new(&classifier, config.d_model(), 1e-5, &device);
                module.num_params() as f64 / layer
            })
            .to_vec()
    }

    #[test]
    fn a_classifier_of_default_width_is_small_beside_a_layer() {
        let mistral = Config::Transformer(TransformerConfig {
            vocab_size: 32_000,
            d_model: 4096,
            d_ff: 14_336,
            n_layers: 1,
            n_heads: 32,
            n_kv_heads: 8,
            head_dim: 128,
            windows: vec![4096],
            is_tied: false,
            ..TransformerConfig::default()
        });
        let codestral = Config::Mamba2(Mamba2Config {
            vocab_size: 32_768,
            d_model: 4096,
            n_heads: 128,
            head_dim: 64,
            n_groups: 8,
            d_state: 128,
            n_layers: 1,
            is_tied: false,
            ..Mamba2Config::default()
        });
        for config in [mistral, codestral] {
            let shares = shares(&config);
            assert!(shares.iter().all(|share| *share < 0.05), "{shares:?} of a layer");
        }
        let toy = Config::Mamba2(Mamba2Config {
            vocab_size: 2048,
            d_model: 192,
            n_heads: 6,
            head_dim: 64,
            d_state: 64,
            n_layers: 8,
            ..Mamba2Config::default()
        });
        let shares = shares(&toy);
        println!("of a layer of a toy: {shares:?}");
        assert!(shares.iter().all(|share| *share < 0.08), "{shares:?} of a layer of a toy");
    }
}
