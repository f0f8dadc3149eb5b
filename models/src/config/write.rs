//! From a [`Config`] to `config.json`, as transformers 5 reads it.

use serde_json::{Value, json};

use super::{
    Config, Mamba2Config, MambaConfig, RopeScaling, Tokens, TransformerConfig, TransformerKind,
};

/// The object to write.
pub(super) fn json(config: &Config) -> Value {
    match config {
        Config::Transformer(config) => transformer(config),
        Config::Mamba(config) => mamba(config),
        Config::Mamba2(config) => mamba2(config),
    }
}

/// Adds the fields that every architecture has.
fn common(mut value: Value, class: &str, tokens: &Tokens) -> Value {
    let eos = match tokens.eos.as_slice() {
        [] => Value::Null,
        [one] => json!(one),
        several => json!(several),
    };
    value["architectures"] = json!([class]);
    value["dtype"] = json!("float32");
    value["bos_token_id"] = json!(tokens.bos);
    value["eos_token_id"] = eos;
    value["hidden_act"] = json!("silu");
    value
}

fn transformer(config: &TransformerConfig) -> Value {
    let (model_type, class) = match config.kind {
        TransformerKind::Llama => ("llama", "LlamaForCausalLM"),
        TransformerKind::Mistral => ("mistral", "MistralForCausalLM"),
        TransformerKind::Qwen2 => ("qwen2", "Qwen2ForCausalLM"),
        TransformerKind::Qwen3 => ("qwen3", "Qwen3ForCausalLM"),
    };
    let mut value = json!({
        "model_type": model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.context_max,
        "rms_norm_eps": config.norm_eps,
        "rope_parameters": rope(config),
        "tie_word_embeddings": config.is_tied,
        "initializer_range": config.init_std,
    });
    let window = config.windows.iter().copied().find(|window| *window > 0);
    match config.kind {
        TransformerKind::Llama => {
            value["attention_bias"] = json!(config.has_qkv_bias);
            value["mlp_bias"] = json!(config.has_mlp_bias);
        }
        TransformerKind::Mistral => value["sliding_window"] = json!(window),
        TransformerKind::Qwen2 | TransformerKind::Qwen3 => {
            let name =
                |window: &usize| if *window > 0 { "sliding_attention" } else { "full_attention" };
            value["use_sliding_window"] = json!(window.is_some());
            value["sliding_window"] = json!(window);
            value["layer_types"] = config.windows.iter().map(name).collect();
            if config.kind == TransformerKind::Qwen3 {
                value["attention_bias"] = json!(config.has_qkv_bias);
            }
        }
    }
    common(value, class, &config.tokens)
}

fn rope(config: &TransformerConfig) -> Value {
    let mut value = match config.rope.scaling {
        RopeScaling::None => json!({"rope_type": "default"}),
        RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_context as u64,
            })
        }
    };
    value["rope_theta"] = json!(config.rope.theta);
    value
}

fn mamba(config: &MambaConfig) -> Value {
    let value = json!({
        "model_type": "mamba",
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_inner,
        "expand": expand(config.d_inner, config.d_model),
        "state_size": config.d_state,
        "conv_kernel": config.d_conv,
        "time_step_rank": config.dt_rank,
        "num_hidden_layers": config.n_layers,
        "layer_norm_epsilon": config.norm_eps,
        "use_bias": config.has_bias,
        "use_conv_bias": config.has_conv_bias,
        "tie_word_embeddings": config.is_tied,
        "time_step_min": config.time_step.min,
        "time_step_max": config.time_step.max,
        "time_step_floor": config.time_step.floor,
        "initializer_range": config.init_std,
    });
    common(value, "MambaForCausalLM", &config.tokens)
}

fn mamba2(config: &Mamba2Config) -> Value {
    let value = json!({
        "model_type": "mamba2",
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "expand": expand(config.d_inner(), config.d_model),
        "num_heads": config.n_heads,
        "head_dim": config.head_dim,
        "n_groups": config.n_groups,
        "state_size": config.d_state,
        "conv_kernel": config.d_conv,
        "num_hidden_layers": config.n_layers,
        "chunk_size": config.chunk_size,
        "layer_norm_epsilon": config.norm_eps,
        "time_step_limit": [float(config.dt_limit.0), float(config.dt_limit.1)],
        "use_bias": config.has_bias,
        "use_conv_bias": config.has_conv_bias,
        "tie_word_embeddings": config.is_tied,
        "time_step_min": config.time_step.min,
        "time_step_max": config.time_step.max,
        "time_step_floor": config.time_step.floor,
        "initializer_range": config.init_std,
    });
    common(value, "Mamba2ForCausalLM", &config.tokens)
}

/// `d_inner / d_model`, whole wherever it is: transformers multiplies it again.
fn expand(d_inner: usize, d_model: usize) -> Value {
    if d_inner.is_multiple_of(d_model) {
        json!(d_inner / d_model)
    } else {
        json!(d_inner as f64 / d_model as f64)
    }
}

/// JSON has no infinity; transformers 5 writes it so.
fn float(number: f32) -> Value {
    if number.is_infinite() { json!({"__float__": "Infinity"}) } else { json!(number) }
}
