//! `dynamax eval`: how well a bundle models text.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use dynamax_session::{Session, Text};
use serde::Serialize;

use super::print_json;
use crate::progress;
use crate::session::DecodeArguments;
use crate::source::{self, Demo};

/// Measure how well a bundle models text.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  dynamax eval m.dmx --task text --data held-out.txt --context 512"
)]
pub(crate) struct Arguments {
    /// The bundle; without one, the built-in demo.
    bundle: Option<PathBuf>,
    /// Which demo, without a bundle.
    #[arg(long, value_enum, default_value_t)]
    demo: Demo,
    /// What to measure.
    #[arg(long, value_enum)]
    task: Task,
    /// Plain text.
    #[arg(long)]
    data: PathBuf,
    /// Use this many tokens at most.
    #[arg(long)]
    tokens: Option<usize>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    decode: DecodeArguments,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Task {
    /// Perplexity of plain text.
    Text,
}

/// Windows of text are this long at most: recurrent models plan for contexts without end.
const MOST_WINDOW: usize = 2048;

#[derive(Serialize)]
struct Report {
    task: &'static str,
    n: usize,
    nll_per_token: f64,
    perplexity: f64,
    window: usize,
    isa: &'static str,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let Task::Text = arguments.task;
    let data = arguments.data.display();
    let text = std::fs::read_to_string(&arguments.data)
        .with_context(|| format!("{data}: cannot be read as text"))?;
    let source = source::source(arguments.bundle.as_ref(), arguments.demo)?;
    let session = arguments.decode.open(&source)?;
    let mut tokens = Text::of(&session.bundle)?.encode(&text)?;
    tokens.truncate(arguments.tokens.unwrap_or(usize::MAX));
    ensure!(tokens.len() > 1, "{data}: one token or none; give a longer text");
    let report = perplexity(&session, &tokens)?;
    if arguments.json {
        return print_json(&report);
    }
    println!(
        "{} tokens · {:.4} nats/token · perplexity {:.3}",
        report.n, report.nll_per_token, report.perplexity
    );
    Ok(())
}

/// Feeds the text window by window, each from an empty state, and sums `-ln p` of every token behind the first of its
/// window.
fn perplexity(session: &Session<'_>, tokens: &[u32]) -> Result<Report> {
    let mut memory = session.memory();
    let mut decoder = session.decoder(&mut memory);
    let window = (session.model().settings().context as usize).min(MOST_WINDOW);
    let bar = progress::steps(tokens.len() as u64, "perplexity");
    let (mut nll, mut n) = (0.0, 0);
    for window in tokens.chunks(window) {
        decoder.reset();
        decoder.feed_each(window, |row, logits| {
            if let Some(next) = window.get(row + 1) {
                nll += negative_log_likelihood(logits, *next as usize);
                n += 1;
            }
        })?;
        bar.inc(window.len() as u64);
    }
    bar.finish_and_clear();
    let nll_per_token = nll / n as f64;
    let perplexity = nll_per_token.exp();
    Ok(Report { task: "text", n, nll_per_token, perplexity, window, isa: session.isa().name() })
}

/// `ln Σ exp(logit) - logit[next]`, in f64.
fn negative_log_likelihood(logits: &[f32], next: usize) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - max).exp()).sum();
    max + sum.ln() - f64::from(logits[next])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_logits_are_a_uniform_guess() {
        let nll = negative_log_likelihood(&[3.0; 8], 5);
        assert!((nll - 8_f64.ln()).abs() < 1e-12, "one of eight: ln 8, not {nll}");
    }
}
