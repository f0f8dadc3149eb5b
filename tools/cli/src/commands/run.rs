//! `dynamax run`: speaks from a bundle.

mod out;

use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use dynamax_config::show_bytes as show;
use dynamax_session::generator::{Ask, End, Eos, Outcome, Token};
use dynamax_session::{Depth, Generator, Session, Text, TextStream, machine};
use serde::Serialize;

use super::print_json;
use crate::journal::line::Line;
use crate::journal::page::{Run, page};
use crate::journal::{Asked, Faulty, Journal, figure};
use crate::machine as host;
use crate::page::{Sample, pieces};
use crate::session::{DecodeArguments, SamplingArguments};
use crate::source::{self, Demo};
use out::Out;

/// Generate text.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  dynamax run \"Once upon a time\"                      the built-in demo
  dynamax run m.dmx \"Once upon a time\" -n 64          a bundle
  dynamax run m.dmx --tokens-in 1,403,407 -n 8 --json  token ids in, JSON out
  dynamax run m.dmx \"Dear\" --temperature 0.8 --top-p 0.95 --seed 7")]
pub(crate) struct Arguments {
    /// Bundle, then prompt; with one value, a path of a bundle or else a prompt for the demo.
    #[arg(value_name = "BUNDLE] [PROMPT", num_args = 0..=2)]
    inputs: Vec<String>,
    /// Which demo, without a bundle.
    #[arg(long, value_enum, default_value_t)]
    demo: Demo,
    /// Tokens to generate at most; by default 128, or what the planned context leaves.
    #[arg(short = 'n', long = "tokens")]
    n: Option<usize>,
    /// Token ids instead of a prompt.
    #[arg(long, value_delimiter = ',', num_args = 0..)]
    tokens_in: Option<Vec<u32>>,
    /// Go on behind a token that ends the text.
    #[arg(long)]
    ignore_eos: bool,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Print the text alone: no line below it on a terminal, no summary.
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
    /// Write an HTML page with what each token cost and what was decided about it.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    sampling: SamplingArguments,
    #[command(flatten)]
    decode: DecodeArguments,
}

/// Tokens generated without `-n`.
const DEFAULT_TOKENS: usize = 128;

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let (bundle, prompt) = split_inputs(&arguments.inputs);
    let source = source::source(bundle.as_ref(), arguments.demo)?;
    let session = arguments.decode.open(&source)?;
    let text = Text::of(&session.bundle)?;
    let prompt = match (&arguments.tokens_in, prompt) {
        (Some(ids), _) => ids.clone(),
        (None, Some(prompt)) => text.encode(&prompt)?,
        (None, None) => Vec::new(),
    };
    let answer = generate(&session, &text, &prompt, arguments)?;
    if let Some(path) = &arguments.report {
        let most = TOKENS_SHOWN.min(answer.report.tokens.len());
        let pieces = pieces(&answer.report.tokens[..most], &answer.report.exits, &text);
        let sample = Sample { mode: "the answer".to_owned(), prompt: text.decode(&prompt), pieces };
        let shown = show_run(&answer, &session, &source.path().display().to_string(), sample);
        std::fs::write(path, shown).with_context(|| {
            format!("{}: cannot be written; give another file with --report", path.display())
        })?;
    }
    match (arguments.json, arguments.quiet) {
        (true, _) => print_json(&answer.report)?,
        (false, false) => summarise(&answer)?,
        (false, true) => {}
    }
    ensure!(
        answer.end != End::Meter,
        "the power meter is broken, and [power] on_meter_fault = \"stop\": mend it, or use \"continue\""
    );
    Ok(())
}

/// One value is a bundle if it is named like one or is there; else it is a prompt.
fn split_inputs(inputs: &[String]) -> (Option<PathBuf>, Option<String>) {
    match inputs {
        [] => (None, None),
        [one]
            if Path::new(one).extension().is_some_and(|ending| ending == "dmx")
                || Path::new(one).is_file() =>
        {
            (Some(one.into()), None)
        }
        [one] => (None, Some(one.clone())),
        [bundle, prompt, ..] => (Some(bundle.into()), Some(prompt.clone())),
    }
}

/// What was generated.
struct Answer {
    report: Report,
    journal: Journal,
    end: End,
    load_s: f64,
    total_s: f64,
}

