//! From `config.json`, as transformers 4 and 5 write it, to a [`Config`].

use serde_json::Value;

use super::fields::{Fields, float};
use super::{
    Config, ConfigError, Mamba2Config, MambaConfig, Rope, RopeScaling, TimeStep, TransformerConfig,
    TransformerKind,
};

/// Most tokens in a table.
const VOCAB_MAX: usize = 1 << 22;
/// Longest context.
const CONTEXT_MAX: usize = 1 << 30;
/// Most layers.
const LAYERS_MAX: usize = 1 << 10;

/// Reads any architecture.
pub(super) fn config(fields: &Fields) -> Result<Config, ConfigError> {
    if let Some(found) = fields.get("quantization_config") {
        return Err(fields.invalid("quantization_config", found, "unquantized weights"));
    }
    let found = fields.text("model_type")?.unwrap_or("missing");
    let kind = match found {
        "llama" => TransformerKind::Llama,
        "mistral" => TransformerKind::Mistral,
        "qwen2" => TransformerKind::Qwen2,
        "qwen3" => TransformerKind::Qwen3,
        "mamba" => return mamba(fields).map(Config::Mamba),
        "mamba2" => return mamba2(fields).map(Config::Mamba2),
        _ => {
            return Err(ConfigError::Architecture {
                path: fields.path().into(),
                found: found.into(),
            });
        }
    };
    transformer(fields, kind).map(Config::Transformer)
}

/// Reads a transformer. What may be missing is what its kind's class in transformers has a default for.
fn transformer(fields: &Fields, kind: TransformerKind) -> Result<TransformerConfig, ConfigError> {
    fields.check_silu()?;
    let (d_model, n_heads) = (fields.size("hidden_size")?, fields.size("num_attention_heads")?);
    // Mistral's class has a default; where it cannot be meant, that of all others. Shapes are checked against weights.
    let is_eight = kind == TransformerKind::Mistral && !fields.has("num_key_value_heads");
    let default_kv = if is_eight && n_heads.is_multiple_of(8) { 8 } else { n_heads };
    let n_kv_heads = fields.size_or("num_key_value_heads", default_kv)?;
    if n_kv_heads > n_heads || !n_heads.is_multiple_of(n_kv_heads) {
        let expected = format!("a divisor of num_attention_heads ({n_heads})");
        return Err(fields.invalid("num_key_value_heads", n_kv_heads, &expected));
    }
    let vocab_size = vocab_size(fields)?;
    let n_layers = n_layers(fields)?;
    let attention_bias = match kind {
        TransformerKind::Llama | TransformerKind::Qwen3 => {
            fields.flag_or("attention_bias", false)?
        }
        TransformerKind::Mistral | TransformerKind::Qwen2 => false,
    };
    let context_default = match kind {
        TransformerKind::Llama => 2048,
        TransformerKind::Mistral => 131_072,
        TransformerKind::Qwen2 | TransformerKind::Qwen3 => 32_768,
    };
    let context_max = fields.size_up_to("max_position_embeddings", context_default, CONTEXT_MAX)?;
    Ok(TransformerConfig {
        kind,
        vocab_size,
        d_model,
        d_ff: fields.size("intermediate_size")?,
        n_layers,
        n_heads,
        n_kv_heads,
        head_dim: head_dim(fields, kind, d_model, n_heads)?,
        context_max,
        norm_eps: norm_eps(fields, "rms_norm_eps", 1e-6)?,
        rope: rope(fields, context_max)?,
        windows: windows(fields, kind, n_layers)?,
        has_qkv_bias: attention_bias || kind == TransformerKind::Qwen2,
        has_o_bias: attention_bias,
        has_mlp_bias: kind == TransformerKind::Llama && fields.flag_or("mlp_bias", false)?,
        has_qk_norm: kind == TransformerKind::Qwen3,
        is_tied: fields.flag_or("tie_word_embeddings", false)?,
        init_std: fields.positive_or("initializer_range", 0.02)?,
        tokens: fields.tokens(vocab_size)?,
    })
}

fn vocab_size(fields: &Fields) -> Result<usize, ConfigError> {
    match fields.size_up_to("vocab_size", 0, VOCAB_MAX)? {
        0 => Err(fields.missing("vocab_size", "the number of tokens")),
        size => Ok(size),
    }
}

