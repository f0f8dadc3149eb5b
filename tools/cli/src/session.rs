//! The flags of commands that decode.

use std::num::NonZeroUsize;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use dynamax_bundle::StateMode;
use dynamax_config::Bytes;
use dynamax_engine::{ExitSettings, Sampling};
use dynamax_session::depth::{Depth, Fixed, thresholds};
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
    /// A token leaves at the first exit whose score reaches its threshold: the one certified in the bundle, or
    /// --threshold.
    Fixed,
}

/// What happens to the state of layers that a token did not reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum State {
    /// Keys and values of the layer before are copied; Mamba's state is left as it is.
    Copy,
    /// The residual goes through the projections that feed the state, and nothing else.
    Propagate,
    /// Skipped layers never hear of the token.
    Skip,
    /// Rows wait, and are caught up together: the state is exact.
    #[default]
    Deferred,
}

impl State {
    /// The engine's name.
    pub(crate) fn mode(self) -> StateMode {
        match self {
            Self::Copy => StateMode::Copy,
            Self::Propagate => StateMode::Propagate,
            Self::Skip => StateMode::Skip,
            Self::Deferred => StateMode::Deferred,
        }
    }
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
    #[arg(long, value_enum, default_value_t, help_heading = "Exits")]
    pub(crate) exit: ExitMode,
    /// Leave where the probability of being settled is at least this: one value for all exits, or one for each.
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true, help_heading = "Exits")]
    pub(crate) threshold: Vec<f32>,
    /// What happens to the state of layers that a token did not reach.
    #[arg(long, value_enum, default_value_t, help_heading = "Exits")]
    pub(crate) state: State,
    /// Let thresholds fall along the answer, to nine tenths, at this rate (CALM's temperature, such as 4).
    #[arg(long, help_heading = "Exits")]
    pub(crate) decay: Option<f32>,
    /// Rows that may wait for deeper layers before they are caught up (--state deferred).
    #[arg(long, help_heading = "Exits")]
    pub(crate) waiting: Option<u32>,
    /// Compare tokens that left early with full depth when they are caught up, and report the agreement.
    #[arg(long, help_heading = "Exits")]
    pub(crate) reveal: bool,
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
            head_rows: self.reveal.then_some(u32::MAX),
            memory_bytes: self.memory.map(|Bytes(limit)| limit),
            contents: if self.no_verify { Contents::Unverified } else { Contents::Verified },
        };
        Session::open(source, &options)
    }

    /// How deep tokens go.
    pub(crate) fn depth(&self, session: &Session<'_>) -> Result<Depth> {
        if self.exit == ExitMode::Off {
            let unused = [
                ("--threshold", !self.threshold.is_empty()),
                ("--decay", self.decay.is_some()),
                ("--waiting", self.waiting.is_some()),
                ("--reveal", self.reveal),
            ];
            if let Some((flag, _)) = unused.into_iter().find(|(_, given)| *given) {
                bail!("{flag} has no effect without early exits: add --exit fixed");
            }
            return Ok(Depth::Full);
        }
        if let Some(rate) = self.decay.filter(|rate| !rate.is_finite() || *rate < 0.0) {
            bail!("--decay {rate} is out of range: give 0 or more");
        }
        let state = self.state.mode();
        Ok(Depth::Fixed(Fixed {
            settings: ExitSettings {
                state,
                pending_max: self.waiting.unwrap_or(0),
                reveals: self.reveal,
            },
            thresholds: thresholds(&session.bundle, &self.threshold, state)?,
            decay: self.decay,
        }))
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
