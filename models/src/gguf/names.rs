//! What the tensors of a model are called in a GGUF file, and in which order their rows lie there.

use super::{Gguf, GgufError, Stored};
use crate::backbone::inv_freq;
use crate::checkpoint::{Source, sources};
use crate::config::{Config, RopeScaling, TransformerConfig};

/// A tensor of a GGUF file, as a checkpoint of transformers would have it.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    /// Name in the file.
    pub(crate) name: String,
    /// Name in transformers, without `model.` or `backbone.`.
    pub(crate) known_as: String,
    /// Shape in transformers.
    pub(crate) shape: Vec<usize>,
    /// Where it lies.
    pub(crate) stored: Stored,
    /// Rows of one head, where those of its two halves alternate: llama.cpp turns neighbours, transformers halves.
    pub(crate) interleaved: Option<usize>,
    /// It holds `-exp` of what transformers holds.
    pub(crate) is_neg_exp: bool,
}

/// Prefix of the tensors of a layer.
const LAYER: (&str, &str) = ("layers.", "blk.");

/// The stems of tensors in transformers, without `layers.N.`, and in GGUF.
const STEMS: [(&str, &str); 26] = [
    ("embed_tokens", "token_embd"),
    ("embeddings", "token_embd"),
    ("lm_head", "output"),
    ("norm_f", "output_norm"),
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mixer.in_proj", "ssm_in"),
    ("mixer.conv1d", "ssm_conv1d"),
    ("mixer.x_proj", "ssm_x"),
    ("mixer.dt_proj", "ssm_dt"),
    ("mixer.out_proj", "ssm_out"),
    ("mixer.norm", "ssm_norm"),
    // These have no `.weight` or `.bias` in transformers; the first two have none in GGUF either.
    ("mixer.A_log", "ssm_a"),
    ("mixer.D", "ssm_d"),
    ("mixer.dt_bias", "ssm_dt.bias"),
    // The norm behind all layers of a transformer, and that of a layer of Mamba.
    ("norm", "output_norm"),
    ("layers.norm", "attn_norm"),
];

/// Llama 3 stretches its rotation by these numbers, which a file gives as one divisor for each frequency.
pub(super) const ROPE_FREQS: &str = "rope_freqs.weight";
/// Rotary frequencies of old files, which follow from the keys.
const ROTATIONS: &str = ".attn_rot_embd.freqs";

/// The name in GGUF of a tensor of transformers.
fn name(tensor: &str) -> String {
    let (layer, rest) = match tensor.strip_prefix(LAYER.0).and_then(|rest| rest.split_once('.')) {
        Some((layer, rest)) => (format!("{}{layer}.", LAYER.1), rest),
        None => (String::new(), tensor),
    };
    let (stem, kind) = match rest.rsplit_once('.') {
        Some((stem, kind @ ("weight" | "bias"))) => (stem, Some(kind)),
        _ => (rest, None),
    };
    let known = if stem == "norm" && !layer.is_empty() { "layers.norm" } else { stem };
    let found = STEMS.iter().find(|(known_as, _)| *known_as == known);
    let found = found.map_or(stem, |(_, found)| found);
    match kind {
        Some(kind) => format!("{layer}{found}.{kind}"),
        None => format!("{layer}{found}"),
    }
}

/// Finds every tensor of a model of this shape; none may be missing, none unknown.
pub(crate) fn tensors(file: &Gguf, config: &Config) -> Result<Vec<Tensor>, GgufError> {
    let mut tensors: Vec<Tensor> = Vec::new();
    for source in sources(config) {
        // A tensor that is cut into several parameters comes several times.
        if tensors.last().is_none_or(|last| last.known_as != source.tensor) {
            tensors.push(find(file, config, source)?);
        }
    }
    let known: std::collections::BTreeSet<&str> =
        tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    let unknown = file
        .tensor_names()
        .find(|name| !known.contains(name) && *name != ROPE_FREQS && !name.ends_with(ROTATIONS));
    match unknown {
        None => Ok(tensors),
        Some(name) => {
            let expected = format!("no such tensor in a {}", config.architecture());
            Err(file.wrong(name, "there", expected))
        }
    }
}

