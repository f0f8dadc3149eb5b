//! The flags that make a recipe, and what they are if they are not given.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use dynamax_models::train::{Architecture, Recipe};
use serde::Serialize;

use super::exit_flags::ExitFlags;

/// What kind of model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Arch {
    /// State-space duality: scalar decays, heads.
    Mamba2,
    /// Selective scan.
    Mamba,
    /// Llama: grouped queries, rotary positions, gated feed-forward layers.
    Transformer,
}

/// The recipe, as far as it was given.
#[derive(Args, Clone, Debug, Default, Serialize)]
pub(super) struct Flags {
    /// What kind of model.
    #[arg(long, value_enum, required_unless_present = "resume")]
    arch: Option<Arch>,
    /// Plain text, UTF-8; several files may follow.
    #[arg(long, num_args = 1.., value_name = "FILE", required_unless_present = "resume")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    text: Vec<PathBuf>,
    /// Most tokens of the tokenizer [default: 2048].
    #[arg(long, help_heading = "Shape")]
    vocab_size: Option<usize>,
    /// Width of the residual stream [default: 192].
    #[arg(long, help_heading = "Shape")]
    d_model: Option<usize>,
    /// Layers [default: 8].
    #[arg(long, help_heading = "Shape")]
    layers: Option<usize>,
    /// Heads [default: as many as fill --d-model; twice that for mamba2].
    #[arg(long, help_heading = "Shape")]
    heads: Option<usize>,
    /// Key/value heads of a transformer [default: a third of --heads if that divides, or all].
    #[arg(long, help_heading = "Shape")]
    kv_heads: Option<usize>,
    /// Channels of a head [default: 32 for a transformer, 64 for mamba2].
    #[arg(long, help_heading = "Shape")]
    head_dim: Option<usize>,
    /// Numbers of state per channel [default: 64 for mamba2, 16 for mamba].
    #[arg(long, help_heading = "Shape")]
    d_state: Option<usize>,
    /// Width of a transformer's feed-forward layers [default: 8/3 of --d-model], or of mamba's recurrence [default:
    /// twice --d-model].
    #[arg(long, help_heading = "Shape")]
    intermediate: Option<usize>,
    /// Tokens that a transformer's attention reaches back; 0 for all [default: 0].
    #[arg(long, help_heading = "Shape")]
    window: Option<usize>,
    /// Tokens of a training sequence [default: 256].
    #[arg(long, help_heading = "Schedule")]
    seq_len: Option<usize>,
    /// Sequences of a step [default: 8].
    #[arg(long, help_heading = "Schedule")]
    batch: Option<usize>,
    /// Largest learning rate [default: 0.002].
    #[arg(long, help_heading = "Schedule")]
    lr: Option<f64>,
    /// Steps of warm-up [default: 50].
    #[arg(long, help_heading = "Schedule")]
    warmup: Option<u64>,
    /// Weight decay of matrices [default: 0.1].
    #[arg(long, help_heading = "Schedule")]
    weight_decay: Option<f64>,
    /// Largest norm of the gradients [default: 1].
    #[arg(long, help_heading = "Schedule")]
    clip: Option<f64>,
    /// Decides initial weights and the order of the text [default: 0].
    #[arg(long, help_heading = "Schedule")]
    seed: Option<u64>,
    #[command(flatten)]
    #[serde(skip)]
    exits: ExitFlags,
}

impl Flags {
    /// The recipe, with defaults for what was not given.
    pub(super) fn recipe(&self) -> Result<Recipe> {
        let arch = match self.arch.context("--arch is needed")? {
            Arch::Mamba2 => Architecture::Mamba2,
            Arch::Mamba => Architecture::Mamba,
            Arch::Transformer => Architecture::Transformer,
        };
        let is_transformer = arch == Architecture::Transformer;
        let d_model = self.d_model.unwrap_or(192);
        let head_dim = self.head_dim.unwrap_or(if is_transformer { 32 } else { 64 });
        ensure!(head_dim > 0, "--head-dim must be at least 1");
        let width = if is_transformer { d_model } else { 2 * d_model };
        let heads = self.heads.unwrap_or_else(|| (width / head_dim).max(1));
        let intermediate =
            if is_transformer { (d_model * 8 / 3).next_multiple_of(32) } else { 2 * d_model };
        Ok(Recipe {
            arch,
            text: self.paths()?,
            vocab_size: self.vocab_size.unwrap_or(2048),
            d_model,
            layers: self.layers.unwrap_or(8),
            heads,
            kv_heads: self.kv_heads.unwrap_or(if heads.is_multiple_of(3) {
                heads / 3
            } else {
                heads
            }),
            head_dim,
            d_state: self.d_state.unwrap_or(if arch == Architecture::Mamba { 16 } else { 64 }),
            intermediate: self.intermediate.unwrap_or(intermediate),
            window: self.window.unwrap_or(0),
            seq_len: self.seq_len.unwrap_or(256),
            batch: self.batch.unwrap_or(8),
            lr: self.lr.unwrap_or(2e-3),
            warmup: self.warmup.unwrap_or(50),
            weight_decay: self.weight_decay.unwrap_or(0.1),
            clip: self.clip.unwrap_or(1.0),
            seed: self.seed.unwrap_or(0),
            exits: self.exits.recipe(d_model, self.layers.unwrap_or(8))?,
        })
    }