fn n_layers(fields: &Fields) -> Result<usize, ConfigError> {
    match fields.size_up_to("num_hidden_layers", 0, LAYERS_MAX)? {
        0 => Err(fields.missing("num_hidden_layers", "the number of layers")),
        layers => Ok(layers),
    }
}

fn norm_eps(fields: &Fields, field: &str, default: f64) -> Result<f64, ConfigError> {
    fields.number_or(field, default, "a number from 0 to 1", |eps| (0.0..=1.0).contains(&eps))
}

fn head_dim(
    fields: &Fields,
    kind: TransformerKind,
    d_model: usize,
    n_heads: usize,
) -> Result<usize, ConfigError> {
    let default = match kind {
        TransformerKind::Qwen3 if !fields.has("head_dim") => 128,
        _ => d_model / n_heads,
    };
    if fields.get("head_dim").is_none() && !d_model.is_multiple_of(n_heads) {
        let expected = format!("a divisor of hidden_size ({d_model}), as there is no head_dim");
        return Err(fields.invalid("num_attention_heads", n_heads, &expected));
    }
    let head_dim = fields.size_or("head_dim", default)?;
    if head_dim.is_multiple_of(2) && head_dim > 0 {
        return Ok(head_dim);
    }
    Err(fields.invalid("head_dim", head_dim, "an even number: rotary positions turn pairs"))
}

/// Reads the rotation: `rope_parameters` (5.x), or `rope_theta` and `rope_scaling` (4.x).
fn rope(fields: &Fields, context_max: usize) -> Result<Rope, ConfigError> {
    let parameters = fields.object("rope_parameters")?;
    let parameters = match parameters {
        Some(parameters) => Some(parameters),
        None => fields.object("rope_scaling")?,
    };
    for owner in parameters.iter().chain([fields]) {
        let expected = "1: every channel of a head turns";
        owner
            .number_or("partial_rotary_factor", 1.0, expected, |part| (part - 1.0).abs() < 1e-9)?;
    }
    let theta = fields.positive_or("rope_theta", 10000.0)?;
    let Some(inner) = parameters else { return Ok(Rope { theta, scaling: RopeScaling::None }) };
    let theta = inner.positive_or("rope_theta", theta)?;
    let kind = match inner.text("rope_type")? {
        Some(kind) => Some(kind),
        None => inner.text("type")?,
    };
    let factor = |name| match inner.positive_or(name, 0.0)? {
        number if number > 0.0 => Ok(number),
        _ => Err(inner.missing(name, "a positive number")),
    };
    let scaling = match kind.unwrap_or("default") {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: factor("factor")? },
        "llama3" => RopeScaling::Llama3 {
            factor: factor("factor")?,
            low_freq_factor: factor("low_freq_factor")?,
            high_freq_factor: factor("high_freq_factor")?,
            original_context: inner
                .positive_or("original_max_position_embeddings", context_max as f64)?,
        },
        found => return Err(fields.invalid("rope_type", found, "default, linear or llama3")),
    };
    if let RopeScaling::Llama3 { low_freq_factor, high_freq_factor, .. } = scaling
        && high_freq_factor <= low_freq_factor
    {
        let expected = format!("more than low_freq_factor ({low_freq_factor})");
        return Err(fields.invalid("high_freq_factor", high_freq_factor, &expected));
    }
    Ok(Rope { theta, scaling })
}

/// Reads the window of each layer; 0: none.
fn windows(
    fields: &Fields,
    kind: TransformerKind,
    n_layers: usize,
) -> Result<Vec<usize>, ConfigError> {
    let window = match kind {
        TransformerKind::Llama => 0,
        // A missing field means the default, null means no window.
        TransformerKind::Mistral if !fields.has("sliding_window") => 4096,
        TransformerKind::Mistral => fields.size_up_to("sliding_window", 0, CONTEXT_MAX)?,
        TransformerKind::Qwen2 | TransformerKind::Qwen3 => {
            match fields.flag_or("use_sliding_window", false)? {
                true if !fields.has("sliding_window") => 4096,
                true => fields.size_up_to("sliding_window", 0, CONTEXT_MAX)?,
                false => 0,
            }
        }
    };
    if matches!(kind, TransformerKind::Llama | TransformerKind::Mistral) {
        return Ok(vec![window; n_layers]);
    }
    let Some(types) = fields.get("layer_types") else {
        let full = match fields.get("max_window_layers").and_then(Value::as_u64) {
            Some(full) => full as usize,
            None => 28,
        };
        return Ok((0..n_layers).map(|layer| if layer >= full { window } else { 0 }).collect());
    };
    let of_type = |name: &Value| match name.as_str() {
        Some("full_attention") => Some(0),
        Some("sliding_attention") => Some(window),
        _ => None,
    };
    let windows: Option<Vec<usize>> =
        types.as_array().and_then(|types| types.iter().map(of_type).collect());
    let expected = format!("full_attention or sliding_attention for each of {n_layers} layers");
    let windows = windows.filter(|windows| windows.len() == n_layers);
    windows.ok_or_else(|| fields.invalid("layer_types", types, &expected))
}

