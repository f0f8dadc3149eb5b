//! From the keys of a GGUF file to a [`Config`].
//!
//! The keys are read into the fields of a `config.json`, so that one reader checks both; what it has to say names keys.

use serde_json::{Map, Value, json};

use super::names::{ROPE_FREQS, RopeFactors, rope_factors};
use super::{Gguf, GgufError};
use crate::config::{Config, ConfigError, Names, RopeScaling, TransformerConfig};

/// What to do about a key that is wrong.
const ADVICE: &str = "take another conversion of the model";

/// What is read; llama.cpp calls Mistral a llama.
const ARCHITECTURES: [&str; 5] = ["llama", "qwen2", "qwen3", "mamba", "mamba2"];

/// Tokens that end an answer besides the one that ends a text, by the keys that name them.
const ENDS: [&str; 3] =
    ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];

/// Fields and the ends of their keys; each key begins with the architecture.
const TRANSFORMER: [(&str, &str); 8] = [
    ("hidden_size", "embedding_length"),
    ("intermediate_size", "feed_forward_length"),
    ("num_hidden_layers", "block_count"),
    ("num_attention_heads", "attention.head_count"),
    ("num_key_value_heads", "attention.head_count_kv"),
    ("head_dim", "attention.key_length"),
    ("max_position_embeddings", "context_length"),
    ("sliding_window", "attention.sliding_window"),
];

const MAMBA: [(&str, &str); 6] = [
    ("hidden_size", "embedding_length"),
    ("num_hidden_layers", "block_count"),
    ("state_size", "ssm.state_size"),
    ("conv_kernel", "ssm.conv_kernel"),
    ("time_step_rank", "ssm.time_step_rank"),
    ("n_groups", "ssm.group_count"),
];

/// Fields that are numbers with a fraction.
const FLOATS: [(&str, &str); 3] = [
    ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
    ("layer_norm_epsilon", "attention.layer_norm_rms_epsilon"),
    ("rope_theta", "rope.freq_base"),
];

/// Keys of what is not supported, and the largest value that asks for nothing.
const NOT_SUPPORTED: [(&str, f64); 3] =
    [("expert_count", 0.0), ("ssm.dt_b_c_rms", 0.0), ("attention.clamp_kqv", 0.0)];

impl Gguf {
    /// The shape of the model.
    ///
    /// # Errors
    ///
    /// An architecture that is not supported, a key that is missing or does not fit.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let architecture = self.architecture()?;
        if !ARCHITECTURES.contains(&architecture) {
            let (path, found) = (self.path.clone(), architecture.into());
            return Err(ConfigError::Architecture { path, found });
        }
        let is_mamba = matches!(architecture, "mamba" | "mamba2");
        let mut keys = Keys { file: self, architecture, map: Map::new(), names: Vec::new() };
        keys.model_type()?;
        keys.refuse_what_is_not_supported()?;
        keys.numbers(if is_mamba { &MAMBA } else { &TRANSFORMER })?;
        keys.floats()?;
        keys.vocabulary()?;
        if is_mamba {
            keys.recurrence()?;
        } else {
            keys.rotation()?;
        }
        let Keys { map, names, .. } = keys;
        let mut config = Config::of_fields(&self.path, map, Names { names, advice: ADVICE })?;
        if let Config::Transformer(config) = &mut config {
            self.settle(config)?;
        }
        Ok(config)
    }

    /// Biases are what tensors there are; a stretched rotation is what divisors there are.
    fn settle(&self, config: &mut TransformerConfig) -> Result<(), ConfigError> {
        let has = |name: &str| self.tensors.contains_key(&format!("blk.0.{name}.bias"));
        config.has_qkv_bias = has("attn_q");
        config.has_o_bias = has("attn_output");
        config.has_mlp_bias = has("ffn_up");
        match rope_factors(self, config) {
            RopeFactors::None => {}
            RopeFactors::Known(scaling) if config.rope.scaling == RopeScaling::None => {
                config.rope.scaling = scaling;
            }
            RopeFactors::Known(_) | RopeFactors::Unknown => {
                let expected = "the divisors of a Llama 3 without any other scaling";
                return Err(self.wrong(ROPE_FREQS, "something else", expected).into());
            }
        }
        Ok(())
    }
}

/// Keys on their way into fields.
struct Keys<'g> {
    file: &'g Gguf,
    architecture: &'g str,
    map: Map<String, Value>,
    names: Vec<(&'static str, String)>,
}

