//! `dynamax check`: import and lowering against numbers of an independent implementation.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use dynamax_bundle::{Bundle, DType};
use dynamax_engine::decoder::Crew;
use dynamax_engine::{Decoder, Line, Loaded, Settings};
use dynamax_kernels::Isa;
use dynamax_models::build::{BuildOptions, Draft};
use dynamax_models::golden::{Golden, compare};
use dynamax_models::{Config, load_model};
use serde::Serialize;

use super::print_json;
use crate::failure::Failure;

/// Compare a checkpoint's import and lowering with golden numbers.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  dynamax check ./llama --golden ./llama/golden.json

Passes (exit status 0) if hidden states and logits differ by at most --tolerance, and greedy tokens are equal: both for
the model's forward pass in Burn, and for its f32 Program on the CPU executor.")]
pub(crate) struct Arguments {
    /// Directory with config.json and model.safetensors.
    checkpoint: PathBuf,
    /// Prompt, hidden states, logits and greedy tokens of the same checkpoint.
    #[arg(long)]
    golden: PathBuf,
    /// Largest difference that passes.
    #[arg(long, default_value_t = 1e-3)]
    tolerance: f64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    arch: String,
    layers: usize,
    max_abs_err_hidden: f64,
    max_abs_err_logits: f64,
    greedy_equal: bool,
    lowered_max_abs_err_logits: f64,
    lowered_greedy_equal: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let golden = Golden::open(&arguments.golden)?;
    let config = Config::open(&arguments.checkpoint)?;
    let model = load_model(&arguments.checkpoint, &config)?;
    let forward = compare(&model, &golden)?;
    let (lowered_max_abs_err_logits, lowered_greedy_equal) =
        compare_lowered(&arguments.checkpoint, &golden)?;
    let report = Report {
        arch: config.architecture().to_owned(),
        layers: config.n_layers(),
        max_abs_err_hidden: forward.max_abs_err_hidden,
        max_abs_err_logits: forward.max_abs_err_logits,
        greedy_equal: forward.greedy_equal,
        lowered_max_abs_err_logits,
        lowered_greedy_equal,
    };
    let differences =
        [report.max_abs_err_hidden, report.max_abs_err_logits, report.lowered_max_abs_err_logits];
    let passes = differences.iter().all(|difference| *difference <= arguments.tolerance)
        && report.greedy_equal
        && report.lowered_greedy_equal;
    if arguments.json {
        print_json(&report)?;
    } else {
        show(&report);
    }
    if passes { Ok(()) } else { Err(Failure(disagreement(arguments, &report)).into()) }
}

/// The f32 Program on the CPU executor: largest difference of any logit, and if greedy tokens are equal.
fn compare_lowered(checkpoint: &Path, golden: &Golden) -> Result<(f64, bool)> {
    let options = BuildOptions { quant: Some(DType::F32), ..BuildOptions::default() };
    let bytes = Draft::open(checkpoint, &options)?.assemble()?;
    let aligned = Line::copy_from(&bytes);
    let bundle =
        Bundle::parse(Line::as_bytes(&aligned, bytes.len())).context("the lowered bundle")?;
    let program = bundle.program_buf()?;
    let context = (golden.prompt_ids.len() + golden.greedy_ids.len()) as u32;
    let settings = Settings::new(context, context.min(7));
    let loaded =
        Loaded::new(program, |index: u16| bundle.section(index.into()), u32::MAX, settings)?;
    let model = loaded.model();
    let mut memory = vec![Line::ZERO; model.memory_lines()];
    let mut decoder = Decoder::new(model, &mut memory, Isa::detect(), Crew::Alone);

    let mut largest: f64 = 0.0;
    decoder.feed_each(&golden.prompt_ids, |row, logits| {
        largest = logits
            .iter()
            .zip(&golden.logits_all[row])
            .map(|(a, b)| difference(*a, *b))
            .fold(largest, f64::max);
    })?;
    let mut greedy = Vec::new();
    while greedy.len() < golden.greedy_ids.len() {
        let token = Isa::reference().argmax(decoder.logits()) as u32;
        greedy.push(token);
        if greedy.len() < golden.greedy_ids.len() {
            decoder.feed(&[token])?;
        }
    }
    Ok((largest, greedy == golden.greedy_ids))
}

/// A difference that NaN cannot hide in.
fn difference(a: f32, b: f32) -> f64 {
    let difference = (f64::from(a) - f64::from(b)).abs();
    if difference.is_nan() { f64::INFINITY } else { difference }
}

fn show(report: &Report) {
    println!("{} · {} layers", report.arch, report.layers);
    println!(
        "forward   hidden {:.2e}  logits {:.2e}  greedy {}",
        report.max_abs_err_hidden,
        report.max_abs_err_logits,
        equal(report.greedy_equal)
    );
    println!(
        "lowered                    logits {:.2e}  greedy {}",
        report.lowered_max_abs_err_logits,
        equal(report.lowered_greedy_equal)
    );
}

fn equal(equal: bool) -> &'static str {
    if equal { "equal" } else { "different" }
}

fn disagreement(arguments: &Arguments, report: &Report) -> String {
    format!(
        "{} and {} disagree: hidden {:.2e}, logits {:.2e} forward and {:.2e} lowered (at most {:.0e} passes), greedy \
         tokens {} forward and {} lowered",
        arguments.checkpoint.display(),
        arguments.golden.display(),
        report.max_abs_err_hidden,
        report.max_abs_err_logits,
        report.lowered_max_abs_err_logits,
        arguments.tolerance,
        equal(report.greedy_equal),
        equal(report.lowered_greedy_equal),
    )
}
