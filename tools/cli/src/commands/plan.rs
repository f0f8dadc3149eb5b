//! `dynamax plan`: where everything will lie in memory, before anything runs.

mod lifetimes;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use dynamax_bundle::ProgramBuf;
use dynamax_config::{Board, Bytes, Isa, show_bytes as show};
use dynamax_engine::model::{Owner, PlannedBuffer, fit};
use dynamax_engine::{LoadError, Loaded};
use dynamax_plan::{Buffer, svg_picture, text_picture};
use dynamax_wgpu::Held;
use serde::Serialize;

use super::print_json;
use crate::board;
use crate::failure::Failure;
use crate::session::Backend;
use crate::source::{self, Demo};

/// Show the memory plan of a bundle, or plan bare buffers.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  dynamax plan m.dmx                                    the plan, as text
  dynamax plan m.dmx --svg plan.svg                     and as a picture
  dynamax plan m.dmx --context 8192 --memory \"3.5 GiB\"  does it fit?
  dynamax plan m.dmx --board jetson-orin-nano-8gb       and onto this board?
  dynamax plan m.dmx --backend wgpu                     what a GPU would hold, and what stays beside it
  dynamax plan --lifetimes buffers.csv --capacity 1048576  id,lower,upper,size in, offsets out")]
pub(crate) struct Arguments {
    /// The bundle; without one, the built-in demo.
    #[arg(conflicts_with = "lifetimes")]
    bundle: Option<PathBuf>,
    /// Which demo, without a bundle.
    #[arg(long, value_enum, default_value_t)]
    demo: Demo,
    /// Tokens to plan for.
    #[arg(long)]
    context: Option<u32>,
    /// Rows of a prompt computed together.
    #[arg(long)]
    rows: Option<u32>,
    /// Drafts to verify together, as --exit verified does; without it, none.
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=16))]
    drafts: Option<u32>,
    /// Executor to plan for: where `wgpu` holds what is shown, too. On a board, CPU and GPU share one memory.
    #[arg(long, value_enum, default_value_t, conflicts_with = "lifetimes")]
    backend: Backend,
    /// Say if the plan fits into this much, such as "3.5 GiB".
    #[arg(long)]
    memory: Option<Bytes>,
    /// Say if the plan fits onto this board, and how fast its memory could feed it at best.
    #[arg(long, conflicts_with = "memory")]
    board: Option<String>,
    /// Plan the buffers of a CSV file instead: id,lower,upper,size; alive in [lower, upper).
    #[arg(long, value_name = "FILE.csv")]
    lifetimes: Option<PathBuf>,
    /// Bytes that the buffers of --lifetimes must fit into.
    #[arg(long, requires = "lifetimes")]
    capacity: Option<Bytes>,
    /// Write a picture.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Width of the picture in text.
const COLUMNS: usize = 100;

/// The JSON of a plan.
#[derive(Serialize)]
struct Report {
    arena_bytes: u64,
    lower_bound_bytes: u64,
    weights_bytes: u64,
    state_bytes: u64,
    /// What recurrences read of drafts.
    log_bytes: u64,
    /// Of the arena: residual rows that wait at exits.
    pending_bytes: u64,
    sampling_bytes: u64,
    /// Of everything, here and on a GPU.
    total_bytes: u64,
    /// Who holds what, with --backend wgpu.
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu: Option<OnGpu>,
    buffers: Vec<BufferReport>,
}

/// What a GPU holds, and what stays beside it.
#[derive(Serialize)]
struct OnGpu {
    weights_bytes: u64,
    state_bytes: u64,
    arena_bytes: u64,
    /// What goes to and fro.
    traffic_bytes: u64,
    gpu_bytes: u64,
    /// Tables that stay mapped.
    tables_bytes: u64,
    /// Logits that were read back, and sampling.
    host_bytes: u64,
    cpu_bytes: u64,
}

impl From<Held> for OnGpu {
    fn from(held: Held) -> Self {
        Self {
            weights_bytes: held.weights_bytes,
            state_bytes: held.state_bytes,
            arena_bytes: held.arena_bytes,
            traffic_bytes: held.traffic_bytes,
            gpu_bytes: held.gpu_bytes(),
            tables_bytes: held.tables_bytes,
            host_bytes: held.host_bytes,
            cpu_bytes: held.cpu_bytes(),
        }
    }
}

/// One buffer of a plan.
#[derive(Clone, Serialize)]
struct BufferReport {
    id: String,
    lower: u32,
    upper: u32,
    size: u64,
    offset: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.lifetimes {
        Some(file) => lifetimes::run(file, arguments),
        None => plan_bundle(arguments),
    }
}