fn time_step(fields: &Fields) -> Result<TimeStep, ConfigError> {
    let default = TimeStep::default();
    let min = fields.positive_or("time_step_min", default.min)?;
    let max = fields.number_or("time_step_max", default.max, "at least time_step_min", |max| {
        max >= min && max.is_finite()
    })?;
    Ok(TimeStep { min, max, floor: fields.positive_or("time_step_floor", default.floor)? })
}

/// `expand · hidden_size`.
fn d_inner(fields: &Fields, d_model: usize) -> Result<usize, ConfigError> {
    let expand = fields.positive_or("expand", 2.0)?;
    let d_inner = (expand * d_model as f64) as usize;
    if (1..=1 << 20).contains(&d_inner) {
        return Ok(d_inner);
    }
    Err(fields.invalid(
        "expand",
        expand,
        &format!("expand · hidden_size ({d_model}) from 1 to {}", 1 << 20),
    ))
}

/// Tokens that the convolution sees; with one it would be no convolution, and have no state.
fn d_conv(fields: &Fields) -> Result<usize, ConfigError> {
    match fields.size_up_to("conv_kernel", 4, 256)? {
        1 => Err(fields.invalid("conv_kernel", 1, "a whole number from 2 to 256")),
        d_conv => Ok(d_conv),
    }
}

fn mamba(fields: &Fields) -> Result<MambaConfig, ConfigError> {
    fields.check_silu()?;
    let (d_model, vocab_size) = (fields.size("hidden_size")?, vocab_size(fields)?);
    let dt_rank = match fields.get("time_step_rank") {
        None => d_model.div_ceil(16),
        Some(rank) if rank.as_str() == Some("auto") => d_model.div_ceil(16),
        Some(_) => fields.size("time_step_rank")?,
    };
    Ok(MambaConfig {
        vocab_size,
        d_model,
        d_inner: d_inner(fields, d_model)?,
        d_state: fields.size_or("state_size", 16)?,
        d_conv: d_conv(fields)?,
        dt_rank,
        n_layers: n_layers(fields)?,
        norm_eps: norm_eps(fields, "layer_norm_epsilon", 1e-5)?,
        has_bias: fields.flag_or("use_bias", false)?,
        has_conv_bias: fields.flag_or("use_conv_bias", true)?,
        is_tied: fields.flag_or("tie_word_embeddings", true)?,
        time_step: time_step(fields)?,
        init_std: fields.positive_or("initializer_range", 0.1)?,
        tokens: fields.tokens(vocab_size)?,
    })
}

fn mamba2(fields: &Fields) -> Result<Mamba2Config, ConfigError> {
    fields.check_silu()?;
    let (d_model, vocab_size) = (fields.size("hidden_size")?, vocab_size(fields)?);
    let (n_heads, head_dim) = (fields.size_or("num_heads", 128)?, fields.size_or("head_dim", 64)?);
    let d_inner = d_inner(fields, d_model)?;
    if n_heads * head_dim != d_inner {
        let expected =
            format!("num_heads · head_dim ({head_dim}) = expand · hidden_size ({d_inner})");
        return Err(fields.invalid("num_heads", n_heads, &expected));
    }
    let n_groups = fields.size_or("n_groups", 8)?;
    if !n_heads.is_multiple_of(n_groups) {
        return Err(fields.invalid(
            "n_groups",
            n_groups,
            &format!("a divisor of num_heads ({n_heads})"),
        ));
    }
    Ok(Mamba2Config {
        vocab_size,
        d_model,
        n_heads,
        head_dim,
        n_groups,
        d_state: fields.size_or("state_size", 128)?,
        d_conv: d_conv(fields)?,
        n_layers: n_layers(fields)?,
        chunk_size: fields.size_or("chunk_size", 256)?,
        norm_eps: norm_eps(fields, "layer_norm_epsilon", 1e-5)?,
        dt_limit: dt_limit(fields)?,
        has_bias: fields.flag_or("use_bias", false)?,
        has_conv_bias: fields.flag_or("use_conv_bias", true)?,
        is_tied: fields.flag_or("tie_word_embeddings", false)?,
        time_step: time_step(fields)?,
        init_std: fields.positive_or("initializer_range", 0.1)?,
        tokens: fields.tokens(vocab_size)?,
    })
}

