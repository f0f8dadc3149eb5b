//! The deployed step against the training pass, and what becomes of it on the capture device.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::{Device, Int, Tensor, TensorData};
use dynamax_bundle::{DType, Kind, Op};
use dynamax_models::backbone::Backbone;
use dynamax_models::capture::{CaptureOptions, Captured, capture};
use dynamax_models::config::{Mamba2Config, MambaConfig, TransformerConfig};
use dynamax_models::step::Step;
use dynamax_models::{Config, load_model};

/// Checkpoints with every switch that an architecture has, small enough to be checked in.
fn golden() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let entries = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut dirs: Vec<_> = entries.filter(|dir| dir.join("config.json").exists()).collect();
    dirs.sort();
    assert!(dirs.len() >= 5, "checkpoints in tests/golden");
    dirs
}

fn integers(numbers: &[i64], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(numbers.to_vec(), [numbers.len()]), device)
}

/// The largest difference, as a part of the largest number.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len(), "numbers");
    let largest = expected.iter().fold(0.0_f32, |largest, number| largest.max(number.abs()));
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0_f32, f32::max);
    worst / largest
}

#[test]
fn steps_of_any_length_equal_the_whole_sequence() {
    let device = Device::flex();
    for dir in golden() {
        let config = Config::open(&dir).unwrap();
        let model = load_model(&dir, &config).unwrap();
        let count = 24;
        let tokens: Vec<i64> =
            (0..count).map(|i| (i * i * 31 + 7) % config.vocab_size() as i64).collect();
        let whole = model.forward(integers(&tokens, &device).reshape([1, count as usize]));
        let whole: Vec<f32> = whole.into_data().iter().collect();
        let expected: Vec<&[f32]> = whole.chunks(config.vocab_size()).collect();
        for rows in [1, 5, 24] {
            let mut states = model.states(tokens.len(), &device);
            for start in (0..tokens.len()).step_by(rows) {
                let end = tokens.len().min(start + rows);
                let position = integers(&[start as i64], &device);
                let out = model.step(integers(&tokens[start..end], &device), position, states);
                states = out.states;
                assert_eq!(out.residuals.len(), config.n_layers(), "residuals");
                let found: Vec<f32> = out.logits.into_data().iter().collect();
                let error = difference(&found, expected[end - 1]);
                assert!(error < 1e-4, "{}: {rows} rows, token {end}: {error}", dir.display());
            }
        }
    }
}

fn captured(config: &Config, options: &CaptureOptions) -> Captured {
    capture(|device| Backbone::new(config, device), options).unwrap()
}

/// The operators of one layer.
fn layer(config: &Config) -> Vec<&'static str> {
    let captured = captured(config, &CaptureOptions::default());
    let ops: Vec<_> = captured.program.ops.iter().map(Op::name).collect();
    let head = ["select", "rms_norm", "linear"];
    assert_eq!(ops[ops.len() - 3..], head, "head");
    let first = ops.iter().position(|name| *name == "rms_norm").unwrap();
    let layers = &ops[first..ops.len() - 3];
    let (one, others) = layers.split_at(layers.len() / config.n_layers());
    assert!(others.chunks(one.len()).all(|other| other == one), "all layers are alike");
    one.to_vec()
}

#[test]
fn a_layer_of_each_backbone_is_the_operators_it_should_be() {
    let transformer = layer(&Config::Transformer(TransformerConfig::default()));
    let attention =
        ["rms_norm", "linear", "rope", "linear", "rope", "linear", "attention", "linear", "add"];
    let feed_forward = ["rms_norm", "linear", "linear", "swiglu", "linear", "add"];
    assert_eq!(transformer, [&attention[..], &feed_forward].concat(), "transformer");
    let expected = [
        "rms_norm",
        "linear",
        "linear",
        "causal_conv",
        "linear",
        "linear",
        "linear",
        "selective_scan",
        "swiglu",
        "linear",
        "add",
    ];
    assert_eq!(layer(&Config::Mamba(MambaConfig::default())), expected, "mamba");
    let expected = [
        "rms_norm",
        "linear",
        "linear",
        "causal_conv",
        "linear",
        "state_space_dual",
        "gated_rms_norm",
        "linear",
        "add",
    ];
    assert_eq!(layer(&Config::Mamba2(Mamba2Config::default())), expected, "mamba2");
}

#[test]
fn weights_are_named_as_in_the_checkpoint() {
    let config = Config::Transformer(TransformerConfig { has_qk_norm: true, ..Default::default() });
    let captured = captured(&config, &CaptureOptions::default());
    let names: Vec<_> = captured.weights.iter().map(|weight| weight.param.as_str()).collect();
    for name in
        ["embed_tokens.weight", "layers.1.self_attn.q_norm.weight", "layers.0.mlp.up_proj.weight"]
    {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
}

#[test]
fn every_golden_checkpoint_can_be_cut_after_every_layer() {
    for dir in golden() {
        let config = Config::open(&dir).unwrap();
        let exits: Vec<usize> = (1..config.n_layers()).collect();
        let options = CaptureOptions { exits, ..CaptureOptions::default() };
        let captured = captured(&config, &options);
        assert_eq!(captured.program.segments.len(), config.n_layers(), "{}", dir.display());
    }
}

#[test]
fn windows_and_storage_reach_the_caches() {
    let config = Config::Transformer(TransformerConfig {
        n_layers: 2,
        windows: vec![0, 3],
        ..TransformerConfig::default()
    });
    let options = CaptureOptions { quant: DType::Q4, kv: DType::F16, ..CaptureOptions::default() };
    let captured = captured(&config, &options);
    let states = captured.program.tensors.iter().filter(|tensor| tensor.kind == Kind::State);
    let caches: Vec<_> = states.map(|state| (state.rows, state.dtype)).collect();
    let cache = |window| (dynamax_bundle::Rows::Cache { window }, DType::F16);
    assert_eq!(caches, [cache(0), cache(0), cache(3), cache(3)], "keys and values of each layer");
}

#[test]
fn a_model_of_seven_billion_weights_is_captured_without_them() {
    let config = Config::Transformer(TransformerConfig {
        vocab_size: 32_000,
        d_model: 4096,
        d_ff: 14_336,
        n_layers: 32,
        n_heads: 32,
        n_kv_heads: 8,
        head_dim: 128,
        windows: vec![4096; 32],
        is_tied: false,
        ..TransformerConfig::default()
    });
    let start = Instant::now();
    let captured = captured(&config, &CaptureOptions::default());
    let seconds = start.elapsed().as_secs_f64();
    println!("captured in {:.1} ms", seconds * 1e3);
    let numbers: u64 = captured.weights.iter().map(|weight| weight.numbers()).sum();
    assert!((7_200_000_000..7_300_000_000).contains(&numbers), "{numbers} weights");
    assert_eq!(captured.program.ops.len(), 2 + 32 * 15 + 3, "operators");
    assert!(seconds < 1.0, "captured in {seconds} s");
}
