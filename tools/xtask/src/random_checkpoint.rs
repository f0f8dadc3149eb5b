//! `cargo xtask random-checkpoint SHAPE DIR`: a checkpoint of a known model's shape with random weights, in bf16.
//!
//! For measuring what depends on shapes alone: conversion, memory, speed. Weights are uniform with the variance of an
//! initialised model, so that activations stay in range; the text is noise.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Bytes of a shard at most, as published checkpoints have them.
const SHARD_BYTES: u64 = 4 << 30;

/// A tensor of the checkpoint.
struct TensorSpec {
    name: String,
    shape: Vec<usize>,
    values: Values,
}

/// What its numbers are.
#[derive(Clone, Copy)]
enum Values {
    /// Uniform, of variance `1 / d_in`.
    Matrix,
    /// All the same.
    Constant(f32),
}

/// A shape: its name, its `config.json`, its tensors.
struct Shape {
    name: &'static str,
    config: &'static str,
    tensors: fn() -> Vec<TensorSpec>,
}

const SHAPES: [Shape; 4] = [
    Shape {
        name: "mistral-7b",
        config: r#"{"architectures":["MistralForCausalLM"],"model_type":"mistral","hidden_size":4096,"intermediate_size":14336,"num_hidden_layers":32,"num_attention_heads":32,"num_key_value_heads":8,"head_dim":128,"vocab_size":32768,"max_position_embeddings":32768,"rms_norm_eps":1e-05,"rope_theta":1000000.0,"sliding_window":null,"tie_word_embeddings":false,"hidden_act":"silu","bos_token_id":1,"eos_token_id":2,"torch_dtype":"bfloat16"}"#,
        tensors: || transformer(4096, 14336, 32, 4096, 1024, 32768, true),
    },
    Shape {
        name: "llama-135m",
        config: r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":576,"intermediate_size":1536,"num_hidden_layers":30,"num_attention_heads":9,"num_key_value_heads":3,"head_dim":64,"vocab_size":49152,"max_position_embeddings":2048,"rms_norm_eps":1e-05,"rope_theta":10000.0,"tie_word_embeddings":true,"hidden_act":"silu","bos_token_id":1,"eos_token_id":2,"torch_dtype":"bfloat16"}"#,
        tensors: || transformer(576, 1536, 30, 576, 192, 49152, false),
    },
    Shape {
        name: "codestral-mamba-7b",
        config: r#"{"architectures":["Mamba2ForCausalLM"],"model_type":"mamba2","hidden_size":4096,"num_heads":128,"head_dim":64,"state_size":128,"num_hidden_layers":64,"n_groups":8,"expand":2,"conv_kernel":4,"chunk_size":256,"vocab_size":32768,"layer_norm_epsilon":1e-05,"use_bias":false,"use_conv_bias":true,"time_step_limit":[0.0,Infinity],"tie_word_embeddings":false,"norm_before_gate":false,"rms_norm":true,"residual_in_fp32":true,"hidden_act":"silu","bos_token_id":1,"eos_token_id":2,"torch_dtype":"bfloat16"}"#,
        tensors: || mamba2(4096, 8192, 128, 8, 128, 64, 32768),
    },
    Shape {
        name: "mamba-130m",
        config: r#"{"architectures":["MambaForCausalLM"],"model_type":"mamba","hidden_size":768,"state_size":16,"num_hidden_layers":24,"conv_kernel":4,"expand":2,"intermediate_size":1536,"time_step_rank":48,"vocab_size":50280,"layer_norm_epsilon":1e-05,"use_bias":false,"use_conv_bias":true,"tie_word_embeddings":true,"residual_in_fp32":true,"hidden_act":"silu","bos_token_id":0,"eos_token_id":0,"torch_dtype":"bfloat16"}"#,
        tensors: || mamba(768, 1536, 16, 48, 24, 50280),
    },
];

/// Writes the checkpoint named by the command line's second word into the directory named by its third.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let names: Vec<_> = SHAPES.iter().map(|shape| shape.name).collect();
    let [name, dir] = arguments else {
        bail!("usage: cargo xtask random-checkpoint {} DIR", names.join("|"))
    };
    let shape = SHAPES.iter().find(|shape| shape.name == name);
    let shape =
        shape.with_context(|| format!("{name}: no such shape; there are {}", names.join(", ")))?;
    let dir = Path::new(dir);
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    std::fs::write(dir.join("config.json"), shape.config)?;
    write_shards(dir, &(shape.tensors)())
}