fn plan_bundle(arguments: &Arguments) -> Result<()> {
    let source = source::source(arguments.bundle.as_ref(), arguments.demo)?;
    let bundle = source.bundle()?;
    let program = bundle.program_buf().with_context(|| source.path().display().to_string())?;
    let settings = dynamax_session::settings(&bundle, arguments.context, arguments.rows)
        .with_drafts(arguments.drafts.unwrap_or(0));
    let context_max = bundle.meta().context_max;
    let loaded = Loaded::new(
        program.clone(),
        |index: u16| bundle.section(index.into()),
        context_max,
        settings,
    )?;
    let held = (arguments.backend == Backend::Wgpu).then(|| Held::of(&loaded.model()));
    let report = report(&loaded, &program, held);
    show_report(arguments, &report)?;
    let board = arguments.board.as_deref().map(board::named).transpose()?;
    let limit = match &board {
        Some(board) => Some(board::usable_bytes(board)?),
        None => arguments.memory.map(|bytes| bytes.0),
    };
    if let Some(limit) = limit {
        fit(&program, report.weights_bytes, context_max, settings, limit).map_err(no)?;
        if let Some(held) = held {
            held.fit(limit).map_err(|error| Failure(error.to_string()))?;
        }
    }
    if let (Some(board), false) = (&board, arguments.json) {
        show_board(board, &report)?;
    }
    Ok(())
}

/// What the board makes of a plan that fits.
fn show_board(board: &Board, report: &Report) -> Result<()> {
    let at_best = board.bandwidth_gb_s * 1e9 / report.weights_bytes.max(1) as f64;
    println!(
        "fits onto {} ({} of {} usable); {} cores ({}), {} GB/s: at best {at_best:.1} tok/s",
        board.name,
        show(report.total_bytes),
        show(board::usable_bytes(board)?),
        board.cores.unwrap_or(1),
        board.isa.map_or("any", Isa::name),
        board.bandwidth_gb_s,
    );
    Ok(())
}

/// A plan that does not fit is an answer, not a mistake.
fn no(error: LoadError) -> anyhow::Error {
    match error {
        LoadError::Memory { .. } => Failure(error.to_string()).into(),
        other => other.into(),
    }
}

fn report(loaded: &Loaded<'_>, program: &ProgramBuf, held: Option<Held>) -> Report {
    let sizes = loaded.model().sizes();
    let buffers = loaded.buffers().iter().map(|planned| BufferReport {
        id: id(planned, program),
        lower: planned.buffer.lower,
        upper: planned.buffer.upper,
        size: planned.buffer.size,
        offset: planned.offset,
    });
    Report {
        arena_bytes: sizes.arena_bytes,
        lower_bound_bytes: sizes.lower_bound_bytes,
        weights_bytes: sizes.weights_bytes,
        state_bytes: sizes.state_bytes,
        log_bytes: sizes.log_bytes,
        pending_bytes: sizes.pending_bytes,
        sampling_bytes: sizes.sampling_bytes,
        total_bytes: held.map_or_else(|| sizes.total_bytes(), |held| held.total_bytes()),
        gpu: held.map(OnGpu::from),
        buffers: buffers.collect(),
    }
}

/// A buffer is called by what writes it.
fn id(planned: &PlannedBuffer, program: &ProgramBuf) -> String {
    match planned.owner {
        Owner::Activation(tensor) => {
            let writes = |op: &dynamax_bundle::Op| op.operands().output.index() == tensor;
            let op = program.ops.iter().position(writes).unwrap_or(0);
            format!("{op}:{}", program.ops[op].name())
        }
        Owner::Quantized(op) => format!("{op}:int8 input"),
    }
}

fn show_report(arguments: &Arguments, report: &Report) -> Result<()> {
    let buffer = |buffer: &BufferReport| Buffer {
        lower: buffer.lower,
        upper: buffer.upper,
        size: buffer.size,
    };
    let buffers: Vec<_> = report.buffers.iter().map(buffer).collect();
    let offsets: Vec<_> = report.buffers.iter().map(|buffer| buffer.offset).collect();
    if let Some(path) = &arguments.svg {
        let picture = svg_picture(&buffers, &offsets, report.arena_bytes);
        std::fs::write(path, picture)
            .with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    if arguments.json {
        return print_json(report);
    }
    println!("{}", text_picture(&buffers, &offsets, report.arena_bytes, COLUMNS));
    let line = |name: &str, bytes: u64| println!("{name:<14}{:>12}  {bytes} bytes", show(bytes));
    line("weights", report.weights_bytes);
    line("states", report.state_bytes);
    if report.log_bytes > 0 {
        line("log of drafts", report.log_bytes);
    }
    line("arena", report.arena_bytes);
    if report.pending_bytes > 0 {
        line("  waiting rows", report.pending_bytes);
    }
    line("  at least", report.lower_bound_bytes);
    line("sampling", report.sampling_bytes);
    if let Some(gpu) = &report.gpu {
        show_gpu(gpu, line);
    }
    line("total", report.total_bytes);
    Ok(())
}

fn show_gpu(gpu: &OnGpu, line: impl Fn(&str, u64)) {
    line("on a GPU", gpu.gpu_bytes);
    line("  weights", gpu.weights_bytes);
    line("  states", gpu.state_bytes);
    line("  arena", gpu.arena_bytes);
    line("  to and fro", gpu.traffic_bytes);
    line("beside it", gpu.cpu_bytes);
    line("  tables", gpu.tables_bytes);
    line("  logits", gpu.host_bytes);
    println!(
        "where both share a memory, all of it; weights are there once: what was mapped to copy them is given back"
    );
}
