//! Writes a module as a checkpoint that transformers reads.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path as FilePath;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use safetensors::{Dtype, View};

use super::load::Path;
use super::sources::HEAD;
use super::{CheckpointError, Source, Transform, sources};
use crate::config::Config;

/// Writes `config.json` and `model.safetensors`, f32, into `dir`, which is made if it is not there.
///
/// Only one tensor is copied at a time.
///
/// # Errors
///
/// A module that is not of this config's shape; a folder that cannot be written to.
pub fn export<M: Module>(
    dir: &FilePath,
    config: &Config,
    module: &M,
) -> Result<(), CheckpointError> {
    let mut params = Params::default();
    module.visit(&mut params);
    let prefix = match config {
        Config::Transformer(_) => "model.",
        Config::Mamba(_) | Config::Mamba2(_) => "backbone.",
    };
    let mut tensors: BTreeMap<String, Exported<'_>> = BTreeMap::new();
    let sources = sources(config);
    for source in &sources {
        let param = params.numbers.get(&source.param);
        let param = param.ok_or_else(|| CheckpointError::Param { param: source.param.clone() })?;
        let prefix = if source.tensor == HEAD { "" } else { prefix };
        let tensor = tensors.entry(format!("{prefix}{}", source.tensor)).or_default();
        tensor.shape = &source.tensor_shape;
        tensor.parts.push((source, param));
    }
    let write = |path: &FilePath, error| CheckpointError::Write { path: path.into(), error };
    std::fs::create_dir_all(dir).map_err(|error| write(dir, error))?;
    let path = dir.join("config.json");
    std::fs::write(&path, config.to_json()).map_err(|error| write(&path, error))?;
    let (path, part) = (dir.join("model.safetensors"), dir.join("model.safetensors.part"));
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let written = safetensors::serialize_to_file(tensors, Some(metadata), &part)
        .map_err(|error| std::io::Error::other(error.to_string()))
        .and_then(|()| make_readable(&part))
        .and_then(|()| std::fs::rename(&part, &path));
    written.map_err(|error| {
        // Half a file is of no use, and a full disk needs the room.
        let _ = std::fs::remove_file(&part);
        write(&path, error)
    })
}

/// The library makes files that nobody but their owner reads; a checkpoint is as readable as any other new file.
fn make_readable(path: &FilePath) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// Makes the numbers of a parameter when they are needed.
type Numbers = Box<dyn Fn() -> Vec<f32>>;

#[derive(Default)]
struct Params {
    path: Path,
    numbers: HashMap<String, Numbers>,
}

impl ModuleVisitor for Params {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let numbers = move || value.to_data().iter::<f32>().collect();
        self.numbers.insert(self.path.join(), Box::new(numbers));
    }
}

/// A tensor of the file: the parameters that are its rows, in order.
#[derive(Default)]
struct Exported<'p> {
    shape: &'p [usize],
    parts: Vec<(&'p Source, &'p Numbers)>,
}

impl View for Exported<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = Vec::with_capacity(self.data_len());
        for (source, numbers) in &self.parts {
            let numbers = numbers();
            let (rows, width) = source.matrix_shape();
            let index = |position: usize| match source.transform {
                Transform::Plain => position,
                // The parameter is [rows, width], the tensor [width, rows].
                Transform::Transpose => (position % rows) * width + position / rows,
            };
            bytes.extend(
                (0..numbers.len()).flat_map(|position| numbers[index(position)].to_le_bytes()),
            );
        }
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * size_of::<f32>()
    }
}
