//! Why a configuration cannot be used.

use std::path::PathBuf;

use crate::gguf::GgufError;

/// Architectures that can be imported, as `config.json` names them.
pub const SUPPORTED: &[&str] = &["llama", "mistral", "qwen2", "qwen3", "mamba", "mamba2"];

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A GGUF file does not say what it must.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The file cannot be read.
    #[error("{}: {error}; give the folder of a checkpoint, as Hugging Face lays it out", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// The file is not JSON.
    #[error("{}: not JSON: {error}; download or export the checkpoint again", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        error: serde_json::Error,
    },
    /// An architecture that is not known here.
    #[error(
        "{}: the architecture is {found}; supported are {}; choose a checkpoint of one of these",
        path.display(),
        SUPPORTED.join(", ")
    )]
    Architecture {
        /// The file.
        path: PathBuf,
        /// What it names.
        found: String,
    },
    /// A field that must be there is not.
    #[error("{}: {field} is missing, expected {expected}; {advice}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// What it should hold.
        expected: String,
        /// What to do.
        advice: &'static str,
    },
    /// A field holds what it must not.
    #[error("{}: {field} is {found}, expected {expected}; {advice}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// What it holds.
        found: String,
        /// What it should hold.
        expected: String,
        /// What to do.
        advice: &'static str,
    },
}
