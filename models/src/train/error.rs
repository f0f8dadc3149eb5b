//! Why a training run did not start, or did not go on.

use std::path::PathBuf;

use crate::checkpoint::CheckpointError;
use crate::config::ConfigError;
use crate::exits::ExitsError;

/// Why a training run did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A text cannot be read.
    #[error("{}: cannot be read as UTF-8 text: {error}", path.display())]
    Text {
        /// The text.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// Too little text for one batch of training and something to hold out.
    #[error(
        "the texts are {found} tokens long, and sequences of {seq_len} need at least {need}: give more text, or a \
         smaller --seq-len"
    )]
    TooLittleText {
        /// Tokens of all texts.
        found: usize,
        /// Tokens needed.
        need: usize,
        /// Tokens of a sequence.
        seq_len: usize,
    },
    /// No tokenizer could be trained or read.
    #[error("the tokenizer: {0}")]
    Tokenizer(String),
    /// The vocabulary has no room for the 256 bytes and the end of a text.
    #[error(
        "--vocab-size {found}: at least {least} tokens are needed, one for each byte and one that ends a text"
    )]
    Vocabulary {
        /// Tokens asked for.
        found: usize,
        /// Fewest possible.
        least: usize,
    },
    /// The model cannot be written.
    #[error(transparent)]
    Export(#[from] CheckpointError),
    /// A number of the recipe makes no sense.
    #[error("--{name} {found}: {rule}")]
    Recipe {
        /// The number.
        name: &'static str,
        /// Its value.
        found: String,
        /// What it must be.
        rule: &'static str,
    },
    /// The model has no shape that can be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What exits should learn from is no number.
    #[error(
        "step {step}: the model's own scores of tokens are no numbers, so there is nothing to learn from; its weights \
         are damaged, or too large for this text: check it with `dynamax check`"
    )]
    Oracle {
        /// The step.
        step: u64,
    },
    /// Exits that cannot stand where they are said to.
    #[error("--exits: {0}")]
    Exits(String),
    /// Exits cannot be written or read.
    #[error(transparent)]
    Exit(#[from] ExitsError),
    /// The directory holds something already.
    #[error(
        "{}: holds files already ({found}); add --resume to go on with the run that is there, or choose an empty \
         directory", dir.display()
    )]
    Occupied {
        /// The directory.
        dir: PathBuf,
        /// One of the files.
        found: String,
    },
    /// Nothing to go on with.
    #[error("{}: no training run to go on with; leave --resume away to start one", dir.display())]
    NothingToResume {
        /// The directory.
        dir: PathBuf,
    },
    /// The run in the directory was made by another recipe.
    #[error("{}: the run there had another {what}; a run goes on with the recipe and the texts that it began with", dir.display())]
    OtherRun {
        /// The directory.
        dir: PathBuf,
        /// What differs.
        what: String,
    },
    /// A checkpoint is damaged.
    #[error("{}: not a checkpoint that can be read: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Writing failed.
    #[error("{}: cannot be written: {error}; the last checkpoint before it is intact", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// The loss is no number any more.
    #[error(
        "the loss is {loss} at step {step}: training diverged; the checkpoint of step {kept} is kept: start anew with \
         a smaller --lr or a longer --warmup"
    )]
    Diverged {
        /// The step.
        step: u64,
        /// `NaN` or infinite.
        loss: f32,
        /// Step of the last checkpoint.
        kept: u64,
    },
}
