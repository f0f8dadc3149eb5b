//! Exits on disk, beside a model or by themselves.
//!
//! ```text
//! DIR/exits.json           which backbone they belong to, where they are and of what kind, how well they did
//! DIR/exits.safetensors    their weights, f32, named as in the module: exits.0.classifier.norm.weight
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use dynamax_bundle::Hash;
use serde::{Deserialize, Serialize};

use super::{Evaluation, ExitConfig, Exits, ExitsConfig, ExitsError};
use crate::checkpoint::{Checkpoint, CheckpointError, ModulePath, Source, Transform};
use crate::config::Config;
use crate::train::heads::numbers;
use crate::train::state;

/// The version of `exits.json` that this code writes and reads.
const FORMAT: u32 = 1;

/// What `exits.json` holds.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    format: u32,
    architecture: String,
    d_model: usize,
    n_layers: usize,
    vocab_size: usize,
    norm_eps: f64,
    fingerprint: String,
    exits: Vec<ExitConfig>,
    /// How well they did on held-out text, if that was measured.
    training: Option<Evaluation>,
}

/// Writes exits of the backbone that `config` and `fingerprint` are of.
///
/// # Errors
///
/// A folder that cannot be written to, weights that are not finite; what was there before stays.
pub fn write(
    dir: &Path,
    (config, fingerprint): (&Config, &Hash),
    exits_config: &ExitsConfig,
    exits: &Exits,
    training: Option<Evaluation>,
) -> Result<(), ExitsError> {
    let path = dir.join("exits.safetensors");
    let mut reader = Reader::default();
    exits.visit(&mut reader);
    for (tensor, (_, numbers)) in &reader.found {
        if let Some(index) = numbers.iter().position(|number| !number.is_finite()) {
            let (tensor, found) = (tensor.clone(), numbers[index]);
            let error = CheckpointError::NotFinite { tensor, index, found };
            return Err(ExitsError::weights(path, error));
        }
    }
    let tensors = reader.found.iter().map(|(name, (shape, values))| {
        (name.clone(), state::Numbers { shape: shape.as_slice(), values: values.as_slice() })
    });
    let format = |path: &Path, reason: String| ExitsError::Format { path: path.into(), reason };
    let bytes =
        safetensors::serialize(tensors, None).map_err(|error| format(&path, error.to_string()))?;
    let description = Description {
        format: FORMAT,
        architecture: config.architecture().into(),
        d_model: config.d_model(),
        n_layers: config.n_layers(),
        vocab_size: config.vocab_size(),
        norm_eps: exits_config.norm_eps,
        fingerprint: fingerprint.to_string(),
        exits: exits_config.exits.clone(),
        training,
    };
    let json = dir.join("exits.json");
    let text = serde_json::to_string_pretty(&description)
        .map_err(|error| format(&json, error.to_string()))?;
    put(path, &bytes)?;
    put(json, format!("{text}\n").as_bytes())
}

fn put(path: PathBuf, bytes: &[u8]) -> Result<(), ExitsError> {
    state::put(&path, bytes).map_err(|error| ExitsError::Write { path, error })
}

/// Opens the exits in `dir`, and checks that they are of the backbone that `config` and `fingerprint` are of. Their
/// weights are read as those of a checkpoint are.
///
/// # Errors
///
/// Files that are missing or broken, exits of another backbone, and weights that do not fit or are not finite, by name.
pub fn open(
    dir: &Path,
    config: &Config,
    fingerprint: &Hash,
) -> Result<(ExitsConfig, Checkpoint), ExitsError> {
    let path = dir.join("exits.json");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| ExitsError::Read { path: path.clone(), error })?;
    let exits = describe(&path, &text, config, fingerprint)?;
    let path = dir.join("exits.safetensors");
    let checkpoint = Checkpoint::open_file(&path, sources(&exits))
        .map_err(|error| ExitsError::weights(path.clone(), error))?;
    let mut numbers = Vec::new();
    for source in sources(&exits) {
        let (rows, _) = source.matrix_shape();
        // Exits are small: every number is looked at.
        checkpoint
            .read(&source.param, 0..rows, &mut numbers)
            .map_err(|error| ExitsError::weights(path.clone(), error))?;
    }
    Ok((exits, checkpoint))
}

/// Reads a description, and checks it against the backbone.
fn describe(
    path: &Path,
    text: &str,
    config: &Config,
    fingerprint: &Hash,
) -> Result<ExitsConfig, ExitsError> {
    let format = |reason: String| ExitsError::Format { path: path.into(), reason };
    let version: Version =
        serde_json::from_str(text).map_err(|error| format(format!("no description: {error}")))?;
    if version.format != FORMAT {
        return Err(format(format!("format is {}, this program reads {FORMAT}", version.format)));
    }
    let found: Description =
        serde_json::from_str(text).map_err(|error| format(format!("no description: {error}")))?;
    let fields = [
        ("architecture", found.architecture, config.architecture().to_owned()),
        ("d_model", found.d_model.to_string(), config.d_model().to_string()),
        ("n_layers", found.n_layers.to_string(), config.n_layers().to_string()),
        ("vocab_size", found.vocab_size.to_string(), config.vocab_size().to_string()),
        ("fingerprint", found.fingerprint, fingerprint.to_string()),
    ];
    for (field, found, expected) in fields {
        if found != expected {
            return Err(ExitsError::OtherModel { path: path.into(), field, found, expected });
        }
    }
    let exits =
        ExitsConfig { d_model: found.d_model, norm_eps: found.norm_eps, exits: found.exits };
    exits.check(config.n_layers()).map_err(format)?;
    Ok(exits)
}

/// Read first: another version may have other fields.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

/// Every parameter of the exits is a tensor of its name.
#[must_use]
pub fn sources(config: &ExitsConfig) -> Vec<Source> {
    let mut shapes = Shapes::default();
    Exits::new(config, &Device::flex()).visit(&mut shapes);
    let source = |(param, shape): (String, Vec<usize>)| Source {
        tensor: param.clone(),
        tensor_shape: shape.clone(),
        rows: 0..shape[0],
        transform: Transform::Plain,
        param,
        shape,
    };
    shapes.found.into_iter().map(source).collect()
}

/// Shapes of parameters that nobody has drawn yet.
#[derive(Default)]
struct Shapes {
    path: ModulePath,
    found: Vec<(String, Vec<usize>)>,
}

impl ModuleVisitor for Shapes {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.push((self.path.join(), param.lazy_shape().to_vec()));
    }
}

#[derive(Default)]
struct Reader {
    path: ModulePath,
    found: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl ModuleVisitor for Reader {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        self.found.insert(self.path.join(), (value.dims().to_vec(), numbers(value)));
    }
}

#[cfg(test)]
mod tests;
