//! Why a configuration cannot be used.

use std::path::PathBuf;

/// Architectures that can be imported, as `config.json` names them.
pub const SUPPORTED: &[&str] = &["llama", "mistral", "qwen2", "qwen3", "mamba", "mamba2"];

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
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
        "{}: model_type is {found}; supported are {}; choose a checkpoint of one of these",
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
    #[error("{}: {field} is missing, expected {expected}; take config.json from the model's publisher", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// What it should hold.
        expected: String,
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
