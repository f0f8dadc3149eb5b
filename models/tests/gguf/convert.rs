//! A checkpoint of transformers as GGUF, by the conventions of llama.cpp's own conversion: the names of tensors and keys,
//! rows of queries and keys turned for neighbours, `a` in place of its logarithm.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value as Json;

use super::writer::{Value, Writer};

/// Tensors of a layer, and where the norms behind the layers are.
const NAMES: [(&str, &str); 24] = [
    ("embed_tokens.weight", "token_embd.weight"),
    ("embeddings.weight", "token_embd.weight"),
    ("lm_head.weight", "output.weight"),
    ("norm_f.weight", "output_norm.weight"),
    ("input_layernorm.", "attn_norm."),
    ("post_attention_layernorm.", "ffn_norm."),
    ("self_attn.q_proj.", "attn_q."),
    ("self_attn.k_proj.", "attn_k."),
    ("self_attn.v_proj.", "attn_v."),
    ("self_attn.o_proj.", "attn_output."),
    ("self_attn.q_norm.", "attn_q_norm."),
    ("self_attn.k_norm.", "attn_k_norm."),
    ("mlp.gate_proj.", "ffn_gate."),
    ("mlp.up_proj.", "ffn_up."),
    ("mlp.down_proj.", "ffn_down."),
    ("mixer.in_proj.", "ssm_in."),
    ("mixer.conv1d.", "ssm_conv1d."),
    ("mixer.x_proj.", "ssm_x."),
    ("mixer.dt_proj.", "ssm_dt."),
    ("mixer.dt_bias", "ssm_dt.bias"),
    ("mixer.out_proj.", "ssm_out."),
    ("mixer.norm.", "ssm_norm."),
    ("mixer.A_log", "ssm_a"),
    ("mixer.D", "ssm_d"),
];

/// Converts the checkpoint in `folder`, every number F32.
pub(crate) fn convert(folder: &Path) -> Writer {
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let config: Json = serde_json::from_str(&config).unwrap();
    let mut writer = Writer::default();
    keys(&mut writer, &config);
    let mut shards: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "safetensors"))
        .collect();
    shards.sort();
    for shard in shards {
        let bytes = std::fs::read(shard).unwrap();
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            let numbers = match view.dtype() {
                Dtype::F32 => {
                    view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
                }
                _ => view
                    .data()
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16))
                    .collect(),
            };
            tensor(&mut writer, &config, &name, view.shape(), numbers);
        }
    }
    writer
}

fn size(config: &Json, field: &str) -> usize {
    config[field].as_u64().unwrap_or_else(|| panic!("{field} in {config}")) as usize
}

fn keys(writer: &mut Writer, config: &Json) {
    let model_type = config["model_type"].as_str().unwrap();
    let architecture = if model_type == "mistral" { "llama" } else { model_type };
    let number = |field: &str| Value::U32(size(config, field) as u32);
    let float = |value: &Json| Value::F32(value.as_f64().unwrap() as f32);
    writer.key("general.architecture", Value::Text(architecture.into()));
    let mut key = |end: &str, value| writer.key(&format!("{architecture}.{end}"), value);
    key("embedding_length", number("hidden_size"));
    key("block_count", number("num_hidden_layers"));
    if architecture.starts_with("mamba") {
        let inner = size(config, "hidden_size") * size(config, "expand");
        key("ssm.conv_kernel", number("conv_kernel"));
        key("ssm.inner_size", Value::U32(inner as u32));
        key("ssm.state_size", number("state_size"));
        key("attention.layer_norm_rms_epsilon", float(&config["layer_norm_epsilon"]));
        if architecture == "mamba2" {
            key("ssm.time_step_rank", number("num_heads"));
            key("ssm.group_count", number("n_groups"));
        } else {
            key("ssm.time_step_rank", number("time_step_rank"));
            key("ssm.dt_b_c_rms", Value::Flag(false));
        }
    } else {
        key("context_length", number("max_position_embeddings"));
        key("feed_forward_length", number("intermediate_size"));
        key("attention.head_count", number("num_attention_heads"));
        key("attention.head_count_kv", number("num_key_value_heads"));
        key("attention.layer_norm_rms_epsilon", float(&config["rms_norm_eps"]));
        key("rope.dimension_count", Value::U32(head_dim(config) as u32));
        key("rope.freq_base", float(&config["rope_parameters"]["rope_theta"]));
        if model_type == "mistral" && config["sliding_window"].is_u64() {
            key("attention.sliding_window", number("sliding_window"));
        }
    }
    writer.key("tokenizer.ggml.bos_token_id", number("bos_token_id"));
    writer.key("tokenizer.ggml.eos_token_id", number("eos_token_id"));
}

fn head_dim(config: &Json) -> usize {
    let divided = || size(config, "hidden_size") / size(config, "num_attention_heads");
    config["head_dim"].as_u64().map_or_else(divided, |width| width as usize)
}

fn tensor(writer: &mut Writer, config: &Json, name: &str, shape: &[usize], mut numbers: Vec<f32>) {
    let is_llama = matches!(config["model_type"].as_str(), Some("llama" | "mistral"));
    let short = name.trim_start_matches("model.").trim_start_matches("backbone.");
    let (layer, rest) = match short.strip_prefix("layers.").and_then(|rest| rest.split_once('.')) {
        Some((layer, rest)) => (format!("blk.{layer}."), rest),
        None => (String::new(), short),
    };
    let renamed = match (layer.as_str(), rest) {
        ("", "norm.weight") => "output_norm.weight".into(),
        (_, "norm.weight") => "attn_norm.weight".into(),
        _ => {
            let (from, to) = NAMES.iter().find(|(from, _)| rest.starts_with(from)).unwrap();
            rest.replacen(from, to, 1)
        }
    };
    let mut shape = shape.to_vec();
    if is_llama && (renamed.starts_with("attn_q.") || renamed.starts_with("attn_k.")) {
        numbers = neighbours(&numbers, shape[0], head_dim(config));
    }
    if renamed == "ssm_a" {
        numbers.iter_mut().for_each(|number| *number = -f64::from(*number).exp() as f32);
    }
    if renamed.starts_with("ssm_conv1d.w") {
        shape = vec![shape[0], shape[2]];
    }
    if config["model_type"] == "mamba2" {
        match renamed.as_str() {
            "ssm_a" | "ssm_d" => shape = vec![shape[0], 1],
            "ssm_norm.weight" => {
                let groups = size(config, "n_groups");
                shape = vec![groups, shape[0] / groups];
            }
            _ => {}
        }
    }
    writer.floats(&format!("{layer}{renamed}"), &shape, &numbers);
}

/// Puts row i of the first half of each head before row i of the second.
fn neighbours(numbers: &[f32], rows: usize, head_dim: usize) -> Vec<f32> {
    let width = numbers.len() / rows;
    let row = |index: usize| &numbers[index * width..][..width];
    let heads = (0..rows).step_by(head_dim);
    let pairs = heads.flat_map(|head| (0..head_dim / 2).map(move |i| head + i));
    pairs.flat_map(|first| [row(first), row(first + head_dim / 2)].concat()).collect()
}
