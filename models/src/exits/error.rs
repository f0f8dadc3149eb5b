//! Why exits cannot be used.

use std::path::PathBuf;

use crate::checkpoint::CheckpointError;

/// Why exits cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExitsError {
    /// A file cannot be read.
    #[error("{}: {error}; give the directory that `dynamax exits` or `dynamax train --exits` wrote", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// A file cannot be written.
    #[error("{}: cannot be written: {error}; what was there before is intact", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// The description is none.
    #[error("{}: {reason}; train the exits again", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A field that does not fit the backbone.
    #[error(
        "{}: {field} is {found}, the model has {expected}; these exits are another model's: train some for this one",
        path.display()
    )]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// Its value.
        found: String,
        /// The model's.
        expected: String,
    },
    /// Weights that are not those that the description asks for.
    #[error("{}: {reason}; train the exits again", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong, by the tensor's name.
        reason: String,
    },
}

impl ExitsError {
    /// What a checkpoint's error means for exits.
    pub(super) fn weights(path: PathBuf, error: CheckpointError) -> Self {
        let reason = match error {
            CheckpointError::Read { error, .. } => return Self::Read { path, error },
            CheckpointError::Missing { tensor, shape } => {
                format!("{tensor} is missing, exits.json has one of {shape:?}")
            }
            CheckpointError::Unknown { tensor } => {
                format!("{tensor} is a weight that exits.json does not know")
            }
            CheckpointError::Shape { tensor, found, expected } => {
                format!("{tensor} is {found:?}, by exits.json it has to be {expected:?}")
            }
            CheckpointError::NotFinite { tensor, index, found } => {
                format!("{tensor}: number {index} is {found}, weights have to be finite")
            }
            CheckpointError::Format { error, .. } => format!("broken or truncated: {error}"),
            other => other.to_string(),
        };
        Self::Weights { path, reason }
    }
}
