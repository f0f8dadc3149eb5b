//! Fills a module with the numbers of a checkpoint.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};

use super::{Checkpoint, CheckpointError};

impl Checkpoint {
    /// Fills every parameter of `module`, one at a time. A module that was just made takes no memory before.
    ///
    /// # Errors
    ///
    /// A parameter that the checkpoint does not have, a number that is not finite.
    pub fn load<M: Module>(&self, module: M) -> Result<M, CheckpointError> {
        let mut loader = Loader { checkpoint: self, path: Path::default(), error: None };
        let module = module.map(&mut loader);
        loader.error.map_or(Ok(module), Err)
    }
}

struct Loader<'c> {
    checkpoint: &'c Checkpoint,
    path: Path,
    error: Option<CheckpointError>,
}

impl ModuleMapper for Loader<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.error.is_some() {
            return param;
        }
        match self.read(&param) {
            Ok(data) => {
                let (id, value) = (param.id, Tensor::from_data(data, &param.lazy_device()));
                param.transform_for_load(value, id)
            }
            Err(error) => {
                self.error = Some(error);
                param
            }
        }
    }
}

impl Loader<'_> {
    fn read<const D: usize>(
        &self,
        param: &Param<Tensor<D>>,
    ) -> Result<TensorData, CheckpointError> {
        let path = self.path.join();
        let shape = param.lazy_shape();
        let rows = if D == 1 { 1 } else { shape[..D - 1].iter().product() };
        let mut numbers = Vec::new();
        self.checkpoint.read(&path, 0..rows, &mut numbers)?;
        if numbers.len() != shape.num_elements() {
            return Err(CheckpointError::Rows { param: path, rows: 0..rows, count: numbers.len() });
        }
        Ok(TensorData::new(numbers, shape))
    }
}

/// The path of a parameter while a module is walked; the variant of an enum is no part of it.
#[derive(Debug, Default)]
pub(crate) struct Path {
    names: Vec<Option<String>>,
}

impl Path {
    /// Goes into a field.
    pub(crate) fn enter(&mut self, name: &str, container: &str) {
        self.names.push((!container.starts_with("Enum:")).then(|| name.to_owned()));
    }

    /// Goes back out.
    pub(crate) fn exit(&mut self) {
        self.names.pop();
    }

    /// The names so far, with dots between.
    pub(crate) fn join(&self) -> String {
        self.names.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(".")
    }
}
