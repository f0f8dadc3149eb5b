//! The parameters of a module as plain numbers with names, and back.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor, TensorData};

use super::heads::numbers;

/// One parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its path in the module, as `layers.0.mixer.out_proj.weight`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its numbers, row-major.
    pub values: Vec<f32>,
}

/// Reads all parameters, in the module's own order.
#[must_use]
pub fn read<M: Module>(model: &M) -> Vec<Parameter> {
    let mut reader = Reader::default();
    model.visit(&mut reader);
    reader.found
}

/// Reads the gradient of every parameter, in the module's own order; zeros for a parameter without one.
#[must_use]
pub fn read_gradients<M: Module>(model: &M, gradients: &Gradients) -> Vec<Vec<f32>> {
    let mut reader = GradientReader { gradients, found: Vec::new() };
    model.visit(&mut reader);
    reader.found
}

/// Replaces all parameters by `values`, in the module's own order.
///
/// # Panics
///
/// Panics if `values` are not as many, or not as long, as the parameters.
#[must_use]
pub fn write<M: Module>(model: M, values: &[&[f32]]) -> M {
    let mut writer = Writer { values: values.iter() };
    let model = model.map(&mut writer);
    assert_eq!(writer.values.len(), 0, "one slice for each parameter");
    model
}

#[derive(Default)]
struct Reader {
    path: Vec<String>,
    found: Vec<Parameter>,
}

impl ModuleVisitor for Reader {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let (name, shape) = (self.path.join("."), value.dims().to_vec());
        self.found.push(Parameter { name, shape, values: numbers(value) });
    }
}

struct GradientReader<'g> {
    gradients: &'g Gradients,
    found: Vec<Vec<f32>>,
}

impl ModuleVisitor for GradientReader<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let gradient = value.grad(self.gradients);
        self.found.push(gradient.map_or_else(|| vec![0.0; value.shape().num_elements()], numbers));
    }
}

struct Writer<'v> {
    values: core::slice::Iter<'v, &'v [f32]>,
}

impl ModuleMapper for Writer<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let values = self.values.next().unwrap_or_else(|| panic!("fewer slices than parameters"));
        param.map(|old| {
            let data = TensorData::new(values.to_vec(), old.dims());
            Tensor::from_data(data, &old.device()).require_grad()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::Backbone;
    use crate::train::recipe::{Architecture, tests::toy};
    use burn::tensor::Device;

    #[test]
    fn numbers_come_back_as_they_were_written() {
        let model =
            Backbone::new(&toy(Architecture::Mamba2).config(280, 0), &Device::flex().autodiff());
        let before = read(&model);
        let doubled: Vec<Vec<f32>> =
            before.iter().map(|p| p.values.iter().map(|v| v * 2.0).collect()).collect();
        let model = write(model, &doubled.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let after = read(&model);
        assert_eq!(
            after.iter().map(|p| &p.values).collect::<Vec<_>>(),
            doubled.iter().collect::<Vec<_>>(),
            "doubled"
        );
        assert_eq!(after[0].name, before[0].name, "names stay");
        let mut names: Vec<&str> = after.iter().map(|p| p.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), after.len(), "every name once");
    }
}
