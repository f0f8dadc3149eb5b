//! The directory of a run.
//!
//! ```text
//! DIR/config.json, model.safetensors, generation_config.json       the model, as of the last checkpoint
//! DIR/tokenizer.json, tokenizer_config.json                        written once
//! DIR/training/recipe.json                                         written once
//! DIR/training/state.safetensors                                   what the run goes on from
//! ```

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use tokenizers::Tokenizer;

use super::tokenizer::tokenizer_config;
use super::{Recipe, TrainError, state};

/// The recipe of the run in `dir`.
///
/// # Errors
///
/// No run there.
pub fn read_recipe(dir: &Path) -> Result<Recipe, TrainError> {
    read_run(dir, &recipe_path(dir), &state_path(dir))
}

/// The recipe at `path` of a run in `dir` that can go on from `state`.
pub(crate) fn read_run<R: DeserializeOwned>(
    dir: &Path,
    path: &Path,
    state: &Path,
) -> Result<R, TrainError> {
    if !path.is_file() || !state.is_file() {
        return Err(TrainError::NothingToResume { dir: dir.into() });
    }
    let damaged = |reason: String| TrainError::Damaged { path: path.into(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| damaged(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))
}

/// What concerns training alone.
pub(super) fn training(dir: &Path) -> PathBuf {
    dir.join("training")
}

/// How it began.
fn recipe_path(dir: &Path) -> PathBuf {
    training(dir).join("recipe.json")
}

/// What the run goes on from.
pub(super) fn state_path(dir: &Path) -> PathBuf {
    training(dir).join("state.safetensors")
}

/// Refuses a directory that holds anything, unless all of it is what a run left that was killed before its first
/// checkpoint.
pub(super) fn require_empty(dir: &Path) -> Result<(), TrainError> {
    if recipe_path(dir).is_file() && !state_path(dir).is_file() {
        return Ok(());
    }
    // A directory that is not there, or cannot be read, is met again when it is written to.
    let Ok(mut entries) = std::fs::read_dir(dir) else { return Ok(()) };
    match entries.next() {
        Some(Ok(entry)) => Err(TrainError::Occupied {
            dir: dir.into(),
            found: entry.file_name().to_string_lossy().into_owned(),
        }),
        _ => Ok(()),
    }
}

/// Writes what does not change during a run.
pub(super) fn write_texts(
    dir: &Path,
    tokenizer: &Tokenizer,
    recipe: &Recipe,
    end: u32,
) -> Result<(), TrainError> {
    let text =
        tokenizer.to_string(true).map_err(|error| TrainError::Tokenizer(error.to_string()))?;
    let json = |value: &serde_json::Value| format!("{value:#}\n");
    let recipe_text =
        serde_json::to_value(recipe).map_err(|error| TrainError::Tokenizer(error.to_string()))?;
    // The recipe first: beside it, and without a checkpoint, the rest may be written again.
    let files = [
        ("training/recipe.json", json(&recipe_text)),
        ("tokenizer.json", text),
        ("tokenizer_config.json", json(&tokenizer_config(recipe.context()))),
        ("generation_config.json", json(&serde_json::json!({"eos_token_id": end}))),
    ];
    files.iter().try_for_each(|(name, text)| state::replace(&dir.join(name), text.as_bytes()))
}