impl Keys<'_> {
    fn key(&self, end: &str) -> String {
        format!("{}.{end}", self.architecture)
    }

    fn put(&mut self, field: &'static str, key: String, value: Option<Value>) {
        self.names.push((field, key));
        if let Some(value) = value {
            self.map.insert(field.into(), value);
        }
    }

    /// A Mistral with a window is told apart by it.
    fn model_type(&mut self) -> Result<(), GgufError> {
        let window = self.file.unsigned(&self.key("attention.sliding_window"))?.unwrap_or(0);
        let model_type = match self.architecture {
            "llama" if window > 0 => "mistral",
            other => other,
        };
        if window > 0 && model_type != "mistral" {
            let (key, expected) =
                (self.key("attention.sliding_window"), "0: no windows in a part of the layers");
            return Err(self.file.wrong(&key, window, expected));
        }
        self.put("model_type", "general.architecture".into(), Some(json!(model_type)));
        Ok(())
    }

    fn refuse_what_is_not_supported(&self) -> Result<(), GgufError> {
        for (end, most) in NOT_SUPPORTED {
            let key = self.key(end);
            let found = match self.file.flag(&key) {
                Ok(flag) => flag.map(|flag| f64::from(u8::from(flag))),
                Err(_) => self.file.float(&key)?,
            };
            if let Some(found) = found.filter(|found| *found > most) {
                return Err(self.file.wrong(&key, found, "a model without"));
            }
        }
        Ok(())
    }

    fn numbers(&mut self, table: &[(&'static str, &str)]) -> Result<(), GgufError> {
        for (field, end) in table {
            let key = self.key(end);
            // No window is written as 0, or not at all.
            let found =
                self.file.unsigned(&key)?.filter(|found| *field != "sliding_window" || *found > 0);
            self.put(field, key, found.map(Value::from));
        }
        Ok(())
    }

    fn floats(&mut self) -> Result<(), GgufError> {
        for (field, end) in FLOATS {
            let (key, found) = (self.key(end), self.file.float(&self.key(end))?);
            if let Some(found) = found.filter(|found| !found.is_finite()) {
                return Err(self.file.wrong(&key, found, "a finite number"));
            }
            if end.ends_with("epsilon") && found.is_none() {
                return Err(self.file.wrong(&key, "missing", "a small number"));
            }
            self.put(field, key, found.map(Value::from));
        }
        Ok(())
    }

    /// The table says how many tokens there are, and whether there is another for the head.
    fn vocabulary(&mut self) -> Result<(), GgufError> {
        let table = self.file.tensor("token_embd.weight");
        let tokens = table.and_then(|table| table.shape.first().copied());
        let tokens = self.file.needed("token_embd.weight", tokens, "the token table")?;
        self.put("vocab_size", "rows of token_embd.weight".into(), Some(json!(tokens)));
        let is_tied = self.file.tensor("output.weight").is_none();
        self.put("tie_word_embeddings", "output.weight".into(), Some(json!(is_tied)));
        let bos = self.file.unsigned("tokenizer.ggml.bos_token_id")?;
        // Some files have an id for a token that the model does not know.
        let in_table = |id: &u64| usize::try_from(*id).is_ok_and(|id| id < tokens);
        self.put(
            "bos_token_id",
            "tokenizer.ggml.bos_token_id".into(),
            bos.filter(in_table).map(Value::from),
        );
        let mut ends = Vec::new();
        for key in ENDS {
            if let Some(id) =
                self.file.unsigned(key)?.filter(|id| in_table(id) && !ends.contains(id))
            {
                ends.push(id);
            }
        }
        self.put("eos_token_id", ENDS[0].into(), Some(json!(ends)));
        Ok(())
    }

    /// Heads are as wide as the file says, or as its rotation is; all of a head must turn.
    fn rotation(&mut self) -> Result<(), GgufError> {
        let turned = self.file.unsigned(&self.key("rope.dimension_count"))?;
        let (key, width) = (self.key("attention.key_length"), self.map.get("head_dim"));
        if let (Some(turned), None) = (turned, width) {
            self.put("head_dim", key, Some(json!(turned)));
        } else if let (Some(turned), Some(width)) = (turned, width.and_then(Value::as_u64))
            && turned != width
        {
            return Err(self.file.wrong(&self.key("rope.dimension_count"), turned, width));
        }
        let value = self.file.unsigned(&self.key("attention.value_length"))?;
        let width = self.map.get("head_dim").and_then(Value::as_u64);
        if let (Some(value), Some(width)) = (value, width)
            && value != width
        {
            return Err(self.file.wrong(&self.key("attention.value_length"), value, width));
        }
        let linear = self.file.float(&self.key("rope.scale_linear"))?;
        let factor = self.file.float(&self.key("rope.scaling.factor"))?.or(linear);
        let (key, factor) = (self.key("rope.scaling.type"), factor.filter(|factor| *factor != 0.0));
        let scaling = match (self.file.text(&key)?, factor) {
            (Some("none"), _) | (None, None) => None,
            (Some("linear") | None, Some(factor)) => {
                Some(json!({"rope_type": "linear", "factor": factor}))
            }
            (Some(found), _) => return Err(self.file.wrong(&key, found, "none or linear")),
        };
        self.put("rope_scaling", key, scaling);
        Ok(())
    }

    /// Sizes that `config.json` has in another form, and biases.
    fn recurrence(&mut self) -> Result<(), GgufError> {
        let key = self.key("ssm.inner_size");
        let inner =
            self.file.needed(&key, self.file.unsigned(&key)?, "the width of a layer's state")?;
        let d_model = self.map.get("hidden_size").and_then(Value::as_u64).unwrap_or(0).max(1);
        self.put("expand", key, Some(json!(expand(inner, d_model))));
        if self.architecture == "mamba2" {
            let key = self.key("ssm.time_step_rank");
            let heads = self.file.needed(&key, self.file.unsigned(&key)?, "the number of heads")?;
            if heads == 0 || !inner.is_multiple_of(heads) {
                let expected = format!("a divisor of ssm.inner_size ({inner})");
                return Err(self.file.wrong(&key, heads, expected));
            }
            self.put("head_dim", key.clone(), Some(json!(inner / heads)));
            self.put("num_heads", key, Some(json!(heads)));
        }
        for (field, tensor) in [("use_bias", "ssm_in"), ("use_conv_bias", "ssm_conv1d")] {
            let name = format!("blk.0.{tensor}.bias");
            let is_there = self.file.tensor(&name).is_some();
            self.put(field, name, Some(json!(is_there)));
        }
        Ok(())
    }
}

/// The least number whose product with `d_model` is `inner` once it is cut to a whole number.
fn expand(inner: u64, d_model: u64) -> f64 {
    let expand = inner as f64 / d_model as f64;
    if ((expand * d_model as f64) as u64) < inner { expand.next_up() } else { expand }
}
