//! Numbers of an independent implementation, and how far a model is from them.
//!
//! A `golden.json` holds what transformers computes from a checkpoint in float32: `tools/golden` makes one.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::Deserialize;

use crate::backbone::Backbone;

/// What an independent implementation computed from a prompt.
#[derive(Clone, Debug, Deserialize)]
pub struct Golden {
    /// The prompt.
    pub prompt_ids: Vec<u32>,
    /// The residual stream before the first layer, `[seq][d_model]`.
    pub embeddings: Vec<Vec<f32>>,
    /// The residual stream after each layer, `[n_layers][seq][d_model]`.
    pub layer_outputs: Vec<Vec<Vec<f32>>>,
    /// After the final norm, `[seq][d_model]`.
    pub final_norm: Vec<Vec<f32>>,
    /// Scores after each token of the prompt, `[seq][vocab_size]`.
    pub logits_all: Vec<Vec<f32>>,
    /// The tokens that follow when the best is always taken.
    pub greedy_ids: Vec<u32>,
}

/// Why there is nothing to compare with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GoldenError {
    /// The file cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// The file is something else.
    #[error("{}: no golden numbers: {error}; make the file with tools/golden", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        error: serde_json::Error,
    },
    /// The numbers are another model's.
    #[error(
        "the golden numbers are of another model: {field} is {found:?}, this model has {expected:?}"
    )]
    Shape {
        /// The field.
        field: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The model's.
        expected: Vec<usize>,
    },
    /// A token of the prompt that the model does not have.
    #[error("prompt_ids holds {found}, expected 1 or more token ids below {vocab_size}")]
    Prompt {
        /// The prompt.
        found: String,
        /// Tokens of the model.
        vocab_size: usize,
    },
}

/// How far a model is from golden numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// Largest difference of a number in the residual stream: embeddings, after each layer, after the final norm.
    pub max_abs_err_hidden: f64,
    /// Largest difference of a score.
    pub max_abs_err_logits: f64,
    /// Taking the best token each time gave the same tokens.
    pub greedy_equal: bool,
}

impl Golden {
    /// Reads a `golden.json`.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or lacks a field.
    pub fn open(path: &Path) -> Result<Self, GoldenError> {
        let text =
            std::fs::read(path).map_err(|error| GoldenError::Read { path: path.into(), error })?;
        serde_json::from_slice(&text)
            .map_err(|error| GoldenError::Format { path: path.into(), error })
    }
}

/// Runs the model on the prompt, then greedily, always over the whole sequence.
///
/// # Errors
///
/// Golden numbers whose shapes are not the model's.
pub fn compare(model: &Backbone, golden: &Golden) -> Result<Report, GoldenError> {
    let vocab_size = model.vocab_size();
    let is_known = |ids: &[u32]| ids.iter().all(|id| (*id as usize) < vocab_size);
    if golden.prompt_ids.is_empty() || !is_known(&golden.prompt_ids) {
        return Err(GoldenError::Prompt { found: format!("{:?}", golden.prompt_ids), vocab_size });
    }
    let residuals = model.residuals(tokens(&golden.prompt_ids, model));
    let layers = residuals.layers.len();
    if layers != golden.layer_outputs.len() {
        let found = vec![golden.layer_outputs.len()];
        return Err(GoldenError::Shape { field: "layer_outputs", found, expected: vec![layers] });
    }
    let mut hidden = distance("embeddings", residuals.embeddings, &golden.embeddings)?;
    for (found, expected) in residuals.layers.into_iter().zip(&golden.layer_outputs) {
        hidden = hidden.max(distance("layer_outputs", found, expected)?);
    }
    let logits = model.logits(residuals.normed.clone());
    hidden = hidden.max(distance("final_norm", residuals.normed, &golden.final_norm)?);
    Ok(Report {
        max_abs_err_hidden: hidden,
        max_abs_err_logits: distance("logits_all", logits, &golden.logits_all)?,
        greedy_equal: is_greedy_equal(model, golden),
    })
}

/// The model chooses the same tokens, one by one.
fn is_greedy_equal(model: &Backbone, golden: &Golden) -> bool {
    let mut ids = golden.prompt_ids.clone();
    golden.greedy_ids.iter().all(|expected| {
        let normed = model.residuals(tokens(&ids, model)).normed;
        let last = model.logits(normed.narrow(1, ids.len() - 1, 1));
        let found: i64 = last.argmax(2).into_scalar();
        ids.push(*expected);
        u32::try_from(found) == Ok(*expected)
    })
}

fn tokens(ids: &[u32], model: &Backbone) -> Tensor<2, Int> {
    let device: Device = model.device();
    let ids: Vec<i32> = ids.iter().map(|id| id.cast_signed()).collect();
    let len = ids.len();
    Tensor::from_data(TensorData::new(ids, [1, len]), &device)
}

/// The largest difference; infinite if any is NaN.
fn distance(
    field: &'static str,
    found: Tensor<3>,
    expected: &[Vec<f32>],
) -> Result<f64, GoldenError> {
    let [_, seq, width] = found.dims();
    if expected.len() != seq || expected.iter().any(|row| row.len() != width) {
        let shape = vec![expected.len(), expected.first().map_or(0, Vec::len)];
        return Err(GoldenError::Shape { field, found: shape, expected: vec![seq, width] });
    }
    let found = found.into_data();
    let pairs = found.iter::<f32>().zip(expected.iter().flatten());
    let distances = pairs.map(|(a, b)| (f64::from(a) - f64::from(*b)).abs());
    Ok(distances.fold(
        0.0,
        |most, distance| if distance.is_nan() { f64::INFINITY } else { most.max(distance) },
    ))
}
