//! `dynamax train`: a small model from nothing, on plain text.

mod exit_flags;
mod flags;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use dynamax_models::exits::Evaluation;
use dynamax_models::train::{Limit, Run, Step, read_recipe};
use indicatif::ProgressBar;
use serde::Serialize;

use super::{exit_table, print_json};
use crate::progress;
use flags::Flags;

/// Train a small model from nothing, on plain text.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  dynamax train --arch mamba2 --text books/*.txt --out ./mine --minutes 30
  dynamax train --arch transformer --text a.txt --out ./small --layers 4 --d-model 128 --epochs 2
  dynamax train --arch mamba2 --text books/*.txt --out ./mine --exits    tokens may leave early
  dynamax train --out ./mine --resume --minutes 60         go on, where it stopped
  dynamax build ./mine -o mine.dmx --quant q8              then make a bundle of it

The directory holds the model as of the last checkpoint at any time; a run that is stopped or killed goes on with
--resume as if nothing had happened. Without a limit, all text is seen three times.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    flags: Flags,
    /// The directory to write: config.json, model.safetensors, tokenizer.json, and what --resume needs.
    #[arg(long)]
    out: PathBuf,
    /// Go on with the run in --out.
    #[arg(long)]
    resume: bool,
    /// Stop after this many steps of the whole run.
    #[arg(long, help_heading = "Length", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Stop when all text was seen this many times.
    #[arg(long, help_heading = "Length")]
    epochs: Option<f64>,
    /// Stop after this many minutes of the whole run.
    #[arg(long, help_heading = "Length")]
    minutes: Option<f64>,
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

#[derive(Serialize)]
struct Report {
    out: PathBuf,
    steps: u64,
    tokens: u64,
    loss: f64,
    held_out_loss: f64,
    held_out_perplexity: f64,
    tokens_per_s: f64,
    seconds: f64,
    params: usize,
    is_complete: bool,
    /// What the exits are worth, if there are some.
    exits: Option<Evaluation>,
}

/// Times that all text is seen, if nothing else is said.
const EPOCHS: f64 = 3.0;

/// Between two checkpoints.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// Between two looks at the held-out text, and how many sequences a look takes.
const LOOK_EVERY: Duration = Duration::from_secs(300);
const LOOK_SEQUENCES: usize = 16;

/// Share of a step in the loss that is shown.
const SMOOTHING: f64 = 0.02;

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let limit = limit(arguments)?;
    let threads = arguments.threads.unwrap_or_else(dynamax_session::machine::default_threads);
    ensure!(threads > 0, "--threads starts at 1");
    // In a pool of its own: burn's operators take the threads of the pool that they are called from.
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .context("threads cannot be started")?;
    pool.install(|| {
        let run = open(arguments, limit)?;
        let (train, held_out) = run.corpus_tokens();
        eprintln!(
            "{:.2} M parameters, {train} tokens to train on, {held_out} held out",
            run.params() as f64 / 1e6
        );
        let report = Training::new(run, arguments).go()?;
        if arguments.json { print_json(&report) } else { show(&report) }
    })
}

fn limit(arguments: &Arguments) -> Result<Limit> {
    for (name, found) in [("epochs", arguments.epochs), ("minutes", arguments.minutes)] {
        ensure!(
            found.is_none_or(|found| found > 0.0 && found.is_finite()),
            "--{name} must be above 0"
        );
    }
    let Arguments { steps, epochs, minutes, .. } = *arguments;
    let epochs = epochs.or((steps.is_none() && minutes.is_none()).then_some(EPOCHS));
    Ok(Limit { steps, epochs, minutes })
}

fn open(arguments: &Arguments, limit: Limit) -> Result<Run> {
    if arguments.resume {
        let recipe = read_recipe(&arguments.out)?;
        if let Some(name) = arguments.flags.differs_from(&recipe)? {
            bail!(
                "{}: the run there has another --{name}; leave the flag away, or train into another directory",
                arguments.out.display()
            );
        }
        return Ok(Run::resume(&arguments.out, limit)?);
    }
    Ok(Run::start(&arguments.out, arguments.flags.recipe()?, limit)?)
}

/// The loop, and what is shown of it.
struct Training {
    run: Run,
    bar: ProgressBar,
    log_every: u64,
    is_stopped: Arc<AtomicBool>,
    /// Smoothed.
    loss: Option<f64>,
    first_step: u64,
    start: Instant,
}

impl Training {
    fn new(run: Run, arguments: &Arguments) -> Self {
        let is_stopped = Arc::new(AtomicBool::new(false));
        let flag = is_stopped.clone();
        // Without a handler, an interrupt ends the run at its last checkpoint: worse, but no reason to fail.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGINT, flag);
        let log_every =
            if std::io::stderr().is_terminal() { u64::MAX } else { arguments.log_every };
        let bar = progress::steps(1000, "training");
        let (first_step, start) = (run.steps(), Instant::now());
        Self { run, bar, log_every, is_stopped, loss: None, first_step, start }
    }

    fn go(mut self) -> Result<Report> {
        let (mut saved, mut looked) = (Instant::now(), Instant::now());
        while !self.run.is_done() && !self.is_stopped.load(Ordering::Relaxed) {
            let step = self.run.step()?;
            self.tell(&step);
            if saved.elapsed() >= SAVE_EVERY {
                self.run.save()?;
                saved = Instant::now();
            }
            if looked.elapsed() >= LOOK_EVERY {
                let loss = self.run.held_out_loss(LOOK_SEQUENCES);
                self.say(&format!("step {} · held-out loss {loss:.4}", step.step));
                looked = Instant::now();
            }
        }
        let seconds = self.start.elapsed().as_secs_f64();
        self.run.save()?;
        let exits = self.run.evaluate_exits(usize::MAX);
        if exits.is_some() {
            self.run.finish(exits.clone())?;
        }
        self.bar.finish_and_clear();
        Ok(self.report(seconds, exits))
    }

    fn tell(&mut self, step: &Step) {
        let loss = f64::from(step.loss);
        let smooth = self.loss.map_or(loss, |before| {
            before + SMOOTHING.max(1.0 / step.step as f64) * (loss - before)
        });
        self.loss = Some(smooth);
        let speed = self.tokens_per_s(self.start.elapsed().as_secs_f64());
        self.bar.set_position((step.progress * 1000.0) as u64);
        self.bar.set_message(format!("step {} · loss {smooth:.3} · {speed:.0} tok/s", step.step));
        if step.step.is_multiple_of(self.log_every) {
            eprintln!(
                "step {} · loss {smooth:.4}{} · gradient {:.2} · rate {:.2e} · {speed:.0} tok/s · {:.1} %",
                step.step,
                exit_table::step(&step.exits),
                step.norm,
                step.rate,
                100.0 * step.progress
            );
        }
    }

    /// A line that stays, above the bar if there is one.
    fn say(&self, line: &str) {
        if self.bar.is_hidden() { eprintln!("{line}") } else { self.bar.println(line) }
    }

    fn tokens_per_step(&self) -> u64 {
        (self.run.recipe().batch * self.run.recipe().seq_len) as u64
    }

    fn tokens_per_s(&self, seconds: f64) -> f64 {
        let tokens = (self.run.steps() - self.first_step) * self.tokens_per_step();
        if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 }
    }

    fn report(&self, seconds: f64, exits: Option<Evaluation>) -> Report {
        let held_out_loss = match &exits {
            Some(exits) => exits.full_loss,
            None => self.run.held_out_loss(usize::MAX),
        };
        Report {
            out: self.run.dir().to_owned(),
            steps: self.run.steps(),
            tokens: self.run.steps() * self.tokens_per_step(),
            loss: self.loss.unwrap_or(held_out_loss),
            held_out_loss,
            held_out_perplexity: held_out_loss.exp(),
            tokens_per_s: self.tokens_per_s(seconds),
            seconds: self.run.seconds(),
            params: self.run.params(),
            is_complete: self.run.is_done(),
            exits,
        }
    }
}

fn show(report: &Report) -> Result<()> {
    let out = report.out.display();
    println!(
        "{out}: {} steps, {:.2} M tokens at {:.0} tok/s · loss {:.3} · held out {:.3} (perplexity {:.1})",
        report.steps,
        report.tokens as f64 / 1e6,
        report.tokens_per_s,
        report.loss,
        report.held_out_loss,
        report.held_out_perplexity
    );
    if let Some(exits) = &report.exits {
        print!("{}", exit_table::table(exits));
    }
    let next = if report.is_complete {
        let exits = if report.exits.is_some() { format!(" --exits {out}") } else { String::new() };
        format!("dynamax build {out} -o model.dmx --quant q8{exits}")
    } else {
        format!("stopped early; go on with: dynamax train --out {out} --resume")
    };
    println!("{next}");
    Ok(())
}
