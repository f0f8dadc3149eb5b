//! `dynamax exits`: exits for a model that is not touched.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use dynamax_models::Config;
use dynamax_models::exits::distill::{DistillRecipe, DistillRun, DistillStep, read_recipe};
use dynamax_models::exits::{Evaluation, State};
use dynamax_models::train::Limit;
use indicatif::ProgressBar;
use serde::Serialize;

use super::exit_places::{self, Kind};
use super::{exit_table, print_json};
use crate::progress;

/// Train exits for a checkpoint, by distillation from its own full depth.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  dynamax exits ./Mistral-7B-v0.3 --text wiki.txt --out ./exits
  dynamax exits ./mine --text a.txt --out ./exits --at 4,6 --classifier mamba --state skip
  dynamax exits ./mine --text a.txt --out ./exits --adapter 64 --minutes 10
  dynamax exits --out ./exits --resume --minutes 20           go on, where it stopped
  dynamax build ./mine -o mine.dmx --exits ./exits            then build them in

The checkpoint is only read. A threshold of 0.9 lets a token leave where nine of ten would say the same at full depth.")]
pub(crate) struct Arguments {
    /// The model: a directory with config.json, safetensors, and its tokenizer.json; or a GGUF file.
    #[arg(required_unless_present = "resume")]
    checkpoint: Option<PathBuf>,
    /// Plain text, UTF-8; several files may follow.
    #[arg(long, num_args = 1.., value_name = "FILE", required_unless_present = "resume")]
    text: Vec<PathBuf>,
    /// The directory to write: exits.json, exits.safetensors, and what --resume needs.
    #[arg(long)]
    out: PathBuf,
    /// Go on with the run in --out.
    #[arg(long, conflicts_with_all = ["checkpoint", "text"])]
    resume: bool,
    /// Where exits stand: numbers of layers, or shares of the depth.
    #[arg(long, help_heading = "Exits", value_name = "AT,…", default_value = exit_places::LATTER_HALF)]
    at: String,
    /// What decides who leaves.
    #[arg(long, help_heading = "Exits", value_enum, default_value_t)]
    classifier: Kind,
    /// A token may leave if its best next token is among this many best of full depth.
    #[arg(long, help_heading = "Exits", default_value_t = 1)]
    top_k: usize,
    /// Width of an adapter in front of the head, or none.
    #[arg(long, help_heading = "Exits", value_name = "WIDTH", default_value = "none")]
    adapter: String,
    /// What a mamba classifier sees of tokens that left before it.
    #[arg(long, help_heading = "Exits", value_enum, default_value_t)]
    state: States,
    /// Tokens of a training sequence.
    #[arg(long, help_heading = "Schedule", default_value_t = 256)]
    seq_len: usize,
    /// Sequences of a step.
    #[arg(long, help_heading = "Schedule", default_value_t = 4)]
    batch: usize,
    /// Largest learning rate.
    #[arg(long, help_heading = "Schedule", default_value_t = 3e-3)]
    lr: f64,
    /// Decides initial weights and the order of the text.
    #[arg(long, help_heading = "Schedule", default_value_t = 0)]
    seed: u64,
    /// Stop after this many steps of the whole run [default: 500, if --minutes is not given].
    #[arg(long, help_heading = "Length", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Stop after this many minutes of the whole run.
    #[arg(long, help_heading = "Length")]
    minutes: Option<f64>,
    /// Held-out sequences that the exits are judged by at the end.
    #[arg(long, help_heading = "Length", default_value_t = 128)]
    judge: usize,
    /// Threads; by default, one for each core.
    #[arg(long)]
    threads: Option<usize>,
    /// Steps between two lines on stderr, where there is no terminal for a bar.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    log_every: u64,
    /// Print one JSON object at the end.
    #[arg(long)]
    json: bool,
}

/// What a classifier sees of tokens that left before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum States {
    /// All: they come later, with others.
    #[default]
    Deferred,
    /// Nothing: they never come.
    Skip,
}

#[derive(Serialize)]
struct Report {
    out: PathBuf,
    steps: u64,
    tokens: u64,
    tokens_per_s: f64,
    seconds: f64,
    params: usize,
    model_params: usize,
    is_complete: bool,
    #[serde(flatten)]
    evaluation: Evaluation,
}

/// Steps, if nothing else is said.
const STEPS: u64 = 500;

