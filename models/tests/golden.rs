//! Whole checkpoints against the numbers that transformers computes from them.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::path::{Path, PathBuf};

use dynamax_models::Config;
use dynamax_models::backbone::Backbone;
use dynamax_models::checkpoint::Checkpoint;
use dynamax_models::golden::{Golden, compare};

/// The largest difference that passes: both sides round every operation to f32, in different orders.
const TOLERANCE: f64 = 1e-3;

fn folder(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden")).join(name)
}

/// The forward pass gives the golden numbers, whichever transformers wrote `config`.
fn agrees(name: &str, config: &str) {
    let folder = folder(name);
    let config = Config::read(&folder.join(config)).unwrap();
    let checkpoint = Checkpoint::open(&folder, &config).unwrap();
    let model = checkpoint.load(Backbone::new(&config, &burn::tensor::Device::flex())).unwrap();
    let report = compare(&model, &Golden::open(&folder.join("golden.json")).unwrap()).unwrap();
    println!("{name}: {report:?}");
    assert!(report.max_abs_err_hidden <= TOLERANCE, "{name}: {report:?}");
    assert!(report.max_abs_err_logits <= TOLERANCE, "{name}: {report:?}");
    assert!(report.greedy_equal, "{name}: {report:?}");
}

/// One test for each checkpoint and each style of its configuration.
macro_rules! checkpoints {
    ($($test:ident: $name:literal, $config:literal;)*) => {
        $(#[test]
        fn $test() {
            agrees($name, $config);
        })*
    };
}

checkpoints! {
    llama_agrees: "llama-mha-tied", "config.json";
    llama_agrees_with_a_config_of_transformers_4: "llama-mha-tied", "config.v4.json";
    mistral_with_a_window_agrees: "mistral-gqa-swa", "config.json";
    mistral_with_a_window_agrees_with_a_config_of_transformers_4: "mistral-gqa-swa", "config.v4.json";
    mistral_in_bf16_shards_agrees: "mistral-bf16-sharded", "config.json";
    mistral_in_bf16_shards_agrees_with_a_config_of_transformers_4: "mistral-bf16-sharded", "config.v4.json";
    mamba_agrees: "mamba1-tied", "config.json";
    mamba_agrees_with_a_config_of_transformers_4: "mamba1-tied", "config.v4.json";
    mamba2_agrees: "mamba2-groups1-tied", "config.json";
    mamba2_agrees_with_a_config_of_transformers_4: "mamba2-groups1-tied", "config.v4.json";
    mamba2_with_groups_agrees: "mamba2-groups2-untied", "config.json";
    mamba2_with_groups_agrees_with_a_config_of_transformers_4: "mamba2-groups2-untied", "config.v4.json";
    qwen2_with_biases_and_windows_in_some_layers_agrees: "qwen2-bias-windows", "config.json";
    qwen3_with_norms_and_stretched_rotation_agrees: "qwen3-norms-llama3-rope", "config.json";
    mamba_with_biases_but_none_on_the_convolution_agrees: "mamba-biases", "config.json";
    mamba2_with_biases_and_clamped_time_steps_agrees: "mamba2-biases-clamp", "config.json";
}
