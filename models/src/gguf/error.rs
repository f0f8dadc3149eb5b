//! Why a GGUF file cannot be used.

use std::path::PathBuf;

/// Why a GGUF file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The file cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// The file's structure is broken.
    #[error("{}: broken or truncated GGUF: {what}; download the file again", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong, and at which byte.
        what: String,
    },
    /// A key or a tensor is not what it must be.
    #[error("{}: {field} is {found}, expected {expected}; take another conversion of the model", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The key or tensor.
        field: String,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
}
