//! Why weights cannot be used.

use std::ops::Range;
use std::path::PathBuf;

use crate::gguf::GgufError;

/// Why weights cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A GGUF file is broken, or its tensors do not fit.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// No weights in the folder.
    #[error(
        "{}: neither model.safetensors nor model.safetensors.index.json{}",
        dir.display(),
        if *has_pickle { "; convert pytorch_model.bin to safetensors first" } else { "; download the checkpoint again" }
    )]
    NoWeights {
        /// The folder.
        dir: PathBuf,
        /// There are weights that are not safetensors.
        has_pickle: bool,
    },
    /// A file cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// A file cannot be written.
    #[error("{}: {error}; free some space or choose another folder", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// A file is no safetensors file, or a part of one.
    #[error("{}: broken or truncated safetensors: {error}; download the file again", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: String,
    },
    /// The index is broken.
    #[error("{}: {what}; download the file again", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A shard that the index names is not there.
    #[error("{}: missing, but model.safetensors.index.json needs it for {tensor}; download it", path.display())]
    MissingShard {
        /// The shard.
        path: PathBuf,
        /// A tensor that should be in it.
        tensor: String,
    },
    /// A tensor that the model needs is not there.
    #[error(
        "{tensor} is missing, expected {shape:?}; config.json and the weights are not of the same model"
    )]
    Missing {
        /// Its name.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A tensor that the model has no use for.
    #[error(
        "{tensor} is not a weight of this architecture; config.json and the weights are not of the same model"
    )]
    Unknown {
        /// Its name.
        tensor: String,
    },
    /// A tensor of another shape.
    #[error(
        "{tensor} is {found:?}, expected {expected:?}; config.json and the weights are not of the same model"
    )]
    Shape {
        /// Its name.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// What config.json says.
        expected: Vec<usize>,
    },
    /// A tensor of another type.
    #[error("{tensor} is {found}, expected F32, F16 or BF16; take the unquantized checkpoint")]
    Type {
        /// Its name.
        tensor: String,
        /// Its type.
        found: String,
    },
    /// A head that is said to be the token table and is not.
    #[error(
        "lm_head.weight differs from {table}, though config.json ties them; set tie_word_embeddings to false"
    )]
    Untied {
        /// The token table.
        table: String,
    },
    /// A number that is none.
    #[error(
        "{tensor}: number {index} is {found}; weights must be finite: export the checkpoint again"
    )]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// Position in the tensor, row-major.
        index: usize,
        /// `NaN` or `inf`.
        found: f32,
    },
    /// A number that must be negative is not.
    #[error(
        "{tensor}: number {index} is {found}, expected one below zero; take another conversion of the model"
    )]
    NotNegative {
        /// The tensor.
        tensor: String,
        /// Position in the parameter.
        index: usize,
        /// The number.
        found: f32,
    },
    /// A parameter that the model does not have.
    #[error("{param} is no parameter of this architecture")]
    Param {
        /// Its path in the module.
        param: String,
    },
    /// Rows that a parameter does not have.
    #[error("{param}: rows {rows:?} of {count}")]
    Rows {
        /// Its path in the module.
        param: String,
        /// What was asked for.
        rows: Range<usize>,
        /// What there is.
        count: usize,
    },
}
