//! The shape of a transformer.

use super::Tokens;

/// Which family of transformers a checkpoint belongs to: they differ in biases, norms and windows only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransformerKind {
    /// Llama 1 to 3, and the many that call themselves so.
    Llama,
    /// Mistral: may slide its window.
    Mistral,
    /// Qwen 2 and 2.5: biases on queries, keys and values.
    Qwen2,
    /// Qwen 3: a norm on each head of queries and keys.
    Qwen3,
}

/// How positions turn queries and keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// Base of the geometric series of frequencies.
    pub theta: f64,
    /// How the frequencies were stretched for a longer context.
    pub scaling: RopeScaling,
}

/// How the frequencies of a rotation were stretched for a longer context than that of training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Every frequency is divided by `factor`.
    Linear {
        /// At least 1.
        factor: f64,
    },
    /// Llama 3.1: low frequencies are divided by `factor`, high ones are kept, those between are blended.
    Llama3 {
        /// At least 1.
        factor: f64,
        /// Waves longer than `original_context / low_freq_factor` are stretched by the whole factor.
        low_freq_factor: f64,
        /// Waves shorter than `original_context / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context of the training before the stretching.
        original_context: f64,
    },
}

/// The shape of a transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct TransformerConfig {
    /// Family.
    pub kind: TransformerKind,
    /// Tokens in the table.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Width inside the feed-forward layers.
    pub d_ff: usize,
    /// Layers.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key/value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of a head; even, and not always `d_model / n_heads`.
    pub head_dim: usize,
    /// Longest context, in tokens.
    pub context_max: usize,
    /// Added to the mean square by every norm.
    pub norm_eps: f64,
    /// How positions turn queries and keys.
    pub rope: Rope,
    /// Sliding window of each layer in tokens; 0: none.
    pub windows: Vec<usize>,
    /// Queries, keys and values have biases.
    pub has_qkv_bias: bool,
    /// The projection out of the heads has a bias.
    pub has_o_bias: bool,
    /// The feed-forward projections have biases.
    pub has_mlp_bias: bool,
    /// Queries and keys are normalised per head.
    pub has_qk_norm: bool,
    /// The head is the token table.
    pub is_tied: bool,
    /// Standard deviation of the weights before training.
    pub init_std: f64,
    /// Tokens with a meaning.
    pub tokens: Tokens,
}

impl Default for TransformerConfig {
    /// A small Llama, to be trained from nothing.
    fn default() -> Self {
        Self {
            kind: TransformerKind::Llama,
            vocab_size: 512,
            d_model: 256,
            d_ff: 688,
            n_layers: 12,
            n_heads: 8,
            n_kv_heads: 4,
            head_dim: 32,
            context_max: 2048,
            norm_eps: 1e-5,
            rope: Rope { theta: 10000.0, scaling: RopeScaling::None },
            windows: vec![0; 12],
            has_qkv_bias: false,
            has_o_bias: false,
            has_mlp_bias: false,
            has_qk_norm: false,
            is_tied: true,
            init_std: 0.02,
            tokens: Tokens::default(),
        }
    }
}
