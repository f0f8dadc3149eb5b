//! The shapes of Mamba and Mamba-2.

use super::Tokens;

/// Where the biases of the time steps start: log-uniform between `min` and `max`, not below `floor`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeStep {
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Never below this.
    pub floor: f64,
}

impl Default for TimeStep {
    /// As both papers have it.
    fn default() -> Self {
        Self { min: 0.001, max: 0.1, floor: 1e-4 }
    }
}

/// The shape of a Mamba (Gu & Dao 2023).
#[derive(Clone, Debug, PartialEq)]
pub struct MambaConfig {
    /// Tokens in the table.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Channels of the recurrence.
    pub d_inner: usize,
    /// Numbers of state per channel.
    pub d_state: usize,
    /// Tokens that the convolution sees.
    pub d_conv: usize,
    /// Width that time steps are projected through.
    pub dt_rank: usize,
    /// Layers.
    pub n_layers: usize,
    /// Added to the mean square by every norm.
    pub norm_eps: f64,
    /// The projections in and out have biases.
    pub has_bias: bool,
    /// The convolution has a bias.
    pub has_conv_bias: bool,
    /// The head is the token table.
    pub is_tied: bool,
    /// Where the biases of the time steps start.
    pub time_step: TimeStep,
    /// Standard deviation of the token table before training.
    pub init_std: f64,
    /// Tokens with a meaning.
    pub tokens: Tokens,
}

impl Default for MambaConfig {
    /// A small model, to be trained from nothing.
    fn default() -> Self {
        Self {
            vocab_size: 512,
            d_model: 256,
            d_inner: 512,
            d_state: 16,
            d_conv: 4,
            dt_rank: 16,
            n_layers: 12,
            norm_eps: 1e-5,
            has_bias: false,
            has_conv_bias: true,
            is_tied: true,
            time_step: TimeStep::default(),
            init_std: 0.02,
            tokens: Tokens::default(),
        }
    }
}

/// The shape of a Mamba-2 (Dao & Gu 2024).
#[derive(Clone, Debug, PartialEq)]
pub struct Mamba2Config {
    /// Tokens in the table.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Heads.
    pub n_heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Groups of heads that share `b` and `c`; divides `n_heads`.
    pub n_groups: usize,
    /// Numbers of state per channel.
    pub d_state: usize,
    /// Tokens that the convolution sees.
    pub d_conv: usize,
    /// Layers.
    pub n_layers: usize,
    /// Tokens that a whole-sequence pass treats as one block: a matter of speed, not of meaning.
    pub chunk_size: usize,
    /// Added to the mean square by every norm.
    pub norm_eps: f64,
    /// Time steps are clamped to this range; the upper end may be infinite.
    pub dt_limit: (f32, f32),
    /// The projections in and out have biases.
    pub has_bias: bool,
    /// The convolution has a bias.
    pub has_conv_bias: bool,
    /// The head is the token table.
    pub is_tied: bool,
    /// Where the biases of the time steps start.
    pub time_step: TimeStep,
    /// Standard deviation of the token table before training.
    pub init_std: f64,
    /// Tokens with a meaning.
    pub tokens: Tokens,
}

impl Mamba2Config {
    /// Channels of the recurrence: those of all heads.
    #[must_use]
    pub fn d_inner(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Channels of the convolution: `x`, then `b` and `c` of every group.
    #[must_use]
    pub fn conv_channels(&self) -> usize {
        self.d_inner() + 2 * self.n_groups * self.d_state
    }
}

impl Default for Mamba2Config {
    /// A small model, to be trained from nothing.
    fn default() -> Self {
        Self {
            vocab_size: 512,
            d_model: 256,
            n_heads: 8,
            head_dim: 64,
            n_groups: 1,
            d_state: 64,
            d_conv: 4,
            n_layers: 12,
            chunk_size: 64,
            norm_eps: 1e-5,
            dt_limit: (0.0, f32::INFINITY),
            has_bias: false,
            has_conv_bias: true,
            is_tied: true,
            time_step: TimeStep::default(),
            init_std: 0.02,
            tokens: Tokens::default(),
        }
    }
}
