//! A model is the same from transformers and from GGUF: every byte of the bundle, and the golden numbers.

use std::path::Path;

use dynamax_bundle::{Bundle, DType, SectionKind};
use dynamax_models::build::{BuildOptions, Draft};
use dynamax_models::checkpoint::Checkpoint;
use dynamax_models::config::RopeScaling;
use dynamax_models::golden::{Golden, compare};
use dynamax_models::{Config, load_model};
use serde_json::{Value as Json, json};

use super::convert::convert;
use super::writer::{Value, Writer};
use super::{file, golden};

/// The largest difference from transformers that passes, as for safetensors.
const TOLERANCE: f64 = 1e-3;

/// A checkpoint whose configuration says nothing that GGUF cannot.
fn edited(name: &str, edit: impl FnOnce(&mut Json)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(golden(name)).unwrap() {
        let path = entry.unwrap().path();
        // The configuration has a style of its own for each transformers, and the golden numbers are large.
        if !path.ends_with("golden.json") && !path.ends_with("generation_config.json") {
            std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let path = folder.path().join("config.json");
    let mut config = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    edit(&mut config);
    std::fs::write(&path, config.to_string()).unwrap();
    folder
}

/// The bytes of each weight of a bundle, by name, and the Program.
fn bundle(from: &Path, quant: DType) -> (String, Vec<(String, Vec<u8>)>) {
    let options = BuildOptions { quant: Some(quant), context: Some(64), ..BuildOptions::default() };
    let bytes = Draft::open(from, &options).unwrap().assemble().unwrap();
    let lines = dynamax_engine::Line::copy_from(&bytes);
    let bundle = Bundle::parse(dynamax_engine::Line::as_bytes(&lines, bytes.len())).unwrap();
    let weights = bundle.sections().filter(|section| section.kind == SectionKind::Weight);
    let weights = weights.map(|section| (section.name.to_owned(), section.bytes.to_vec()));
    (format!("{:?}", bundle.program_buf().unwrap()), weights.collect())
}

/// Both ways give the same Program and the same bytes, and the GGUF file agrees with the golden numbers.
fn are_the_same(name: &str, edit: impl FnOnce(&mut Json), add: impl FnOnce(&mut Writer)) {
    let folder = edited(name, edit);
    let mut writer = convert(folder.path());
    add(&mut writer);
    let (_kept, path) = file(&writer.bytes());
    let (from, to) =
        (Config::open(folder.path()).unwrap().to_json(), Config::open(&path).unwrap().to_json());
    println!("{from} and {to}");
    for quant in [DType::F32, DType::Q4] {
        let (theirs, ours) = (bundle(folder.path(), quant), bundle(&path, quant));
        assert_eq!(theirs.0, ours.0, "{name}: Program");
        assert_eq!(theirs.1.len(), ours.1.len(), "{name}: weights");
        for (theirs, ours) in theirs.1.iter().zip(&ours.1) {
            assert_eq!(theirs.0, ours.0, "{name}: names");
            assert!(theirs.1 == ours.1, "{name}: {} differs", theirs.0);
        }
    }
}

/// The numbers of transformers come out of a model that was loaded from GGUF.
fn agrees(name: &str) {
    let (_kept, path) = file(&convert(&golden(name)).bytes());
    let model = load_model(&path, &Config::open(&path).unwrap()).unwrap();
    let report =
        compare(&model, &Golden::open(&golden(name).join("golden.json")).unwrap()).unwrap();
    println!("{name}: {report:?}");
    assert!(report.max_abs_err_hidden <= TOLERANCE, "{name}: {report:?}");
    assert!(report.max_abs_err_logits <= TOLERANCE, "{name}: {report:?}");
    assert!(report.greedy_equal, "{name}: {report:?}");
}

/// One test for each checkpoint.
macro_rules! checkpoints {
    ($($test:ident: $name:literal;)*) => {
        $(#[test]
        fn $test() {
            are_the_same($name, |_| (), |_| ());
            agrees($name);
        })*
    };
}

checkpoints! {
    llama_is_the_same: "llama-mha-tied";
    mistral_with_a_window_is_the_same: "mistral-gqa-swa";
    mistral_is_the_same: "mistral-bf16-sharded";
    mamba_is_the_same: "mamba1-tied";
    mamba_with_biases_is_the_same: "mamba-biases";
    mamba2_is_the_same: "mamba2-groups1-tied";
    mamba2_with_groups_is_the_same: "mamba2-groups2-untied";
}

#[test]
fn qwen2_with_biases_is_the_same() {
    are_the_same(
        "qwen2-bias-windows",
        |config| config["use_sliding_window"] = json!(false),
        |_| (),
    );
}

#[test]
fn qwen3_with_norms_is_the_same() {
    let plain = json!({"rope_type": "default", "rope_theta": 10000.0});
    are_the_same("qwen3-norms-llama3-rope", |config| config["rope_parameters"] = plain, |_| ());
}

#[test]
fn mamba2_that_clamps_is_the_same_but_for_what_gguf_cannot_say() {
    are_the_same("mamba2-biases-clamp", |config| config["time_step_limit"] = json!(null), |_| ());
}

/// The divisors that llama.cpp's conversion computes from a Llama 3's `rope_scaling`.
fn divisors(theta: f64, head_dim: usize, factor: f64, original: f64) -> Vec<f32> {
    let divisor = |i: usize| {
        let wavelength = std::f64::consts::TAU * theta.powf(2.0 * i as f64 / head_dim as f64);
        let (low, high) = (original / 1.0, original / 4.0);
        if wavelength < high {
            1.0
        } else if wavelength > low {
            factor
        } else {
            let smooth = (original / wavelength - 1.0) / (4.0 - 1.0);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    (0..head_dim / 2).map(|i| divisor(i) as f32).collect()
}

#[test]
fn a_llama_3_that_turns_slower_is_the_same() {
    let scaling = json!({
        "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192
    });
    let divisors = divisors(500_000.0, 8, 8.0, 8192.0);
    assert!(divisors[0] < 2.0 && divisors[3] > 7.0, "both ends: {divisors:?}");
    are_the_same(
        "llama-mha-tied",
        |config| config["rope_parameters"] = scaling,
        |writer| writer.floats("rope_freqs.weight", &[4], &divisors),
    );
}

#[test]
fn a_llama_with_a_linear_stretch_and_biases_on_some_projections_is_read_so() {
    let mut writer = convert(&golden("llama-mha-tied"));
    writer.key("llama.rope.scaling.type", Value::Text("linear".into()));
    writer.key("llama.rope.scaling.factor", Value::F32(4.0));
    for layer in 0..5 {
        for name in ["attn_q", "attn_k", "attn_v"] {
            writer.floats(&format!("blk.{layer}.{name}.bias"), &[64], &[0.5; 64]);
        }
    }
    let (_kept, path) = file(&writer.bytes());
    let Config::Transformer(config) = Config::open(&path).unwrap() else { panic!("a llama") };
    assert!(config.has_qkv_bias && !config.has_o_bias && !config.has_mlp_bias, "{config:?}");
    assert_eq!(config.rope.scaling, RopeScaling::Linear { factor: 4.0 }, "{config:?}");
    Checkpoint::open(&path, &Config::Transformer(config)).unwrap();
}
