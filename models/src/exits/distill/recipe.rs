//! Everything that decides what a run makes of a model, but for its length; and where it is kept.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::exits::{ExitConfig, ExitsConfig, State};
use crate::train::{TrainError, read_run, state};

/// Model, texts, exits and schedule of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DistillRecipe {
    /// The model's directory.
    pub checkpoint: PathBuf,
    /// What the exits are trained on.
    pub text: Vec<PathBuf>,
    /// Where they are, and of what kind.
    pub exits: Vec<ExitConfig>,
    /// A token may leave if its best next token is among this many best of full depth.
    pub top_k: usize,
    /// What becomes of a classifier's state when a token has left before it.
    pub state: State,
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
    /// Decides initial weights and the order of the text.
    pub seed: u64,
}

impl DistillRecipe {
    /// The exits' shape, of a model of this config.
    #[must_use]
    pub fn config(&self, config: &Config) -> ExitsConfig {
        let (d_model, norm_eps) = (config.d_model(), config.norm_eps());
        ExitsConfig { d_model, norm_eps, exits: self.exits.clone() }
    }

    pub(super) fn check(&self, config: &Config) -> Result<(), TrainError> {
        let exits = self.config(config).check(config.n_layers());
        exits.map_err(TrainError::Exits)?;
        if self.exits.is_empty() {
            return Err(TrainError::Exits("there is none".into()));
        }
        for (name, found) in
            [("top-k", self.top_k), ("seq-len", self.seq_len), ("batch", self.batch)]
        {
            require(found > 0, name, found, "must be at least 1")?;
        }
        require(self.lr > 0.0 && self.lr.is_finite(), "lr", self.lr, "must be above 0")?;
        let fits = u32::try_from(self.seq_len).is_ok_and(|len| len <= config.context_max());
        require(fits, "seq-len", self.seq_len, "must not be above the model's longest context")
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

/// The recipe of the run in `dir`.
///
/// # Errors
///
/// No run there.
pub fn read_recipe(dir: &Path) -> Result<DistillRecipe, TrainError> {
    read_run(dir, &recipe_path(dir), &state_path(dir))
}

/// Refuses a directory that holds exits, or a run, already; a model may be there.
pub(super) fn require_no_exits(dir: &Path) -> Result<(), TrainError> {
    let found = ["exits.json", "exits.safetensors"].map(|name| dir.join(name));
    match found.iter().chain([&state_path(dir)]).find(|path| path.exists()) {
        None => Ok(()),
        Some(found) => Err(TrainError::Occupied {
            dir: dir.into(),
            found: found.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        }),
    }
}

/// Writes the recipe, once.
pub(super) fn write_recipe(dir: &Path, recipe: &DistillRecipe) -> Result<(), TrainError> {
    let path = recipe_path(dir);
    let folder = training(dir);
    std::fs::create_dir_all(&folder).map_err(|error| TrainError::Write { path: folder, error })?;
    let text = serde_json::to_string_pretty(recipe)
        .map_err(|error| TrainError::Write { path: path.clone(), error: error.into() })?;
    state::replace(&path, format!("{text}\n").as_bytes())
}

fn training(dir: &Path) -> PathBuf {
    dir.join("training")
}

fn recipe_path(dir: &Path) -> PathBuf {
    training(dir).join("exits.json")
}

/// What the run goes on from.
pub(super) fn state_path(dir: &Path) -> PathBuf {
    training(dir).join("exits.safetensors")
}