fn matrix(name: String, d_out: usize, d_in: usize) -> TensorSpec {
    TensorSpec { name, shape: vec![d_out, d_in], values: Values::Matrix }
}

fn constant(name: String, shape: &[usize], value: f32) -> TensorSpec {
    TensorSpec { name, shape: shape.to_vec(), values: Values::Constant(value) }
}

fn transformer(
    d_model: usize,
    d_ff: usize,
    layers: usize,
    q: usize,
    kv: usize,
    vocab_size: usize,
    untied: bool,
) -> Vec<TensorSpec> {
    let mut tensors = vec![matrix("model.embed_tokens.weight".into(), vocab_size, d_model)];
    for layer in 0..layers {
        let name = |leaf: &str| format!("model.layers.{layer}.{leaf}.weight");
        tensors.push(constant(name("input_layernorm"), &[d_model], 1.0));
        tensors.push(matrix(name("self_attn.q_proj"), q, d_model));
        tensors.push(matrix(name("self_attn.k_proj"), kv, d_model));
        tensors.push(matrix(name("self_attn.v_proj"), kv, d_model));
        tensors.push(matrix(name("self_attn.o_proj"), d_model, q));
        tensors.push(constant(name("post_attention_layernorm"), &[d_model], 1.0));
        tensors.push(matrix(name("mlp.gate_proj"), d_ff, d_model));
        tensors.push(matrix(name("mlp.up_proj"), d_ff, d_model));
        tensors.push(matrix(name("mlp.down_proj"), d_model, d_ff));
    }
    tensors.push(constant("model.norm.weight".into(), &[d_model], 1.0));
    if untied {
        tensors.push(matrix("lm_head.weight".into(), vocab_size, d_model));
    }
    tensors
}

fn mamba2(
    d_model: usize,
    d_inner: usize,
    n_heads: usize,
    n_groups: usize,
    d_state: usize,
    layers: usize,
    vocab_size: usize,
) -> Vec<TensorSpec> {
    let channels = d_inner + 2 * n_groups * d_state;
    let mut tensors = vec![matrix("backbone.embeddings.weight".into(), vocab_size, d_model)];
    for layer in 0..layers {
        let name = |leaf: &str| format!("backbone.layers.{layer}.{leaf}");
        tensors.push(constant(name("norm.weight"), &[d_model], 1.0));
        tensors.push(matrix(name("mixer.in_proj.weight"), d_inner + channels + n_heads, d_model));
        tensors.push(TensorSpec {
            name: name("mixer.conv1d.weight"),
            shape: vec![channels, 1, 4],
            values: Values::Matrix,
        });
        tensors.push(constant(name("mixer.conv1d.bias"), &[channels], 0.0));
        tensors.push(constant(name("mixer.dt_bias"), &[n_heads], -3.0));
        tensors.push(constant(name("mixer.A_log"), &[n_heads], 1.0));
        tensors.push(constant(name("mixer.D"), &[n_heads], 1.0));
        tensors.push(constant(name("mixer.norm.weight"), &[d_inner], 1.0));
        tensors.push(matrix(name("mixer.out_proj.weight"), d_model, d_inner));
    }
    tensors.push(constant("backbone.norm_f.weight".into(), &[d_model], 1.0));
    tensors.push(matrix("lm_head.weight".into(), vocab_size, d_model));
    tensors
}

fn mamba(
    d_model: usize,
    d_inner: usize,
    d_state: usize,
    dt_rank: usize,
    layers: usize,
    vocab_size: usize,
) -> Vec<TensorSpec> {
    let mut tensors = vec![matrix("backbone.embeddings.weight".into(), vocab_size, d_model)];
    for layer in 0..layers {
        let name = |leaf: &str| format!("backbone.layers.{layer}.{leaf}");
        tensors.push(constant(name("norm.weight"), &[d_model], 1.0));
        tensors.push(matrix(name("mixer.in_proj.weight"), 2 * d_inner, d_model));
        tensors.push(TensorSpec {
            name: name("mixer.conv1d.weight"),
            shape: vec![d_inner, 1, 4],
            values: Values::Matrix,
        });
        tensors.push(constant(name("mixer.conv1d.bias"), &[d_inner], 0.0));
        tensors.push(matrix(name("mixer.x_proj.weight"), dt_rank + 2 * d_state, d_inner));
        tensors.push(matrix(name("mixer.dt_proj.weight"), d_inner, dt_rank));
        tensors.push(constant(name("mixer.dt_proj.bias"), &[d_inner], -3.0));
        tensors.push(constant(name("mixer.A_log"), &[d_inner, d_state], 1.0));
        tensors.push(constant(name("mixer.D"), &[d_inner], 1.0));
        tensors.push(matrix(name("mixer.out_proj.weight"), d_model, d_inner));
    }
    tensors.push(constant("backbone.norm_f.weight".into(), &[d_model], 1.0));
    tensors
}