/// The JSON of a run.
#[derive(Serialize)]
struct Report {
    tokens: Vec<u32>,
    text: String,
    prompt_tokens: usize,
    exits: Vec<u16>,
    decode_tok_s: f64,
    prefill_tok_s: f64,
    ttft_ms: f64,
    depth_mean: f64,
    agreement: Option<f64>,
    /// Of drafts, the share that was right; without drafts, none.
    acceptance: Option<f64>,
    /// Of drafts, the share that no exit made, because it had been said before.
    said_before: Option<f64>,
    energy_mj_per_token: Option<f64>,
    energy_source: Option<&'static str>,
    /// Tokens that the meter said nothing of, and what the model makes of them: they are in no mean above.
    meter_faults: Vec<Faulty>,
    budget: Option<Kept>,
    latency_ms_p50: f64,
    latency_ms_p99: f64,
    planned_bytes: u64,
    peak_rss_bytes: Option<u64>,
    backend: &'static str,
    isa: &'static str,
    threads: usize,
}

fn generate(
    session: &Session<'_>,
    text: &Text,
    prompt: &[u32],
    arguments: &Arguments,
) -> Result<Answer> {
    let started = Instant::now();
    let mut memory = session.memory();
    let context = session.model().settings().context as usize;
    let ask = Ask {
        sampling: arguments.sampling.resolve()?,
        most_tokens: tokens_to_generate(prompt.len(), context, arguments.n)?,
        eos: if arguments.ignore_eos { Eos::Ignored } else { Eos::Ends },
        alternatives: None,
    };
    let mut generator = Generator::new(session, &mut memory);
    generator.set_depth(arguments.decode.depth(session)?)?;
    generator.set_metering(arguments.decode.metering(session)?);
    generator.set_surroundings(arguments.decode.surroundings()?);
    let segments = session.model().program().segments.len();
    let mut journal = journal(&generator, segments);
    let outlook = outlook(generator.depth(), prompt.len());
    let mut out = Out::new(
        (!arguments.json).then(|| TextStream::new(text, prompt)),
        line(arguments, generator.depth()),
        segments,
    );
    let interrupted = interrupt(arguments);
    let mut tokens = Vec::with_capacity(ask.most_tokens);
    let mut failed = None;
    let mut hear = |token: &Token| {
        tokens.push(token.clone());
        journal.push(token);
        failed = out.token(token, &journal).err();
        if failed.is_some() || interrupted.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let outcome = generator.answer(prompt, &ask, &mut hear);
    failed.map_or(Ok(()), Err)?;
    out.end()?;
    let outcome = outcome?;
    let mut report = report(session, text, prompt.len(), &tokens, (&outcome, &generator));
    report.budget = kept(generator.depth(), outlook);
    report.meter_faults = journal.faults();
    let total_s = started.elapsed().as_secs_f64();
    Ok(Answer { report, journal, end: outcome.end, load_s: session.load_s, total_s })
}

/// Tokens of the answer that a page shows.
const TOKENS_SHOWN: usize = 2000;

/// Tokens over which means are taken where no configuration says so.
const WINDOW: usize = 64;

fn journal(generator: &Generator<'_>, segments: usize) -> Journal {
    let budget = generator.depth().budget();
    let asked =
        budget.map_or(Asked::nothing(WINDOW), |budget| Asked::of(budget.governor().config()));
    Journal::new(asked, generator.metering().map(dynamax_session::Metering::source), segments)
}

/// The line below the text: for who asked for a budget or named a device, and did not ask for silence.
fn line(arguments: &Arguments, depth: &Depth) -> Option<Line> {
    let is_wanted = arguments.decode.has_config() || depth.budget().is_some();
    (is_wanted && !arguments.json && !arguments.quiet).then(Line::on_terminal).flatten()
}

/// Becomes true when the user presses Ctrl-C: the answer ends, and is summed up. A second time ends everything.
fn interrupt(arguments: &Arguments) -> Arc<AtomicBool> {
    use signal_hook::consts::SIGINT;
    let flag = Arc::new(AtomicBool::new(false));
    if std::io::stderr().is_terminal() || arguments.report.is_some() {
        // Without handlers an interrupt ends everything at once: worse, but no reason to fail.
        let _ = signal_hook::flag::register_conditional_shutdown(SIGINT, 130, flag.clone());
        let _ = signal_hook::flag::register(SIGINT, flag.clone());
    }
    flag
}

/// The page of a run.
fn show_run(answer: &Answer, session: &Session<'_>, bundle: &str, sample: Sample) -> String {
    let (meta, report) = (session.bundle.meta(), &answer.report);
    let title = format!("{} ({})", meta.name, meta.architecture);
    let (hash, threads) = (session.bundle.hash().to_string(), session.threads().to_string());
    let (machine, prompt) = (host::name(), report.prompt_tokens.to_string());
    let rate = format!("{:.1} tokens/s", report.decode_tok_s);
    let conditions = [
        ("bundle", bundle),
        ("bundle BLAKE3", &hash),
        ("machine", &machine),
        ("instruction set", report.isa),
        ("threads", &threads),
        ("power meter", report.energy_source.unwrap_or("none")),
        ("prompt tokens", &prompt),
        ("speed", &rate),
    ];
    let outlook = report.budget.as_ref().map(|kept| kept.outlook.as_str());
    page(&answer.journal, &Run { title: &title, outlook, sample, conditions: &conditions })
}

/// How many tokens to generate: as asked, if the planned context allows it.
fn tokens_to_generate(prompt: usize, context: usize, asked: Option<usize>) -> Result<usize> {
    // The last token is shown but never fed.
    let room = (context + 1).saturating_sub(prompt);
    let Some(asked) = asked else { return Ok(room.min(DEFAULT_TOKENS)) };
    ensure!(
        asked <= room || prompt > context,
        "-n {asked} behind a prompt of {prompt} tokens does not fit into the planned context of {context}: ask for at \
         most {room}, or plan more with --context"
    );
    Ok(asked)
}

fn report(
    session: &Session<'_>,
    text: &Text,
    prompt_tokens: usize,
    tokens: &[Token],
    (outcome, generator): (&Outcome, &Generator<'_>),
) -> Report {
    // The first token comes with the prompt.
    let mut latencies_ms: Vec<f64> = tokens.iter().skip(1).map(|token| token.ms).collect();
    latencies_ms.sort_unstable_by(f64::total_cmp);
    let decode_s = latencies_ms.iter().sum::<f64>() / 1e3;
    let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
    Report {
        text: text.decode(&ids),
        exits: tokens.iter().map(|token| token.segment).collect(),
        tokens: ids,
        prompt_tokens,
        decode_tok_s: rate(latencies_ms.len(), decode_s),
        prefill_tok_s: rate(prompt_tokens, outcome.first_token_ms / 1e3),
        ttft_ms: outcome.first_token_ms,
        depth_mean: mean_depth(tokens),
        agreement: outcome.agreement(),
        acceptance: outcome.drafts.acceptance(),
        said_before: outcome.drafts.share_said_before(),
        energy_mj_per_token: mean_energy(tokens),
        energy_source: generator.metering().map(|metering| metering.source().label()),
        meter_faults: Vec::new(),
        budget: None,
        latency_ms_p50: quantile(&latencies_ms, 0.5),
        latency_ms_p99: quantile(&latencies_ms, 0.99),
        planned_bytes: session.planned_bytes(),
        peak_rss_bytes: machine::peak_rss_bytes(),
        backend: session.backend(),
        isa: session.isa().name(),
        threads: session.threads(),
    }
}

/// What came of a budget.
#[derive(Serialize)]
struct Kept {
    energy_mj_per_token: Option<f64>,
    latency_ms: Option<f64>,
    mode: String,
    events: Vec<&'static str>,
    outlook: String,
}

impl Kept {
    /// What came of it, in a line.
    fn came(&self, journal: &Journal) -> String {
        let mut parts = vec![format!("It came to: {} at the end", self.mode)];
        if let (Some(worst), Some(asked)) = (journal.worst_window_mj(), self.energy_mj_per_token) {
            let label = journal.label();
            parts.push(format!(
                "worst window {} of {} mJ/token ({label})",
                figure(worst),
                figure(asked)
            ));
        }
        if let Some(deadline) = self.latency_ms {
            parts.push(format!("{} tokens later than {} ms", journal.late(), figure(deadline)));
        }
        if !self.events.is_empty() {
            parts.push(self.events.join(", "));
        }
        parts.join(" · ")
    }
}

/// What the budgets were expected to come to, before anything was measured.
fn outlook(depth: &Depth, context: usize) -> String {
    let Some(budget) = depth.budget() else { return String::new() };
    let from = if budget.is_profiled() {
        "the profile"
    } else {
        "the board's rates, which a profile would correct"
    };
    format!("Expected from {from}: {}", budget.outlook(context as u32).to_string().trim())
}

fn kept(depth: &Depth, outlook: String) -> Option<Kept> {
    let budget = depth.budget()?;
    let governor = budget.governor();
    let config = governor.config();
    Some(Kept {
        energy_mj_per_token: config.energy_per_token.map(|energy| energy.0 as f64 / 1e3),
        latency_ms: config.latency_per_token.map(|time| time.0 as f64 / 1e3),
        mode: format!("{:?}", governor.mode()).to_lowercase(),
        events: budget.events().names().collect(),
        outlook,
    })
}

/// Mean energy of the tokens behind the first, where it is known.
fn mean_energy(tokens: &[Token]) -> Option<f64> {
    let known: Vec<f64> = tokens.iter().filter_map(|token| token.energy_mj).collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

/// Mean share of the layers; 1 without tokens.
fn mean_depth(tokens: &[Token]) -> f64 {
    if tokens.is_empty() {
        return 1.0;
    }
    tokens.iter().map(|token| token.depth).sum::<f64>() / tokens.len() as f64
}

fn rate(count: usize, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

/// The smallest value that at least this share of all values does not exceed; 0 without values.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// The last line: on stderr, so that stdout is the text alone.
fn summarise(answer: &Answer) -> Result<()> {
    let Report { tokens, decode_tok_s, prefill_tok_s, latency_ms_p50, planned_bytes, .. } =
        &answer.report;
    let used = answer.report.peak_rss_bytes.map_or_else(|| "unknown".into(), show);
    let (dim, plain) =
        if std::io::stderr().is_terminal() { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
    let agreement = answer
        .report
        .agreement
        .map_or_else(String::new, |share| format!(" · agreement {:.1} %", 100.0 * share));
    let acceptance = answer
        .report
        .acceptance
        .map_or_else(String::new, |share| format!(" · {:.1} % of drafts right", 100.0 * share));
    let energy = match (answer.report.energy_mj_per_token, answer.report.energy_source) {
        (Some(mj), Some(source)) => format!("{mj:.3} mJ/token ({source})"),
        _ => "energy not measured".to_owned(),
    };
    let mut err = std::io::stderr().lock();
    if let Some(kept) = &answer.report.budget {
        writeln!(err, "{dim}{}\n{}{plain}", kept.outlook, kept.came(&answer.journal))?;
    }
    for sentence in answer.journal.fault_sentences() {
        writeln!(err, "{sentence}")?;
    }
    writeln!(
        err,
        "{dim}{} tokens in {:.2} s · {decode_tok_s:.1} tok/s · {latency_ms_p50:.2} ms/token · prompt \
         {prefill_tok_s:.0} tok/s · load {:.0} ms · depth {:.0} %{agreement}{acceptance} · {energy} · memory planned {}, used \
         {used} · {} {} × {}{plain}",
        tokens.len(),
        answer.total_s,
        answer.load_s * 1e3,
        answer.report.depth_mean * 100.0,
        show(*planned_bytes),
        answer.report.backend,
        answer.report.isa,
        answer.report.threads,
    )
    .context("stderr is closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_a_bundle_only_if_named_so() {
        let split = |one: &str| split_inputs(&[one.to_owned()]);
        assert_eq!(split("m.dmx"), (Some("m.dmx".into()), None), "a bundle, there or not");
        assert_eq!(split("Once upon a time"), (None, Some("Once upon a time".into())), "a prompt");
    }

    #[test]
    fn quantiles_are_values_that_occurred() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        assert!((quantile(&sorted, 0.5) - 2.0).abs() < 1e-9, "half of them are at most 2");
        assert!((quantile(&sorted, 0.99) - 4.0).abs() < 1e-9, "the largest");
        assert!(quantile(&[], 0.5).abs() < 1e-9, "nothing");
    }

    #[test]
    fn more_tokens_than_the_context_are_refused() {
        assert_eq!(
            tokens_to_generate(10, 100, None).ok(),
            Some(91),
            "the rest of the context, and one to show"
        );
        assert!(tokens_to_generate(10, 100, Some(92)).is_err(), "one too many");
    }
}
