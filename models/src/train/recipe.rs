//! Everything that decides what a run makes, but for its length: kept beside the checkpoint, so that a run goes on as
//! it began.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::TrainError;
use super::tokenizer::VOCAB_MIN;
use crate::config::{
    Config, Mamba2Config, MambaConfig, Tokens, TransformerConfig, TransformerKind,
};
use crate::exits::{ExitConfig, ExitsConfig};

/// What kind of model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Mamba-2.
    Mamba2,
    /// Mamba.
    Mamba,
    /// A Llama; with a window, a Mistral.
    Transformer,
}

/// Texts, shape and schedule of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// What kind of model.
    pub arch: Architecture,
    /// What it is trained on.
    pub text: Vec<PathBuf>,
    /// Most tokens of the tokenizer.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads of a transformer, heads of a Mamba-2.
    pub heads: usize,
    /// Key/value heads of a transformer.
    pub kv_heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Numbers of state per channel of a Mamba.
    pub d_state: usize,
    /// Width inside a transformer's feed-forward layers; channels of the recurrence of a Mamba.
    pub intermediate: usize,
    /// Tokens that a transformer's attention reaches back; 0: all.
    pub window: usize,
    /// Tokens of a training sequence.
    pub seq_len: usize,
    /// Sequences of a step.
    pub batch: usize,
    /// Largest learning rate.
    pub lr: f64,
    /// Steps until the learning rate is at its largest.
    pub warmup: u64,
    /// Share of a matrix that a step at learning rate 1 takes away.
    pub weight_decay: f64,
    /// Largest norm of all gradients together.
    pub clip: f64,
    /// Decides initial weights and the order of the data.
    pub seed: u64,
    /// Exits that are trained with the model.
    #[serde(default)]
    pub exits: Option<ExitsRecipe>,
}

/// How exits are trained together with their model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExitsRecipe {
    /// Where they are, and of what kind.
    pub exits: Vec<ExitConfig>,
    /// A classifier is taught that a token may leave if its best next token is among this many best of full depth.
    pub top_k: usize,
    /// Weight of all exits' own losses together, where that of full depth is 1.
    pub exit_loss: f64,
    /// Weight of all exits' divergences from full depth together.
    pub exit_distill: f64,
    /// Chance that a step leaves out the last layer; that of an earlier one is smaller.
    pub layer_dropout: f64,
}

impl ExitsRecipe {
    /// The exits' shape, of a model of this config.
    #[must_use]
    pub fn config(&self, config: &Config) -> ExitsConfig {
        let (d_model, norm_eps) = (config.d_model(), config.norm_eps());
        ExitsConfig { d_model, norm_eps, exits: self.exits.clone() }
    }

    /// The chance that a step leaves out layer `index`: grows with depth, as in `LayerSkip` (Elhoushi et al. 2024).
    #[must_use]
    pub(super) fn dropout(&self, index: usize, layers: usize) -> f64 {
        let depth = index as f64 / (layers - 1).max(1) as f64;
        self.layer_dropout * (depth.exp2() - 1.0)
    }

    fn check(&self, recipe: &Recipe) -> Result<(), TrainError> {
        let (d_model, norm_eps) = (recipe.d_model, 1e-5);
        let exits = ExitsConfig { d_model, norm_eps, exits: self.exits.clone() };
        exits.check(recipe.layers).map_err(TrainError::Exits)?;
        require(self.top_k > 0, "top-k", self.top_k, "must be at least 1")?;
        for (name, found) in [("exit-loss", self.exit_loss), ("exit-distill", self.exit_distill)] {
            require(found >= 0.0 && found.is_finite(), name, found, "must not be below 0")?;
        }
        let dropout = self.layer_dropout;
        require((0.0..1.0).contains(&dropout), "layer-dropout", dropout, "must be in 0..1")
    }
}

/// A context that a model without a limit of its own claims in `tokenizer_config.json`.
const CONTEXT_MAX: usize = 4096;