impl TensorSpec {
    fn numbers(&self) -> usize {
        self.shape.iter().product()
    }

    fn bytes(&self) -> u64 {
        2 * self.numbers() as u64
    }
}

/// Writes all tensors in shards, and the index that names them.
fn write_shards(dir: &Path, tensors: &[TensorSpec]) -> Result<()> {
    let mut shards: Vec<Vec<&TensorSpec>> = vec![Vec::new()];
    let mut filled = 0;
    for tensor in tensors {
        if filled > 0 && filled + tensor.bytes() > SHARD_BYTES {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += tensor.bytes();
        if let Some(shard) = shards.last_mut() {
            shard.push(tensor);
        }
    }
    let mut index = String::new();
    let mut random = 0x2545_f491_4f6c_dd1d;
    for (number, shard) in shards.iter().enumerate() {
        let file = format!("model-{:05}-of-{:05}.safetensors", number + 1, shards.len());
        println!(
            "{file}: {:.2} GB",
            shard.iter().map(|tensor| tensor.bytes()).sum::<u64>() as f64 / 1e9
        );
        write_shard(&dir.join(&file), shard, &mut random)?;
        for tensor in shard {
            write!(
                index,
                "{}\"{}\":\"{file}\"",
                if index.is_empty() { "" } else { "," },
                tensor.name
            )?;
        }
    }
    let total: u64 = tensors.iter().map(TensorSpec::bytes).sum();
    let index = format!("{{\"metadata\":{{\"total_size\":{total}}},\"weight_map\":{{{index}}}}}");
    std::fs::write(dir.join("model.safetensors.index.json"), index)?;
    Ok(())
}

/// Writes one file: the length of its header, the header in JSON, the numbers.
fn write_shard(path: &Path, tensors: &[&TensorSpec], random: &mut u64) -> Result<()> {
    let mut header = String::new();
    let mut start = 0;
    for tensor in tensors {
        let (separator, end) = (if header.is_empty() { "" } else { "," }, start + tensor.bytes());
        let (name, shape) = (&tensor.name, &tensor.shape);
        write!(
            header,
            "{separator}\"{name}\":{{\"dtype\":\"BF16\",\"shape\":{shape:?},\"data_offsets\":[{start},{end}]}}"
        )?;
        start = end;
    }
    let mut header = format!("{{{header}}}");
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut file = BufWriter::with_capacity(
        1 << 20,
        File::create(path).with_context(|| path.display().to_string())?,
    );
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    for tensor in tensors {
        write_numbers(&mut file, tensor, random)?;
    }
    file.flush()?;
    Ok(())
}

fn write_numbers(file: &mut impl Write, tensor: &TensorSpec, random: &mut u64) -> Result<()> {
    let mut buffer = Vec::with_capacity(1 << 16);
    let bf16 = |number: f32| ((number.to_bits() >> 16) as u16).to_le_bytes();
    let d_in = tensor.shape.iter().skip(1).product::<usize>().max(1);
    let scale = (3.0 / d_in as f32).sqrt() / (1_u32 << 23) as f32;
    for _ in 0..tensor.numbers() {
        let bytes = match tensor.values {
            Values::Constant(value) => bf16(value),
            Values::Matrix => {
                *random ^= *random << 13;
                *random ^= *random >> 7;
                *random ^= *random << 17;
                bf16(((*random >> 40) as f32 - (1_u32 << 23) as f32) * scale)
            }
        };
        buffer.extend_from_slice(&bytes);
        if buffer.len() == buffer.capacity() {
            file.write_all(&buffer)?;
            buffer.clear();
        }
    }
    file.write_all(&buffer)?;
    Ok(())
}
