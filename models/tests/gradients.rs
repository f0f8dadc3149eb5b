//! The forward passes differentiate: every parameter learns, and gradients are what finite differences say.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use dynamax_models::Config;
use dynamax_models::backbone::Backbone;
use dynamax_models::config::{Mamba2Config, MambaConfig, TransformerConfig};

fn configs() -> [Config; 3] {
    let transformer = TransformerConfig {
        vocab_size: 16,
        d_model: 12,
        d_ff: 20,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 4,
        windows: vec![0, 3],
        has_qkv_bias: true,
        has_qk_norm: true,
        ..TransformerConfig::default()
    };
    let mamba = MambaConfig {
        vocab_size: 16,
        d_model: 8,
        d_inner: 16,
        d_state: 4,
        dt_rank: 2,
        n_layers: 2,
        ..MambaConfig::default()
    };
    let mamba2 = Mamba2Config {
        vocab_size: 16,
        d_model: 8,
        n_heads: 4,
        head_dim: 4,
        n_groups: 2,
        d_state: 4,
        chunk_size: 4,
        n_layers: 2,
        ..Mamba2Config::default()
    };
    [Config::Transformer(transformer), Config::Mamba(mamba), Config::Mamba2(mamba2)]
}

fn loss(model: &Backbone, device: &Device) -> Tensor<1> {
    let ids: Vec<i32> = (0..22).map(|index| index * 7 % 16).collect();
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(ids, [2, 11]), device);
    let logits = model.forward(tokens);
    (logits.clone() * logits.sin()).mean()
}

/// Counts parameters, and names those that learn nothing.
struct Learns<'g> {
    gradients: &'g Gradients,
    path: Vec<String>,
    count: usize,
    still: Vec<String>,
}

impl ModuleVisitor for Learns<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.count += 1;
        let size = param
            .val()
            .grad(self.gradients)
            .map(|gradient| gradient.abs().sum().into_scalar::<f32>());
        if !size.is_some_and(|size| size.is_finite() && size > 0.0) {
            self.still.push(format!("{}: {size:?}", self.path.join(".")));
        }
    }
}

#[test]
fn every_parameter_of_every_backbone_learns() {
    let device = Device::flex().autodiff();
    for config in configs() {
        let model = Backbone::new(&config, &device);
        let gradients = loss(&model, &device).backward();
        let mut learns =
            Learns { gradients: &gradients, path: Vec::new(), count: 0, still: Vec::new() };
        model.visit(&mut learns);
        assert!(learns.count > 20, "{}: {} parameters", config.architecture(), learns.count);
        // Softmax does not see what is added to every score: a bias of keys has no gradient without the norm behind it.
        assert!(learns.still.is_empty(), "{}: {:?}", config.architecture(), learns.still);
    }
}

#[test]
fn gradients_are_what_finite_differences_say() {
    let device = Device::flex().autodiff();
    device.seed(7);
    for config in configs() {
        let model = Backbone::new(&config, &device);
        let gradients = loss(&model, &device).backward();
        let table = table(&model).val();
        let direction = table.grad(&gradients).expect("the table learns");
        let norm: f32 = direction.clone().square().sum().sqrt().into_scalar();
        // Along its gradient, the loss grows by the gradient's length per step.
        let step = 1e-3 * f32::sqrt(table.shape().num_elements() as f32) * 0.02 / norm;
        let moved = |sign: f32| {
            let value = table.clone().inner() + direction.clone() * (sign * step);
            let moved = with_table(model.clone(), Tensor::from_data(value.into_data(), &device));
            f64::from(loss(&moved, &device).into_scalar::<f32>())
        };
        let slope = (moved(1.0) - moved(-1.0)) / (2.0 * f64::from(step));
        let expected = f64::from(norm) * f64::from(norm);
        let error = (slope - expected).abs() / expected;
        assert!(error < 2e-3, "{}: {slope} and {expected}", config.architecture());
    }
}

fn table(model: &Backbone) -> &Param<Tensor<2>> {
    match model {
        Backbone::Transformer(model) => &model.embed_tokens.weight,
        Backbone::Mamba(model) => &model.embeddings.weight,
        Backbone::Mamba2(model) => &model.embeddings.weight,
    }
}

fn with_table(mut model: Backbone, value: Tensor<2>) -> Backbone {
    let table = match &mut model {
        Backbone::Transformer(model) => &mut model.embed_tokens.weight,
        Backbone::Mamba(model) => &mut model.embeddings.weight,
        Backbone::Mamba2(model) => &mut model.embeddings.weight,
    };
    *table = Param::from_tensor(value);
    model
}
