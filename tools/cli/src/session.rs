//! A bundle, loaded and planned, ready to decode.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use dynamax_bundle::Bundle;
use dynamax_config::Bytes;
use dynamax_engine::decoder::Crew;
use dynamax_engine::model::fit;
use dynamax_engine::{Decoder, Line, Loaded, Model, Sampling, Settings, Team, sample};
use dynamax_kernels::Isa;

use crate::machine;
use crate::source::{Demo, Source};

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

/// The bundle that a command names, or a demo.
pub(crate) fn source(bundle: Option<&PathBuf>, demo: Demo) -> Result<Source> {
    bundle.map_or_else(|| Ok(Source::demo(demo)), |path| Source::open(path))
}

/// A bundle with its plan.
#[derive(Debug)]
pub(crate) struct Session<'b> {
    pub(crate) bundle: Bundle<'b>,
    loaded: Loaded<'b>,
    isa: Isa,
    team: Option<Team>,
    /// Seconds from the mapped file to here.
    pub(crate) load_s: f64,
}

impl<'b> Session<'b> {
    /// Checks, plans and resolves the bundle behind `source`.
    pub(crate) fn open(source: &'b Source, arguments: &DecodeArguments) -> Result<Self> {
        let start = Instant::now();
        let bundle = if arguments.no_verify { source.bundle()? } else { source.verified()? };
        let program = bundle.program_buf().with_context(|| source.path().display().to_string())?;
        let settings = settings(&bundle, arguments.context, arguments.rows);
        let (meta, section) = (bundle.meta(), |index: u16| bundle.section(index.into()));
        if let Some(Bytes(limit)) = arguments.memory {
            let weights_bytes =
                program.tensors.iter().filter_map(dynamax_bundle::Tensor::stored_bytes).sum();
            fit(&program, weights_bytes, meta.context_max, settings, limit)?;
        }
        let loaded = Loaded::new(program, section, meta.context_max, settings);
        let loaded = loaded.with_context(|| source.path().display().to_string())?;
        let threads = arguments.threads.map_or_else(machine::default_threads, NonZeroUsize::get);
        let team = (threads > 1)
            .then(|| Team::new(threads))
            .transpose()
            .context("threads cannot be started")?;
        let isa = isa(arguments.isa.as_deref())?;
        Ok(Self { bundle, loaded, isa, team, load_s: start.elapsed().as_secs_f64() })
    }

    /// The model.
    pub(crate) fn model(&self) -> Model<'_> {
        self.loaded.model()
    }

    /// The block of memory that a decoder works in.
    pub(crate) fn memory(&self) -> Vec<Line> {
        vec![Line::ZERO; self.model().memory_lines()]
    }

    /// The block of memory that a sampler works in.
    pub(crate) fn sampler_memory(&self) -> Vec<Line> {
        let bytes = sample::storage_bytes(self.model().vocab_size());
        vec![Line::ZERO; bytes as usize / Line::BYTES]
    }

    /// A decoder over `memory`.
    pub(crate) fn decoder<'s>(&'s self, memory: &'s mut [Line]) -> Decoder<'s> {
        let crew = self.team.as_ref().map_or(Crew::Alone, Crew::Team);
        Decoder::new(self.model(), memory, self.isa, crew)
    }

    /// Instruction set of the kernels.
    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// Threads that work.
    pub(crate) fn threads(&self) -> usize {
        self.team.as_ref().map_or(1, Team::threads)
    }
}

/// What to plan for: the flags, or else what the bundle says.
pub(crate) fn settings(bundle: &Bundle<'_>, context: Option<u32>, rows: Option<u32>) -> Settings {
    let meta = bundle.meta();
    let context = context.unwrap_or(meta.context);
    Settings { context, max_rows: rows.unwrap_or(meta.max_rows.min(context).max(1)) }
}

/// The instruction set with this name, or the best.
fn isa(name: Option<&str>) -> Result<Isa> {
    let Some(name) = name else { return Ok(Isa::detect()) };
    Isa::by_name(name).with_context(|| {
        let names: Vec<_> = Isa::available().map(Isa::name).collect();
        format!("--isa {name}: this machine has {}; choose one of these", names.join(", "))
    })
}