    /// The first flag that was given and is not what `recipe` has.
    pub(super) fn differs_from(&self, recipe: &Recipe) -> Result<Option<String>> {
        let given = serde_json::to_value(Self { text: self.paths()?, ..self.clone() })?;
        let stored = serde_json::to_value(recipe)?;
        let differs = |(name, value): (&String, &serde_json::Value)| {
            (!value.is_null() && value != &stored[name]).then(|| name.replace('_', "-"))
        };
        let shape = given.as_object().and_then(|given| given.iter().find_map(differs));
        Ok(shape.or(self.exits.differs_from(recipe)?))
    }

    /// Whole paths: a run may be gone on with from another folder.
    fn paths(&self) -> Result<Vec<PathBuf>> {
        let whole = |path: &PathBuf| {
            path.canonicalize()
                .with_context(|| format!("{}: cannot be opened; give a plain text", path.display()))
        };
        self.text.iter().map(whole).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transformer_has_heads_that_fill_its_width() {
        let recipe = Flags { arch: Some(Arch::Transformer), ..Flags::default() }.recipe().unwrap();
        assert_eq!(
            (recipe.heads, recipe.kv_heads, recipe.head_dim, recipe.intermediate),
            (6, 2, 32, 512),
            "192 wide"
        );
    }

    #[test]
    fn every_default_makes_a_recipe_that_holds() {
        for arch in [Arch::Mamba2, Arch::Mamba, Arch::Transformer] {
            for d_model in [64, 128, 192, 256] {
                let flags = Flags { arch: Some(arch), d_model: Some(d_model), ..Flags::default() };
                assert!(flags.recipe().unwrap().check().is_ok(), "{arch:?} {d_model}");
            }
        }
    }

    #[test]
    fn a_flag_that_differs_is_named() {
        let flags = Flags { arch: Some(Arch::Mamba2), ..Flags::default() };
        let recipe = flags.recipe().unwrap();
        assert_eq!(
            flags.differs_from(&recipe).unwrap(),
            None,
            "what was not given does not differ"
        );
        let other = Flags { seq_len: Some(128), ..flags };
        assert_eq!(
            other.differs_from(&recipe).unwrap().as_deref(),
            Some("seq-len"),
            "as it is written"
        );
    }

    #[test]
    fn exits_that_differ_are_named_and_those_not_given_do_not() {
        let with = |exits: &[&str]| {
            #[derive(clap::Parser)]
            struct Line {
                #[command(flatten)]
                flags: Flags,
                /// What flags name beside themselves.
                #[arg(long)]
                resume: Option<PathBuf>,
            }
            let line = ["train", "--arch", "mamba2", "--text", "Cargo.toml"];
            <Line as clap::Parser>::parse_from(line.iter().chain(exits)).flags
        };
        let recipe = with(&["--exits", "4,6", "--classifier", "calm"]).recipe().unwrap();
        let differs = |exits: &[&str]| with(exits).differs_from(&recipe).unwrap();
        assert_eq!(differs(&["--exits", "4,6"]), None, "the classifier was not given");
        assert_eq!(differs(&["--exits", "4,5"]).as_deref(), Some("exits"), "other places");
        let other = differs(&["--exits", "4,6", "--classifier", "mamba"]);
        assert_eq!(other.as_deref(), Some("classifier"), "another kind");
        assert_eq!(
            with(&["--exits"]).recipe().unwrap().exits.unwrap().exits.len(),
            4,
            "by default"
        );
    }
}
