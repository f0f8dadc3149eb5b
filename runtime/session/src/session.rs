//! A bundle, loaded and planned, ready to decode.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use dynamax_bundle::{Bundle, ProgramBuf, Tensor};
use dynamax_engine::decoder::Crew;
use dynamax_engine::model::fit;
use dynamax_engine::{Decoder, Device, Line, LoadError, Loaded, Model, Settings, Team, sample};
use dynamax_kernels::Isa;

use crate::machine;
use crate::source::Source;

/// Whether a bundle's contents are compared with its hashes before they are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Contents {
    /// They are, unless they have been since the file was last changed.
    #[default]
    Verified,
    /// They are not.
    Unverified,
}

/// How a session is set up. The default is what the bundle and the machine say.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Threads; by default one for each core.
    pub threads: Option<NonZeroUsize>,
    /// Instruction set of the kernels; by default the best.
    pub isa: Option<String>,
    /// Tokens to plan for.
    pub context: Option<u32>,
    /// Rows of a prompt computed together.
    pub rows: Option<u32>,
    /// Rows whose logits are computed together; by default one.
    pub head_rows: Option<u32>,
    /// Drafts that may wait to be verified; by default none. Their logits are computed together.
    pub drafts: Option<u32>,
    /// Bytes that the plan may need at most.
    pub memory_bytes: Option<u64>,
    /// Whether contents are hashed.
    pub contents: Contents,
}

/// Rows that waited are compared with what they had said, together.
const SERVICE_HEAD_ROWS: u32 = 16;

impl Options {
    /// As a service on a device opens bundles: for a context, and for drafts where exits are verified.
    #[must_use]
    pub fn of_service(context: Option<u32>, drafts: Option<u32>) -> Self {
        Self { context, drafts, head_rows: Some(SERVICE_HEAD_ROWS), ..Self::default() }
    }

    /// What is planned for a bundle.
    #[must_use]
    pub fn settings(&self, bundle: &Bundle<'_>) -> Settings {
        let mut settings = settings(bundle, self.context, self.rows);
        settings.head_rows = self.head_rows.map_or(1, |rows| rows.clamp(1, settings.max_rows));
        settings.with_drafts(self.drafts.unwrap_or(0))
    }

    /// Bytes that the plan of a bundle needs, known from its header alone.
    ///
    /// # Errors
    ///
    /// A Program that is unsound; more bytes than [`Self::memory_bytes`].
    pub fn planned_bytes(&self, bundle: &Bundle<'_>) -> Result<u64> {
        Ok(self.fit(bundle, &bundle.program_buf()?)?)
    }

    fn fit(&self, bundle: &Bundle<'_>, program: &ProgramBuf) -> Result<u64, LoadError> {
        let weights_bytes = program.tensors.iter().filter_map(Tensor::stored_bytes).sum();
        let limit = self.memory_bytes.unwrap_or(u64::MAX);
        fit(program, weights_bytes, bundle.meta().context_max, self.settings(bundle), limit)
    }
}

/// A bundle with its plan.
#[derive(Debug)]
pub struct Session<'b> {
    /// The bundle.
    pub bundle: Bundle<'b>,
    loaded: Loaded<'b>,
    isa: Isa,
    team: Option<Team>,
    device: Option<Box<dyn Device>>,
    /// The bundle's file, if it is one.
    pub file: Option<PathBuf>,
    /// Seconds from the mapped file to here.
    pub load_s: f64,
}

impl<'b> Session<'b> {
    /// Checks, plans and resolves the bundle behind `source`.
    ///
    /// # Errors
    ///
    /// A bundle that is damaged or unsound, options that it does not allow, a plan that does not fit.
    pub fn open(source: &'b Source, options: &Options) -> Result<Self> {
        let start = Instant::now();
        let bundle = match options.contents {
            Contents::Verified => source.verified()?,
            Contents::Unverified => source.bundle()?,
        };
        let program = bundle.program_buf().with_context(|| source.path().display().to_string())?;
        let section = |index: u16| bundle.section(index.into());
        if options.memory_bytes.is_some() {
            options.fit(&bundle, &program)?;
        }
        let context_max = bundle.meta().context_max;
        let loaded = Loaded::new(program, section, context_max, options.settings(&bundle));
        let loaded = loaded.with_context(|| source.path().display().to_string())?;
        let threads = options.threads.map_or_else(machine::default_threads, NonZeroUsize::get);
        let team = (threads > 1)
            .then(|| Team::new(threads))
            .transpose()
            .context("threads cannot be started")?;
        let isa = isa(options.isa.as_deref())?;
        let device = None;
        let file = source.file().map(Into::into);
        Ok(Self { bundle, loaded, isa, team, device, file, load_s: start.elapsed().as_secs_f64() })
    }

    /// Runs the Program on a device from now on, in place of this machine's threads. One decoder at a time: a device has one
    /// state.
    pub fn run_on(&mut self, device: Box<dyn Device>) {
        self.team = None;
        self.device = Some(device);
    }

    /// Name of what runs the Program.
    #[must_use]
    pub fn backend(&self) -> &'static str {
        self.device.as_ref().map_or("cpu", |device| device.name())
    }

    /// Bytes that were planned: for everything that is held, wherever it is.
    #[must_use]
    pub fn planned_bytes(&self) -> u64 {
        let on_device = self.device.as_ref().and_then(|device| device.planned_bytes());
        on_device.unwrap_or_else(|| self.model().sizes().total_bytes())
    }

    fn crew(&self) -> Crew<'_> {
        match (&self.device, &self.team) {
            (Some(device), _) => Crew::Device(&**device),
            (None, Some(team)) => Crew::Team(team),
            (None, None) => Crew::Alone,
        }
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> Model<'_> {
        self.loaded.model()
    }

    /// The block of memory that a decoder works in.
    #[must_use]
    pub fn memory(&self) -> Vec<Line> {
        vec![Line::ZERO; self.crew().memory_lines(&self.model())]
    }

    /// The block of memory that a sampler works in.
    #[must_use]
    pub fn sampler_memory(&self) -> Vec<Line> {
        let bytes = sample::storage_bytes(self.model().vocab_size());
        vec![Line::ZERO; bytes as usize / Line::BYTES]
    }

    /// A decoder over `memory`.
    pub fn decoder<'s>(&'s self, memory: &'s mut [Line]) -> Decoder<'s> {
        Decoder::new(self.model(), memory, self.isa, self.crew())
    }

    /// Instruction set of the kernels.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Threads that work.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.crew().threads()
    }
}

/// What to plan for: what was asked, or else what the bundle says.
#[must_use]
pub fn settings(bundle: &Bundle<'_>, context: Option<u32>, rows: Option<u32>) -> Settings {
    let meta = bundle.meta();
    let context = context.unwrap_or(meta.context);
    Settings::new(context, rows.unwrap_or(meta.max_rows.min(context).max(1)))
}

/// The instruction set with this name, or the best.
fn isa(name: Option<&str>) -> Result<Isa> {
    let Some(name) = name else { return Ok(Isa::detect()) };
    Isa::by_name(name).with_context(|| {
        let names: Vec<_> = Isa::available().map(Isa::name).collect();
        format!("--isa {name}: this machine has {}; choose one of these", names.join(", "))
    })
}