/// Reads the range of time steps.
fn dt_limit(fields: &Fields) -> Result<(f32, f32), ConfigError> {
    let Some(found) = fields.get("time_step_limit") else { return Ok((0.0, f32::INFINITY)) };
    let ends: Option<Vec<f64>> = found.as_array().and_then(|ends| ends.iter().map(float).collect());
    match ends.as_deref() {
        Some(&[min, max]) if min >= 0.0 && min.is_finite() && max > min => {
            Ok((min as f32, max as f32))
        }
        _ => Err(fields.invalid("time_step_limit", found, "two numbers, 0 ≤ first < second")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::config::{Config, RopeScaling};

    fn llama() -> Value {
        json!({
            "model_type": "llama", "vocab_size": 100, "hidden_size": 64, "intermediate_size": 96,
            "num_hidden_layers": 3, "num_attention_heads": 4
        })
    }

    fn mamba2() -> Value {
        json!({
            "model_type": "mamba2", "vocab_size": 100, "hidden_size": 64, "num_hidden_layers": 3, "num_heads": 8,
            "head_dim": 16, "n_groups": 2, "state_size": 16
        })
    }

    fn with(mut value: Value, field: &str, content: Value) -> String {
        value[field] = content;
        value.to_string()
    }

    #[test]
    fn a_wrong_field_is_named_with_what_it_is_and_should_be() {
        let cases = [
            (llama(), "hidden_size", json!(0), "1 to 1048576"),
            (llama(), "hidden_size", json!(-3), "1 to 1048576"),
            (llama(), "hidden_size", json!("64"), "1 to 1048576"),
            (llama(), "vocab_size", json!(1e30), "1 to 4194304"),
            (llama(), "num_hidden_layers", json!(1_000_000), "1 to 1024"),
            (llama(), "num_attention_heads", json!(5), "divisor of hidden_size (64)"),
            (llama(), "num_key_value_heads", json!(3), "divisor of num_attention_heads (4)"),
            (llama(), "num_key_value_heads", json!(8), "divisor of num_attention_heads (4)"),
            (llama(), "head_dim", json!(15), "even"),
            (llama(), "rms_norm_eps", json!(-1.0), "0 to 1"),
            (llama(), "rope_theta", json!(0), "positive"),
            (llama(), "hidden_act", json!("gelu"), "silu"),
            (llama(), "eos_token_id", json!([1, 100]), "below vocab_size (100)"),
            (llama(), "tie_word_embeddings", json!(1), "true or false"),
            (llama(), "quantization_config", json!({"bits": 4}), "unquantized"),
            (llama(), "partial_rotary_factor", json!(0.5), "every channel"),
            (mamba2(), "num_heads", json!(7), "expand · hidden_size (128)"),
            (mamba2(), "n_groups", json!(3), "divisor of num_heads (8)"),
            (mamba2(), "conv_kernel", json!(1), "2 to 256"),
            (mamba2(), "expand", json!(0), "positive"),
            (mamba2(), "time_step_limit", json!([1.0]), "two numbers"),
            (mamba2(), "time_step_limit", json!([2.0, 1.0]), "first < second"),
        ];
        for (config, field, content, expected) in cases {
            let error = Config::from_json(&with(config, field, content.clone()))
                .expect_err(field)
                .to_string();
            for part in ["config.json", field, expected] {
                assert!(error.contains(part), "{field} = {content}: {part:?} is not in {error:?}");
            }
        }
    }

    #[test]
    fn a_missing_size_is_named() {
        for field in [
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
        ] {
            let error =
                Config::from_json(&with(llama(), field, Value::Null)).expect_err(field).to_string();
            assert!(error.contains(&format!("{field} is missing")), "{error}");
        }
    }

    #[test]
    fn an_unknown_architecture_is_named_with_those_that_are_known() {
        let error = Config::from_json(&with(llama(), "model_type", json!("gpt2")))
            .expect_err("gpt2")
            .to_string();
        for name in ["gpt2", "llama", "mistral", "qwen2", "qwen3", "mamba", "mamba2"] {
            assert!(error.contains(name), "{name} is not in {error:?}");
        }
    }

    #[test]
    fn infinity_is_read_as_both_transformers_write_it() {
        for limit in ["[0.5, Infinity]", r#"[0.5, {"__float__": "Infinity"}]"#] {
            let text =
                with(mamba2(), "time_step_limit", json!("LIMIT")).replace("\"LIMIT\"", limit);
            let Config::Mamba2(config) = Config::from_json(&text).unwrap() else {
                panic!("{limit}: not a mamba2")
            };
            assert_eq!(config.dt_limit, (0.5, f32::INFINITY), "{limit}");
        }
        let text = with(mamba2(), "note", json!("NaN \\\" and -Infinity"));
        assert!(Config::from_json(&text).is_ok(), "words in strings are left alone: {text}");
        let text = with(mamba2(), "layer_norm_epsilon", json!("X")).replace("\"X\"", "NaN");
        assert!(Config::from_json(&text).is_err(), "an epsilon that is NaN");
    }

    #[test]
    fn both_styles_of_rotation_are_read() {
        let scaling = json!({
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192
        });
        let mut new = scaling.clone();
        new["rope_theta"] = json!(500_000.0);
        let mut old = llama();
        old["rope_theta"] = json!(500_000.0);
        let old = Config::from_json(&with(old, "rope_scaling", scaling)).unwrap();
        let new = Config::from_json(&with(llama(), "rope_parameters", new)).unwrap();
        assert_eq!(old, new, "transformers 4 and 5");
        let Config::Transformer(config) = new else { panic!("a llama is a transformer") };
        assert!(matches!(config.rope.scaling, RopeScaling::Llama3 { .. }), "{:?}", config.rope);
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let unusual = |mut value: Value| {
            for (field, content) in [
                ("rms_norm_eps", json!(1e-4)),
                ("layer_norm_epsilon", json!(1e-4)),
                ("initializer_range", json!(0.5)),
                ("rope_theta", json!(77.0)),
                ("tie_word_embeddings", json!(false)),
                ("max_position_embeddings", json!(99)),
                ("attention_bias", json!(true)),
                ("mlp_bias", json!(true)),
                ("use_bias", json!(true)),
                ("use_conv_bias", json!(false)),
                ("time_step_min", json!(0.01)),
                ("time_step_max", json!(0.7)),
                ("time_step_floor", json!(0.3)),
                ("time_step_rank", json!(3)),
                ("time_step_limit", json!([0.25, 2.0])),
                ("conv_kernel", json!(3)),
                ("chunk_size", json!(9)),
                ("bos_token_id", json!(4)),
                ("eos_token_id", json!([5, 6])),
            ] {
                value[field] = content;
            }
            value
        };
        let (llama, mamba2) = (|| unusual(llama()), || unusual(mamba2()));
        let mistral =
            with(with_json(llama(), "sliding_window", json!(7)), "model_type", json!("mistral"));
        let mut qwen = llama();
        qwen["use_sliding_window"] = json!(true);
        qwen["sliding_window"] = json!(7);
        qwen["max_window_layers"] = json!(1);
        let qwen2 = with(qwen.clone(), "model_type", json!("qwen2"));
        let qwen3 = with(qwen, "model_type", json!("qwen3"));
        let mamba = with(mamba2(), "model_type", json!("mamba"));
        for text in [llama().to_string(), mistral, qwen2, qwen3, mamba, mamba2().to_string()] {
            let config = Config::from_json(&text).unwrap();
            assert_eq!(Config::from_json(&config.to_json()).unwrap(), config, "{text}");
        }
    }

    fn with_json(mut value: Value, field: &str, content: Value) -> Value {
        value[field] = content;
        value
    }
}
