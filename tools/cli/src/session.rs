//! The flags of commands that decode.

use std::num::NonZeroUsize;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use dynamax_config::Bytes;
use dynamax_engine::Sampling;
use dynamax_session::{Contents, Options, Session, Source};

/// Which executor runs the Program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// Quantized kernels over one planned block of memory.
    #[default]
    Cpu,
}

/// Where a token may leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExitMode {
    /// Every token goes through all layers.
    #[default]
    Off,
}

/// Flags of every command that decodes.
#[derive(Args, Clone, Debug)]
pub(crate) struct DecodeArguments {
    /// Executor.
    #[arg(long, value_enum, default_value_t, help_heading = "Decoding")]
    pub(crate) backend: Backend,
    /// Threads; by default one for each core.
    #[arg(long, short = 't', help_heading = "Decoding")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Early exits.
    #[arg(long, value_enum, default_value_t, help_heading = "Decoding")]
    pub(crate) exit: ExitMode,
    /// Instruction set of the kernels, of those this machine has; by default the best. All give the same tokens.
    #[arg(long, help_heading = "Decoding")]
    pub(crate) isa: Option<String>,
    /// Tokens to plan for: prompt and answer together.
    #[arg(long, help_heading = "Decoding")]
    pub(crate) context: Option<u32>,
    /// Rows of a prompt computed together.
    #[arg(long, help_heading = "Decoding")]
    pub(crate) rows: Option<u32>,
    /// Refuse to start if the plan needs more than this, such as "3.5 GiB".
    #[arg(long, help_heading = "Decoding")]
    pub(crate) memory: Option<Bytes>,
    /// Do not compare the bundle's contents with its hashes.
    #[arg(long, help_heading = "Decoding")]
    pub(crate) no_verify: bool,
}

impl DecodeArguments {
    /// Checks, plans and resolves the bundle behind `source`.
    pub(crate) fn open<'b>(&self, source: &'b Source) -> Result<Session<'b>> {
        let options = Options {
            threads: self.threads,
            isa: self.isa.clone(),
            context: self.context,
            rows: self.rows,
            memory_bytes: self.memory.map(|Bytes(limit)| limit),
            contents: if self.no_verify { Contents::Unverified } else { Contents::Verified },
        };
        Session::open(source, &options)
    }
}

/// Flags that choose tokens.
#[derive(Args, Clone, Debug)]
pub(crate) struct SamplingArguments {
    /// Randomness; 0 takes the most probable token.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true, help_heading = "Sampling")]
    temperature: f32,
    /// Keep this many of the most probable tokens; 0 keeps all.
    #[arg(long, default_value_t = 0, help_heading = "Sampling")]
    top_k: u32,
    /// Keep the fewest tokens that hold this much probability.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true, help_heading = "Sampling")]
    top_p: f32,
    /// Drop tokens less probable than this fraction of the most probable.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true, help_heading = "Sampling")]
    min_p: f32,
    /// Make tokens seen before less probable; 1 does nothing.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true, help_heading = "Sampling")]
    repetition_penalty: f32,
    /// Start of the random sequence.
    #[arg(long, default_value_t = 0, help_heading = "Sampling")]
    seed: u64,
}

impl SamplingArguments {
    /// The engine's settings.
    pub(crate) fn resolve(&self) -> Result<Sampling> {
        let Self { temperature, top_k, top_p, min_p, repetition_penalty, seed } = *self;
        let sampling = Sampling { temperature, top_k, top_p, min_p, repetition_penalty, seed };
        if let Err((name, range)) = sampling.validate() {
            bail!("--{name} is out of range: give {range}");
        }
        Ok(sampling)
    }
}
