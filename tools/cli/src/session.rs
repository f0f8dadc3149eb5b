//! The flags of commands that decode.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use dynamax_bundle::StateMode;
use dynamax_config::Bytes;
use dynamax_config::{DeviceConfig, ExitMode as Mode, Meter};
use dynamax_engine::{ExitSettings, Sampling};
use dynamax_governor::{Microjoules, Microseconds};
use dynamax_session::budget::Budget;
use dynamax_session::depth::{Depth, Fixed, thresholds};
use dynamax_session::machine::Machine;
use dynamax_session::metering::Metering;
use dynamax_session::traffic::Ladder;
use dynamax_session::{Contents, Options, Rounds, Session, Source, Surroundings, profiles};

use crate::backend;

/// Which executor runs the Program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// Quantized kernels over one planned block of memory.
    #[default]
    Cpu,
    /// The same kernels as operators of Burn's CPU backend.
    Flex,
    /// The same on the CPU backend that Burn had before; in builds with feature `ndarray`.
    Ndarray,
    /// A GPU; in builds with feature `wgpu`.
    Wgpu,
}

impl Backend {
    /// Its name in `device.toml`.
    fn config(self) -> dynamax_config::Backend {
        match self {
            Self::Cpu => dynamax_config::Backend::Cpu,
            Self::Flex => dynamax_config::Backend::Flex,
            Self::Ndarray => dynamax_config::Backend::Ndarray,
            Self::Wgpu => dynamax_config::Backend::Wgpu,
        }
    }
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
    /// As deep as the energy and the latency of --config, --energy and --latency allow.
    Budget,
    /// Tokens that leave early, or that were said before, are drafts, which the last layer verifies: exactly the tokens of `off`,
    /// faster. Needs no exits.
    Verified,
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
    /// Executor; by default what --config says, or else `cpu`. All but `wgpu` give the same bits.
    #[arg(long, value_enum, help_heading = "Decoding")]
    backend: Option<Backend>,
    /// Threads; by default one for each core.
    #[arg(long, short = 't', help_heading = "Decoding")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Early exits; by default what --config says, `budget` with --energy or --latency, or else `off`.
    #[arg(long, value_enum, help_heading = "Exits")]
    exit: Option<ExitMode>,
    /// Leave where the probability of being settled is at least this: one value for all exits, or one for each.
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true, help_heading = "Exits")]
    threshold: Vec<f32>,
    /// What happens to the state of layers that a token did not reach.
    #[arg(long, value_enum, default_value_t, help_heading = "Exits")]
    state: State,
    /// Let thresholds fall along the answer, to nine tenths, at this rate (CALM's temperature, such as 4).
    #[arg(long, help_heading = "Exits")]
    pub(crate) decay: Option<f32>,
    /// Most tokens drafted before they are verified (--exit verified), 1 to 16.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=16), help_heading = "Exits")]
    drafts: Option<u32>,
    /// Rows that may wait for deeper layers before they are caught up (--state deferred).
    #[arg(long, help_heading = "Exits")]
    pub(crate) waiting: Option<u32>,
    /// Compare tokens that left early with full depth when they are caught up, and report the agreement.
    #[arg(long, help_heading = "Exits")]
    pub(crate) reveal: bool,
    /// Configuration of a device: board, budgets, exits, power meter (docs/device-toml.md). Flags go before it.
    #[arg(long, value_name = "FILE", help_heading = "Budget")]
    config: Option<PathBuf>,
    /// Mean energy of a token, such as "0.5 J".
    #[arg(long, value_name = "ENERGY", allow_hyphen_values = true, value_parser = dynamax_config::energy, help_heading = "Budget")]
    energy: Option<Microjoules>,
    /// Deadline of each token, such as "80 ms".
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = dynamax_config::time, help_heading = "Budget")]
    latency: Option<Microseconds>,
    /// What measures energy: auto, ina3221, hwmon, ina226, ina219, rapl, battery, trace, or model.
    #[arg(long, value_name = "METER", value_parser = meter, help_heading = "Budget")]
    meter: Option<Meter>,
    /// What the bundle costs on this board, as `dynamax profile` writes it; by default m.profile.toml beside m.dmx, if it is of this
    /// bundle and board.
    #[arg(long, value_name = "FILE", help_heading = "Budget")]
    profile: Option<PathBuf>,
    /// Where the board's files are, to try out what is not there.
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
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
        let device = self.device()?;
        let of_device = |threads| NonZeroUsize::new(threads as usize);
        let options = Options {
            threads: self.threads.or(device.device.threads.and_then(of_device)),
            isa: self.isa.clone(),
            context: self.context.or(device.model.context),
            rows: self.rows,
            head_rows: (self.reveal || device.exit.mode == Mode::Budget).then_some(HEAD_ROWS),
            drafts: (device.exit.mode == Mode::Verified).then_some(device.exit.draft_length),
            memory_bytes: self.memory.or(device.device.memory).map(|Bytes(limit)| limit),
            contents: if self.no_verify { Contents::Unverified } else { Contents::Verified },
        };
        let mut session = Session::open(source, &options)?;
        let backend = self.backend.map_or(device.device.backend, Backend::config);
        backend::put(
            &mut session,
            source,
            backend,
            (device.device.fallback, options.memory_bytes),
        )?;
        Ok(session)
    }

    /// Where the board's files are.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether a device's configuration is named.
    pub(crate) fn has_config(&self) -> bool {
        self.config.is_some()
    }

    /// The configuration: the file, if one is named, and the flags that stand before it.
    pub(crate) fn device(&self) -> Result<DeviceConfig> {
        let mut device = match &self.config {
            Some(path) => DeviceConfig::read(path)?,
            None => {
                let mut device = DeviceConfig::default();
                let has_budget = self.energy.is_some() || self.latency.is_some();
                device.exit.mode = if has_budget { Mode::Budget } else { Mode::Off };
                device
            }
        };
        match self.exit {
            Some(ExitMode::Off) => device.exit.mode = Mode::Off,
            Some(ExitMode::Fixed) => device.exit.mode = Mode::Fixed,
            Some(ExitMode::Budget) => device.exit.mode = Mode::Budget,
            Some(ExitMode::Verified) => device.exit.mode = Mode::Verified,
            None => {}
        }
        device.exit.draft_length = self.drafts.unwrap_or(device.exit.draft_length);
        device.budget.energy_per_token = self.energy.or(device.budget.energy_per_token);
        device.budget.latency_per_token = self.latency.or(device.budget.latency_per_token);
        device.power.meter = self.meter.unwrap_or(device.power.meter);
        Ok(device)
    }

    /// How deep tokens go.
    pub(crate) fn depth(&self, session: &Session<'_>) -> Result<Depth> {
        let device = self.device()?;
        match device.exit.mode {
            Mode::Off => {
                self.refuse_fixed("it has no effect without early exits")?;
                Ok(Depth::Full)
            }
            Mode::Fixed => self.fixed(session, &device).map(Depth::Fixed),
            Mode::Budget => {
                self.budget(session, &device).map(|budget| Depth::Budget(Box::new(budget)))
            }
            Mode::Verified => {
                self.refuse_fixed("--exit verified chooses by itself what it drafts")?;
                let budget = self.budget(session, &device)?;
                Ok(Depth::Verified(Box::new(Rounds::new(budget))))
            }
        }
    }

    /// How deep tokens go, where every token is treated alike.
    pub(crate) fn steady_depth(&self, session: &Session<'_>) -> Result<Depth> {
        match self.depth(session)? {
            Depth::Budget(_) => {
                bail!("a budget is kept by `dynamax run` and `dynamax chat`: use --exit fixed here")
            }
            depth => Ok(depth),
        }
    }

    /// What measures the energy of tokens.
    pub(crate) fn metering(&self, session: &Session<'_>) -> Result<Metering> {
        let ladder = Ladder::of(session.model().program());
        Metering::open(&self.device()?, self.root(), ladder, session.threads())
    }

    /// What may change around the model: power mode and battery.
    pub(crate) fn surroundings(&self) -> Result<Surroundings> {
        let device = self.device()?;
        let board = device.board().map_err(anyhow::Error::msg)?;
        Ok(Surroundings::new(self.root(), board, device.power.below_battery.is_some()))
    }

    /// Refuses flags of fixed exits, where something else decides.
    fn refuse_fixed(&self, why: &str) -> Result<()> {
        let unused = [
            ("--threshold", !self.threshold.is_empty()),
            ("--decay", self.decay.is_some()),
            ("--waiting", self.waiting.is_some()),
            ("--reveal", self.reveal),
        ];
        if let Some((flag, _)) = unused.into_iter().find(|(_, given)| *given) {
            bail!("{flag}: {why}; leave it out, or use --exit fixed");
        }
        Ok(())
    }

    fn fixed(&self, session: &Session<'_>, device: &DeviceConfig) -> Result<Fixed> {
        if let Some(rate) = self.decay.filter(|rate| !rate.is_finite() || *rate < 0.0) {
            bail!("--decay {rate} is out of range: give 0 or more");
        }
        let state = self.state.mode();
        let of_device: Vec<f32> = device.exit.threshold.iter().map(|t| *t as f32).collect();
        let given = if self.threshold.is_empty() { &of_device } else { &self.threshold };
        Ok(Fixed {
            settings: ExitSettings {
                state,
                pending_max: self.waiting.unwrap_or(0),
                reveals: self.reveal,
                drafts: false,
            },
            thresholds: thresholds(&session.bundle, given, state)?,
            decay: self.decay,
        })
    }

    fn budget(&self, session: &Session<'_>, device: &DeviceConfig) -> Result<Budget> {
        let hash = session.bundle.hash();
        let (board, backend) = (device.device.board.as_str(), session.backend());
        let profile = match (&self.profile, &session.file) {
            (Some(path), _) => Some(profiles::read(path, hash, backend)?),
            (None, Some(file)) => profiles::beside(file, hash, (board, backend))?,
            (None, None) => None,
        };
        let (threads, profile) = (session.threads(), profile.as_ref());
        let machine = Machine { threads, root: self.root(), profile };
        Budget::new(&session.bundle, session.model().program(), device, &machine)
    }
}

/// Rows whose logits are computed together, where rows that waited are compared with what they had said.
const HEAD_ROWS: u32 = 16;

/// A meter by its name in `device.toml`.
fn meter(name: &str) -> Result<Meter, String> {
    let text = format!(
        "[power]\nmeter = {name:?}\n{}",
        if name == "trace" { "trace = \"-\"" } else { "" }
    );
    let config = DeviceConfig::from_text("--meter", &text);
    config.map(|config| config.power.meter).map_err(|error| error.to_string())
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
        if let Err((field, range)) = sampling.validate() {
            bail!("--{} is out of range: give {range}", field.replace('_', "-"));
        }
        Ok(sampling)
    }
}