impl Recipe {
    /// Checks what no later part checks.
    ///
    /// # Errors
    ///
    /// The first number that makes no sense.
    pub fn check(&self) -> Result<(), TrainError> {
        if self.vocab_size < VOCAB_MIN {
            return Err(TrainError::Vocabulary { found: self.vocab_size, least: VOCAB_MIN });
        }
        let counts = [
            ("d-model", self.d_model),
            ("layers", self.layers),
            ("heads", self.heads),
            ("kv-heads", self.kv_heads),
            ("head-dim", self.head_dim),
            ("d-state", self.d_state),
            ("intermediate", self.intermediate),
            ("seq-len", self.seq_len),
            ("batch", self.batch),
        ];
        for (name, found) in counts {
            require(found > 0, name, found, "must be at least 1")?;
        }
        let rates = [("lr", self.lr), ("clip", self.clip)];
        for (name, found) in rates {
            require(found > 0.0 && found.is_finite(), name, found, "must be above 0")?;
        }
        require(
            (0.0..=1.0).contains(&self.weight_decay),
            "weight-decay",
            self.weight_decay,
            "must be in 0..=1",
        )?;
        if let Some(exits) = &self.exits {
            exits.check(self)?;
        }
        match self.arch {
            Architecture::Transformer => {
                let divides = self.heads.is_multiple_of(self.kv_heads);
                require(divides, "kv-heads", self.kv_heads, "must divide --heads")?;
                require(
                    self.head_dim.is_multiple_of(2),
                    "head-dim",
                    self.head_dim,
                    "must be even, for rotations",
                )
            }
            Architecture::Mamba2 => {
                let inner = self.heads * self.head_dim;
                let fits = inner.is_multiple_of(self.d_model);
                require(
                    fits,
                    "heads",
                    self.heads,
                    "times --head-dim must be a multiple of --d-model",
                )
            }
            Architecture::Mamba => {
                let fits = self.intermediate.is_multiple_of(self.d_model);
                require(fits, "intermediate", self.intermediate, "must be a multiple of --d-model")
            }
        }
    }

    /// The shape of the model, for a tokenizer of `vocab_size` tokens of which `end` ends a text.
    #[must_use]
    pub fn config(&self, vocab_size: usize, end: u32) -> Config {
        let tokens = Tokens { bos: None, eos: vec![end] };
        match self.arch {
            Architecture::Transformer => Config::Transformer(self.transformer(vocab_size, tokens)),
            Architecture::Mamba => Config::Mamba(MambaConfig {
                vocab_size,
                d_model: self.d_model,
                d_inner: self.intermediate,
                d_state: self.d_state,
                dt_rank: self.d_model.div_ceil(16),
                n_layers: self.layers,
                tokens,
                ..MambaConfig::default()
            }),
            Architecture::Mamba2 => Config::Mamba2(Mamba2Config {
                vocab_size,
                d_model: self.d_model,
                n_heads: self.heads,
                head_dim: self.head_dim,
                d_state: self.d_state,
                n_layers: self.layers,
                tokens,
                ..Mamba2Config::default()
            }),
        }
    }

    fn transformer(&self, vocab_size: usize, tokens: Tokens) -> TransformerConfig {
        TransformerConfig {
            kind: if self.window > 0 { TransformerKind::Mistral } else { TransformerKind::Llama },
            vocab_size,
            d_model: self.d_model,
            d_ff: self.intermediate,
            n_layers: self.layers,
            n_heads: self.heads,
            n_kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            context_max: self.context(),
            windows: vec![self.window; self.layers],
            tokens,
            ..TransformerConfig::default()
        }
    }

    /// Tokens that the model is good for: those of a training sequence for attention that reaches everywhere, because
    /// it has not seen longer distances; a fixed number where no distance grows with the context.
    #[must_use]
    pub fn context(&self) -> usize {
        let is_bounded = self.arch != Architecture::Transformer
            || (self.window > 0 && self.window < self.seq_len);
        if is_bounded { CONTEXT_MAX } else { self.seq_len }
    }
}

fn require(
    holds: bool,
    name: &'static str,
    found: impl ToString,
    rule: &'static str,
) -> Result<(), TrainError> {
    if holds { Ok(()) } else { Err(TrainError::Recipe { name, found: found.to_string(), rule }) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn toy(arch: Architecture) -> Recipe {
        Recipe {
            arch,
            text: Vec::new(),
            vocab_size: 280,
            d_model: 32,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            d_state: 8,
            intermediate: 64,
            window: 0,
            seq_len: 16,
            batch: 2,
            lr: 1e-2,
            warmup: 5,
            weight_decay: 0.1,
            clip: 1.0,
            seed: 1,
            exits: None,
        }
    }

    #[test]
    fn heads_that_do_not_share_evenly_are_refused() {
        let recipe = Recipe { kv_heads: 3, ..toy(Architecture::Transformer) };
        assert_eq!(
            recipe.check().unwrap_err().to_string(),
            "--kv-heads 3: must divide --heads",
            "by name"
        );
        assert!(toy(Architecture::Transformer).check().is_ok(), "the toy itself is fine");
    }

    #[test]
    fn only_unbounded_attention_limits_the_context() {
        let transformer = toy(Architecture::Transformer);
        assert_eq!(transformer.context(), 16, "no longer distance was seen");
        assert_eq!(
            Recipe { window: 8, ..transformer }.context(),
            CONTEXT_MAX,
            "distances end at the window"
        );
        assert_eq!(toy(Architecture::Mamba2).context(), CONTEXT_MAX, "a state has one size");
    }
}