fn find(file: &Gguf, config: &Config, source: Source) -> Result<Tensor, GgufError> {
    let name = name(&source.tensor);
    let shape = source.tensor_shape;
    let expected = || format!("{shape:?}, rows first");
    let stored = file.tensor(&name).ok_or_else(|| file.wrong(&name, "missing", expected()))?;
    let without_ones =
        |shape: &[usize]| shape.iter().copied().filter(|size| *size != 1).collect::<Vec<_>>();
    let is_same = without_ones(&stored.shape) == without_ones(&shape);
    // The norm of Mamba-2 is written group by group.
    let is_grouped = matches!(config, Config::Mamba2(config) if source.tensor.ends_with(".mixer.norm.weight")
        && stored.shape == [config.n_groups, config.d_inner() / config.n_groups]);
    if !is_same && !is_grouped {
        return Err(file.wrong(&name, format!("{:?}", stored.shape), expected()));
    }
    Ok(Tensor {
        interleaved: interleaved(file, config, &source.tensor)?,
        is_neg_exp: source.tensor.ends_with(".A_log"),
        stored: stored.clone(),
        known_as: source.tensor,
        name,
        shape,
    })
}

/// Rows of a head in which the rows of both halves alternate: queries and keys of llama.
fn interleaved(file: &Gguf, config: &Config, tensor: &str) -> Result<Option<usize>, GgufError> {
    let Config::Transformer(config) = config else { return Ok(None) };
    let is_turned = [".q_proj.weight", ".q_proj.bias", ".k_proj.weight", ".k_proj.bias"]
        .iter()
        .any(|end| tensor.ends_with(end));
    Ok((is_turned && file.architecture()? == "llama").then_some(config.head_dim))
}

/// How a file's `rope_freqs` stretch the rotation.
pub(super) enum RopeFactors {
    /// Not at all: there are none, or all are 1.
    None,
    /// As this scaling does.
    Known(RopeScaling),
    /// As none does that is known.
    Unknown,
}

/// Finds the scaling that divides the frequencies of `config` as the file says.
///
/// llama.cpp's conversion writes the divisors of Llama 3 and not what they came from. All releases of it have the same
/// slopes, and one of two lengths; the largest divisor is the factor.
pub(super) fn rope_factors(file: &Gguf, config: &TransformerConfig) -> RopeFactors {
    let Some(divisors) = file.numbers(ROPE_FREQS) else { return RopeFactors::None };
    let largest = divisors.iter().copied().fold(1.0_f32, f32::max);
    let mut config = config.clone();
    config.rope.scaling = RopeScaling::None;
    let plain = inv_freq(&config);
    if divisors.len() != plain.len() {
        return RopeFactors::Unknown;
    }
    let mut matches = |scaling: RopeScaling| {
        config.rope.scaling = scaling;
        let stretched = inv_freq(&config);
        let close = |((plain, stretched), divisor): ((&f32, &f32), &f32)| {
            (plain / stretched / divisor - 1.0).abs() < 1e-5
        };
        plain.iter().zip(&stretched).zip(&divisors).all(close)
    };
    if matches(RopeScaling::None) {
        return RopeFactors::None;
    }
    let llama3 = |original_context: f64| RopeScaling::Llama3 {
        factor: largest.into(),
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context,
    };
    let known = [8192.0, 4096.0].map(llama3).into_iter().find(|scaling| matches(*scaling));
    known.map_or(RopeFactors::Unknown, RopeFactors::Known)
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn tensors_are_called_as_llama_cpp_calls_them() {
        for (known_as, expected) in [
            ("embed_tokens.weight", "token_embd.weight"),
            ("norm.weight", "output_norm.weight"),
            ("lm_head.weight", "output.weight"),
            ("layers.12.self_attn.q_proj.bias", "blk.12.attn_q.bias"),
            ("layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight"),
            ("layers.3.norm.weight", "blk.3.attn_norm.weight"),
            ("layers.3.mixer.norm.weight", "blk.3.ssm_norm.weight"),
            ("layers.3.mixer.A_log", "blk.3.ssm_a"),
            ("layers.3.mixer.D", "blk.3.ssm_d"),
            ("layers.3.mixer.dt_bias", "blk.3.ssm_dt.bias"),
            ("layers.3.mixer.dt_proj.bias", "blk.3.ssm_dt.bias"),
            ("layers.3.mixer.conv1d.weight", "blk.3.ssm_conv1d.weight"),
            ("norm_f.weight", "output_norm.weight"),
        ] {
            assert_eq!(name(known_as), expected, "{known_as}");
        }
    }
}
