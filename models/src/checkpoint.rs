//! Checkpoints as Hugging Face lays them out: safetensors, mapped, read a few rows at a time.
//!
//! ```text
//! config.json ─▶ Config ─▶ sources: for each parameter of the module, which rows of which tensor
//! model.safetensors, or an index and shards ─▶ mapped ─▶ checked against the sources ─▶ rows of f32
//! ```
//!
//! All names and shapes are checked when a checkpoint is opened, before a number is read. Only the rows that are asked
//! for come into memory, so that a model of any size is converted in little.

mod error;
mod export;
mod load;
mod mapped;
mod sources;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use dynamax_bundle::{Hash, Hasher};

use crate::backbone::Backbone;
use crate::config::Config;

pub use error::CheckpointError;
pub use export::export;
pub(crate) use load::Path as ModulePath;
pub use sources::{Source, Transform, sources};

use mapped::Tensors;

/// Bytes of each tensor that [`Checkpoint::fingerprint`] reads.
const FINGERPRINT_BYTES: usize = 4096;

/// The weights of a model, and which parameter each belongs to.
#[derive(Debug)]
pub struct Checkpoint {
    tensors: Tensors,
    sources: BTreeMap<String, Source>,
    warnings: Vec<String>,
}

/// Loads a whole model into memory, on Burn's CPU device.
///
/// # Errors
///
/// As for [`Checkpoint::open`] and [`Checkpoint::read`].
pub fn load_model(dir: &Path, config: &Config) -> Result<Backbone, CheckpointError> {
    let checkpoint = Checkpoint::open(dir, config)?;
    checkpoint.load(Backbone::new(config, &burn::tensor::Device::flex()))
}

impl Checkpoint {
    /// Maps the weights in `dir`, and checks that they are those of a model of this shape: no tensor missing, none
    /// unknown, every shape as expected.
    ///
    /// # Errors
    ///
    /// Files that are missing or broken, and tensors that do not fit, by name.
    pub fn open(dir: &Path, config: &Config) -> Result<Self, CheckpointError> {
        Self::of(Tensors::open(dir)?, sources(config), config.is_tied())
    }

    /// Maps one file, and checks that its tensors are those of `sources`.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub(crate) fn open_file(path: &Path, sources: Vec<Source>) -> Result<Self, CheckpointError> {
        Self::of(Tensors::open_file(path)?, sources, false)
    }

    fn of(tensors: Tensors, sources: Vec<Source>, is_tied: bool) -> Result<Self, CheckpointError> {
        let mut warnings = Vec::new();
        check(&tensors, &sources, is_tied, &mut warnings)?;
        let sources = sources.into_iter().map(|source| (source.param.clone(), source)).collect();
        Ok(Self { tensors, sources, warnings })
    }

    /// Tells these weights from others: a hash over the shape of the model and, tensor by tensor in the order of their
    /// names, name, shape and first bytes. It reads a few pages of each, whatever their size; any training changes it.
    #[must_use]
    pub fn fingerprint(&self, config: &Config) -> Hash {
        let mut hasher = Hasher::new();
        let sizes = [config.d_model(), config.n_layers(), config.vocab_size()];
        hasher.update(config.architecture().as_bytes());
        hasher.update(format!(" {sizes:?}").as_bytes());
        for name in self.tensors.names() {
            let (shape, bytes) = self.tensors.first_bytes(name, FINGERPRINT_BYTES);
            hasher.update(format!(" {name} {shape:?} ").as_bytes());
            hasher.update(bytes);
        }
        hasher.finish()
    }

    /// What a user should know, though the checkpoint can be used.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Reads rows of a parameter into `out`, whose content is replaced. A vector is one row.
    ///
    /// # Errors
    ///
    /// A parameter that the model does not have, rows that it does not have, a number that is not finite.
    pub fn read(
        &self,
        param: &str,
        rows: Range<usize>,
        out: &mut Vec<f32>,
    ) -> Result<(), CheckpointError> {
        let source = self.sources.get(param);
        let source = source.ok_or_else(|| CheckpointError::Param { param: param.into() })?;
        let (count, width) = source.matrix_shape();
        if rows.start > rows.end || rows.end > count {
            return Err(CheckpointError::Rows { param: param.into(), rows, count });
        }
        out.clear();
        match source.transform {
            Transform::Plain => {
                let start = source.first_number() + rows.start * width;
                self.tensors.numbers(&source.tensor, start..start + rows.len() * width, out)
            }
            Transform::Transpose => {
                let mut numbers = Vec::new();
                self.tensors.numbers(&source.tensor, 0..count * width, &mut numbers)?;
                out.extend(rows.flat_map(|row| (0..width).map(move |column| (row, column))).map(
                    // The stored matrix is [width, count].
                    |(row, column)| numbers[column * count + row],
                ));
                Ok(())
            }
        }
    }

    /// Reads rows of a tensor as it is stored into `out`, whose content is replaced; a row is all but the first axis.
    ///
    /// # Errors
    ///
    /// A tensor or rows that are not there, a number that is not finite.
    pub fn rows(
        &self,
        tensor: &str,
        rows: Range<usize>,
        out: &mut Vec<f32>,
    ) -> Result<(), CheckpointError> {
        let shape = self.tensors.shape(tensor);
        let shape = shape
            .ok_or_else(|| CheckpointError::Missing { tensor: tensor.into(), shape: Vec::new() })?;
        let (count, width) =
            shape.split_first().map_or((1, 1), |(count, rest)| (*count, rest.iter().product()));
        if rows.start > rows.end || rows.end > count {
            return Err(CheckpointError::Rows { param: tensor.into(), rows, count });
        }
        out.clear();
        self.tensors.numbers(tensor, rows.start * width..rows.end * width, out)
    }
}

/// Checks names and shapes.
fn check(
    tensors: &Tensors,
    sources: &[Source],
    is_tied: bool,
    warnings: &mut Vec<String>,
) -> Result<(), CheckpointError> {
    let expected: BTreeMap<&str, &Source> =
        sources.iter().map(|source| (source.tensor.as_str(), source)).collect();
    for (name, source) in &expected {
        let shape = source.tensor_shape.clone();
        match tensors.shape(name) {
            None => return Err(CheckpointError::Missing { tensor: (*name).into(), shape }),
            Some(found) if found != shape => {
                return Err(CheckpointError::Shape {
                    tensor: (*name).into(),
                    found: found.into(),
                    expected: shape,
                });
            }
            Some(_) => {}
        }
    }
    for name in tensors.names().filter(|name| !expected.contains_key(name)) {
        let table = sources.first().map_or("", |source| source.tensor.as_str());
        if name == sources::HEAD && is_tied {
            if !tensors.are_equal(name, table) {
                return Err(CheckpointError::Untied { table: table.into() });
            }
        } else if name.ends_with(".rotary_emb.inv_freq") {
            warnings.push(format!("{name} is ignored: rotary frequencies follow from config.json"));
        } else {
            return Err(CheckpointError::Unknown { tensor: name.into() });
        }
    }
    Ok(())
}