/// Between two checkpoints.
const SAVE_EVERY: Duration = Duration::from_secs(60);

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let minutes = arguments.minutes;
    ensure!(
        minutes.is_none_or(|minutes| minutes > 0.0 && minutes.is_finite()),
        "--minutes must be above 0"
    );
    let steps = arguments.steps.or(minutes.is_none().then_some(STEPS));
    let limit = Limit { steps, minutes, epochs: None };
    let threads = arguments.threads.unwrap_or_else(dynamax_session::machine::default_threads);
    ensure!(threads > 0, "--threads starts at 1");
    // In a pool of its own: burn's operators take the threads of the pool that they are called from.
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .context("threads cannot be started")?;
    pool.install(|| {
        let run = if arguments.resume {
            read_recipe(&arguments.out)?;
            DistillRun::resume(&arguments.out, limit)?
        } else {
            DistillRun::start(&arguments.out, arguments.recipe()?, limit)?
        };
        let ((train, held_out), (params, model)) = (run.corpus_tokens(), run.params());
        eprintln!(
            "{} exits of {:.1} k parameters for a model of {:.2} M; {train} tokens to train on, {held_out} held out",
            run.recipe().exits.len(),
            params as f64 / 1e3,
            model as f64 / 1e6
        );
        let report = train_exits(run, arguments)?;
        if arguments.json { print_json(&report) } else { show(&report) }
    })
}

impl Arguments {
    fn recipe(&self) -> Result<DistillRecipe> {
        let whole = |path: &PathBuf| {
            path.canonicalize().with_context(|| format!("{}: cannot be opened", path.display()))
        };
        let Some(checkpoint) = &self.checkpoint else { bail!("a checkpoint is needed") };
        let checkpoint = whole(checkpoint)?;
        let config = Config::open(&checkpoint)?;
        let classifier = self.classifier.narrow(config.d_model());
        let adapter = exit_places::adapter(Some(&self.adapter))?;
        Ok(DistillRecipe {
            exits: exit_places::exits(&self.at, config.n_layers(), classifier, adapter)?,
            checkpoint,
            text: self.text.iter().map(whole).collect::<Result<_>>()?,
            top_k: self.top_k,
            state: match self.state {
                States::Deferred => State::Deferred,
                States::Skip => State::Skip,
            },
            seq_len: self.seq_len,
            batch: self.batch,
            lr: self.lr,
            warmup: 20,
            weight_decay: 0.01,
            clip: 1.0,
            seed: self.seed,
        })
    }
}

/// Trains until a limit is met or the user has had enough; then judges, and saves.
fn train_exits(mut run: DistillRun, arguments: &Arguments) -> Result<Report> {
    let is_stopped = Arc::new(AtomicBool::new(false));
    // Without a handler, an interrupt ends the run at its last checkpoint: worse, but no reason to fail.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGINT, is_stopped.clone());
    let log_every = if std::io::stderr().is_terminal() { u64::MAX } else { arguments.log_every };
    let bar = progress::steps(1000, "exits");
    let (first, start, mut saved) = (run.steps(), Instant::now(), Instant::now());
    while !run.is_done() && !is_stopped.load(Ordering::Relaxed) {
        let step = run.step()?;
        tell(&bar, &step, log_every);
        if saved.elapsed() >= SAVE_EVERY {
            run.save()?;
            saved = Instant::now();
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    run.save()?;
    bar.set_message("judging");
    let evaluation = run.evaluate(arguments.judge);
    run.finish(evaluation.clone())?;
    bar.finish_and_clear();
    let per_step = (run.recipe().batch * run.recipe().seq_len) as u64;
    let tokens = (run.steps() - first) * per_step;
    let (params, model_params) = run.params();
    Ok(Report {
        out: arguments.out.clone(),
        steps: run.steps(),
        tokens: run.steps() * per_step,
        tokens_per_s: if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 },
        seconds: run.seconds(),
        params,
        model_params,
        is_complete: run.is_done(),
        evaluation,
    })
}

fn tell(bar: &ProgressBar, step: &DistillStep, log_every: u64) {
    let exits = step.exits.iter();
    let exits: Vec<String> =
        exits.map(|exit| format!("{:.3}/{:.0}%", exit.decision, 100.0 * exit.agreement)).collect();
    let line = format!("step {} · loss/agreement {}", step.step, exits.join(" "));
    bar.set_position((step.progress * 1000.0) as u64);
    if step.step.is_multiple_of(log_every) {
        eprintln!("{line} · {:.1} %", 100.0 * step.progress);
    }
    bar.set_message(line);
}

fn show(report: &Report) -> Result<()> {
    let out = report.out.display();
    println!(
        "{out}: {} steps, {:.2} M tokens at {:.0} tok/s · {:.1} k parameters, {:.1} % of the model",
        report.steps,
        report.tokens as f64 / 1e6,
        report.tokens_per_s,
        report.params as f64 / 1e3,
        100.0 * report.params as f64 / report.model_params as f64
    );
    print!("{}", exit_table::table(&report.evaluation));
    if !report.is_complete {
        println!("stopped early; go on with: dynamax exits --out {out} --resume");
    }
    Ok(())
}
