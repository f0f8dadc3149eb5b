//! Checkpoints: safetensors as Hugging Face lays them out, or one GGUF file; mapped, read a few rows at a time.
//!
//! ```text
//! config.json ─▶ Config ─▶ sources: for each parameter of the module, which rows of which tensor
//! model.safetensors, or an index and shards ─▶ mapped ─▶ checked against the sources ─▶ rows of f32
//! model.gguf: keys ─▶ Config;  tensors ──────▶ renamed as in transformers ──────────▶ rows of f32, or of blocks
//! ```
//!
//! All names and shapes are checked when a checkpoint is opened, before a number is read. Only the rows that are asked
//! for come into memory, so that a model of any size is converted in little.

mod encoding;
mod error;
mod export;
mod load;
mod mapped;
mod sources;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use dynamax_bundle::{DType, Hash, Hasher};

use crate::backbone::Backbone;
use crate::config::Config;
use crate::gguf::Gguf;

pub use encoding::Encoding;
pub use error::CheckpointError;
pub use export::export;
pub(crate) use load::Path as ModulePath;
pub(crate) use mapped::map;
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
    /// Maps the weights in `dir`, or in the GGUF file `dir`, and checks that they are those of a model of this shape: no tensor missing, none
    /// unknown, every shape as expected.
    ///
    /// # Errors
    ///
    /// Files that are missing or broken, and tensors that do not fit, by name.
    pub fn open(dir: &Path, config: &Config) -> Result<Self, CheckpointError> {
        let tensors = if Gguf::is_one(dir) {
            Tensors::open_gguf(Gguf::open(dir)?, config)?
        } else {
            Tensors::open(dir)?
        };
        Self::of(tensors, sources(config), config.is_tied())
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
        let source = self.source(param, &rows)?;
        self.read_stored(source, rows, out)?;
        if !self.tensors.is_neg_exp(&source.tensor) {
            return Ok(());
        }
        if let Some(index) = out.iter().position(|number| *number >= 0.0) {
            let (tensor, found) = (param.into(), out[index]);
            return Err(CheckpointError::NotNegative { tensor, index, found });
        }
        out.iter_mut().for_each(|number| *number = (-f64::from(*number)).ln() as f32);
        Ok(())
    }

    /// Reads `-exp` of rows of a parameter into `out`, whose content is replaced: `a` of the state-space operators, as Gu
    /// & Dao 2023 have it in section 3.6. What a GGUF file holds is that already, and is taken as it is.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    pub fn read_neg_exp(
        &self,
        param: &str,
        rows: Range<usize>,
        out: &mut Vec<f32>,
    ) -> Result<(), CheckpointError> {
        let source = self.source(param, &rows)?;
        self.read_stored(source, rows, out)?;
        if !self.tensors.is_neg_exp(&source.tensor) {
            // Through f64: exact to the last bit but one.
            out.iter_mut().for_each(|number| *number = -f64::from(*number).exp() as f32);
        }
        Ok(())
    }

    /// How the numbers of a parameter are written, and what the file calls its tensor.
    #[must_use]
    pub fn encoding(&self, param: &str) -> Option<(Encoding, &str)> {
        self.tensors.encoding(&self.sources.get(param)?.tensor)
    }

    /// The stored type that is closest to how most numbers are written.
    #[must_use]
    pub fn most_common(&self) -> DType {
        let mut numbers: BTreeMap<&str, (usize, DType)> = BTreeMap::new();
        for source in self.sources.values() {
            if let Some((encoding, _)) = self.tensors.encoding(&source.tensor) {
                let dtype = encoding.closest();
                let entry = numbers.entry(dtype.name()).or_insert((0, dtype));
                entry.0 += source.shape.iter().product::<usize>();
            }
        }
        let most = numbers.into_values().max_by_key(|(count, _)| *count);
        most.map_or(DType::F32, |(_, dtype)| dtype)
    }

    /// Reads rows of a matrix into `out`, whose content is replaced, as blocks of `dtype` one after the other; its
    /// [encoding](Self::encoding) is one that is [carried](Encoding::is_carried_as) so.
    ///
    /// # Errors
    ///
    /// A parameter that the model does not have, rows that it does not have.
    pub fn read_blocks(
        &self,
        param: &str,
        rows: Range<usize>,
        dtype: DType,
        out: &mut Vec<u8>,
    ) -> Result<(), CheckpointError> {
        let source = self.source(param, &rows)?;
        let (_, width) = source.matrix_shape();
        let start = source.first_number() + rows.start * width;
        out.clear();
        self.tensors.blocks(&source.tensor, start..start + rows.len() * width, dtype, out)
    }

    /// Where a parameter comes from; it must have these rows.
    fn source(&self, param: &str, rows: &Range<usize>) -> Result<&Source, CheckpointError> {
        let source = self.sources.get(param);
        let source = source.ok_or_else(|| CheckpointError::Param { param: param.into() })?;
        let (count, _) = source.matrix_shape();
        if rows.start > rows.end || rows.end > count {
            return Err(CheckpointError::Rows { param: param.into(), rows: rows.clone(), count });
        }
        Ok(source)
    }

    /// Reads rows of a parameter as they are stored.
    fn read_stored(
        &self,
        source: &Source,
        rows: Range<usize>,
        out: &mut Vec<f32>,
    ) -> Result<(), CheckpointError> {
        let (count, width) = source.matrix_shape();
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
