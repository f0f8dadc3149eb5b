//! `dynamax eval`: how well a bundle answers, and models text.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use dynamax_bundle::Hash;
use dynamax_session::{Session, Source, Text};
use serde::Serialize;

use super::print_json;
use crate::agreement::{self, Passages};
use crate::eval::data;
use crate::eval::evaluate;
use crate::eval::example::{Ask, Example};
use crate::eval::modes::{Way, ways};
use crate::eval::outcome::{Answer, Outcome};
use crate::eval::page::page;
use crate::eval::report::{Conditions, Ladder, ModeReport, Oracle, Report};
use crate::eval::runner::{Generation, Manner, Model, Pace, Runner};
use crate::machine;
use crate::page::{Sample, pieces};
use crate::progress;
use crate::session::DecodeArguments;
use crate::source::{self, Demo};

/// Measure how well a bundle answers, or models text.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  dynamax eval m.dmx --task text --data held-out.txt --context 512
  dynamax eval m.dmx --task triviaqa --data triviaqa.jsonl --limit 200 --report out
  dynamax eval m.dmx --task text --data held-out.txt --exit fixed          early exits beside full depth
  dynamax eval m.dmx --task text --data held-out.txt --sweep 12 --report out
  dynamax eval m.dmx --task truthfulqa --data mc_task.json --json")]
pub(crate) struct Arguments {
    /// The bundle; without one, the built-in demo.
    bundle: Option<PathBuf>,
    /// Which demo, without a bundle.
    #[arg(long, value_enum, default_value_t)]
    demo: Demo,
    /// What to measure.
    #[arg(long, value_enum)]
    task: Task,
    /// The task's official file, or plain text.
    #[arg(long)]
    data: PathBuf,
    /// Use the first examples only.
    #[arg(long)]
    limit: Option<usize>,
    /// Use this many tokens of plain text at most.
    #[arg(long)]
    tokens: Option<usize>,
    /// Make tokens seen before less probable in generated answers; 1 does nothing.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    repetition_penalty: f32,
    /// Try so many thresholds with every treatment of skipped state.
    #[arg(long, value_name = "N")]
    sweep: Option<usize>,
    /// Write a page with plots into this folder.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    decode: DecodeArguments,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Task {
    /// TruthfulQA: the CSV (generation), or the JSON (multiple choice).
    Truthfulqa,
    /// CoQA: the JSON.
    Coqa,
    /// TriviaQA, closed book: the JSON, or lines with golden answers.
    Triviaqa,
    /// LAMBADA: lines with text.
    Lambada,
    /// Perplexity of plain text.
    Text,
}

impl Task {
    /// The task over examples; plain text has none.
    fn over_examples(self) -> Option<data::Task> {
        match self {
            Self::Truthfulqa => Some(data::Task::Truthfulqa),
            Self::Coqa => Some(data::Task::Coqa),
            Self::Triviaqa => Some(data::Task::Triviaqa),
            Self::Lambada => Some(data::Task::Lambada),
            Self::Text => None,
        }
    }
}

/// Windows of text are this long at most: recurrent models plan for contexts without end.
const MOST_WINDOW: usize = 2048;

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match arguments.task.over_examples() {
        Some(task) => run_examples(task, arguments),
        None => run_text(arguments),
    }
}

/// Asks the examples of a task.
fn run_examples(task: data::Task, arguments: &Arguments) -> Result<()> {
    ensure!(arguments.tokens.is_none(), "--tokens is for --task text: give --limit");
    ensure!(arguments.limit != Some(0), "--limit starts at 1");
    // Before the bundle is loaded, which takes longer than to find a broken row.
    let examples = data::read(task, &arguments.data, arguments.limit.unwrap_or(usize::MAX))?;
    let source = source::source(arguments.bundle.as_ref(), arguments.demo)?;
    let session = arguments.decode.open(&source)?;
    let text = Text::of(&session.bundle)?;
    let ways = ways(&session, &arguments.decode, arguments.sweep)?;
    let mut memory = session.memory();
    let (mut outcomes, mut energy_source) = (Vec::with_capacity(ways.len()), "");
    for way in &ways {
        let manner = manner(way, &ways, &session, arguments)?;
        energy_source = manner.metering.source().label();
        let mut runner = Model::new(&session, &mut memory, arguments.repetition_penalty, manner)?;
        let bar = progress::steps(examples.len() as u64, &way.mode.family());
        outcomes.push(evaluate(&examples, &text, &mut runner, &bar)?);
        bar.finish_and_clear();
    }
    let measured = Measured { ways: &ways, outcomes: &outcomes, session: &session, energy_source };
    let report = report(task.name(), examples.len(), &measured, &source, arguments)?;
    let shown = shown(&measured);
    write_page(arguments, &report, &samples(&examples, shown, &text))?;
    if arguments.json { print_json(&report) } else { show(&report) }
}

/// The JSON of plain text: as of a task, and what perplexity is.
#[derive(Serialize)]
struct TextReport {
    #[serde(flatten)]
    report: Report,
    nll_per_token: f64,
    perplexity: f64,
    window: usize,
    isa: &'static str,
}

/// Scores plain text.
fn run_text(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.limit.is_none(), "--limit is for tasks with examples: give --tokens");
    let data = arguments.data.display();
    let text = std::fs::read_to_string(&arguments.data)
        .with_context(|| format!("{data}: cannot be read as text"))?;
    let source = source::source(arguments.bundle.as_ref(), arguments.demo)?;
    let session = arguments.decode.open(&source)?;
    let words = Text::of(&session.bundle)?;
    let mut tokens = words.encode(&text)?;
    tokens.truncate(arguments.tokens.unwrap_or(usize::MAX));
    ensure!(tokens.len() > 1, "{data}: one token or none; give a longer text");

    let window = (session.model().settings().context as usize).min(MOST_WINDOW);
    let ways = ways(&session, &arguments.decode, arguments.sweep)?;
    let mut memory = session.memory();
    let (mut outcomes, mut n, mut energy_source) = (Vec::with_capacity(ways.len()), 0, "");
    for way in &ways {
        let manner = manner(way, &ways, &session, arguments)?;
        energy_source = manner.metering.source().label();
        let mut runner = Model::new(&session, &mut memory, arguments.repetition_penalty, manner)?;
        let (outcome, scored) = score_text(&mut runner, &tokens, window)?;
        outcomes.push(outcome);
        n = scored;
    }
    let full = &outcomes[0];
    let score = |name| full.means().iter().find(|(found, _)| *found == name).map_or(0.0, |s| s.1);
    let (nll_per_token, perplexity) = (score("nll"), score("perplexity"));
    let measured = Measured { ways: &ways, outcomes: &outcomes, session: &session, energy_source };
    let mut report = report("text", n, &measured, &source, arguments)?;
    report.oracle = oracle(&session, &tokens, window)?;
    write_page(arguments, &report, &[text_sample(&tokens, window, shown(&measured), &words)])?;
    if arguments.json {
        let isa = session.isa().name();
        return print_json(&TextReport { report, nll_per_token, perplexity, window, isa });
    }
    println!("{n} tokens · {nll_per_token:.4} nats/token · perplexity {perplexity:.3}");
    show_modes(&report)
}

/// Feeds the text window by window, each from an empty state, and scores every token behind the first of its window.
fn score_text(runner: &mut dyn Runner, tokens: &[u32], window: usize) -> Result<(Outcome, usize)> {
    let bar = progress::steps(tokens.len() as u64, "text");
    let (mut nll, mut right, mut said) = (0.0, 0, Generation::nothing());
    for window in tokens.chunks(window).filter(|window| window.len() > 1) {
        let (first, rest) = window.split_at(1);
        let scored = runner.score(first, rest)?;
        nll -= scored.log_probability;
        right += scored.predicted.tokens.iter().zip(rest).filter(|(a, b)| a == b).count();
        said.append(scored.predicted);
        bar.inc(window.len() as u64);
    }
    bar.finish_and_clear();
    let n = said.tokens.len();
    let scores = vec![("exact", right as f64 / n as f64), ("nll", nll / n as f64)];
    Ok((Outcome { answers: vec![Answer { scores, said, was_cut: false }] }, n))
}

/// What was asked, and what was answered.
struct Measured<'m> {
    /// Full depth first.
    ways: &'m [Way],
    outcomes: &'m [Outcome],
    session: &'m Session<'m>,
    energy_source: &'static str,
}

/// Only where modes are compared does time count.
fn manner(way: &Way, ways: &[Way], session: &Session<'_>, arguments: &Arguments) -> Result<Manner> {
    let pace = if ways.len() > 1 { Pace::Tokens } else { Pace::Chunks };
    let metering = arguments.decode.metering(session)?;
    Ok(Manner { depth: way.depth.clone(), pace, metering })
}

/// What is shown token by token: the first mode that is not full depth, if there is one.
fn shown<'m>(measured: &Measured<'m>) -> (String, &'m Outcome) {
    let index = usize::from(measured.ways.len() > 1);
    (measured.ways[index].mode.label(), &measured.outcomes[index])
}

fn report(
    task: &'static str,
    n: usize,
    measured: &Measured<'_>,
    source: &Source,
    arguments: &Arguments,
) -> Result<Report> {
    let full = &measured.outcomes[0];
    let model = measured.session.model();
    let mode = |(way, outcome): (&Way, &Outcome)| {
        let ladder = Ladder::of(&model, way.depth.settings().map(|settings| settings.state));
        ModeReport::new(way.mode.clone(), &ladder, outcome, full)
    };
    Ok(Report {
        task,
        n,
        accuracy_is: full.means().first().map_or("", |(name, _)| *name),
        modes: measured.ways.iter().zip(measured.outcomes).map(mode).collect(),
        oracle: None,
        prompts_cut: full.prompts_cut(),
        conditions: conditions(measured, source, &arguments.data)?,
    })
}

/// The most that any classifier could save on this text, with exact state; nothing without exits.
fn oracle(session: &Session<'_>, tokens: &[u32], window: usize) -> Result<Option<Oracle>> {
    let model = session.model();
    if model.program().exits.is_empty() {
        return Ok(None);
    }
    let passages = Passages::cut(tokens, window.min(tokens.len()))?;
    let bar = progress::steps(passages.len() as u64, "oracle");
    let surveyed = agreement::survey(session, &passages, &bar)?;
    bar.finish_and_clear();
    let mut per_segment = vec![0; model.program().segments.len()];
    let taken = surveyed.replay.oracle().tokens_per_exit;
    let (end, exits) = taken.split_last().context("a count for full depth")?;
    for (exit, count) in model.program().exits.iter().zip(exits) {
        per_segment[usize::from(exit.segment)] = *count;
    }
    if let Some(last) = per_segment.last_mut() {
        *last = *end;
    }
    Ok(Some(Oracle::new(&Ladder::of(&model, None), per_segment)))
}

fn conditions(measured: &Measured<'_>, source: &Source, data: &Path) -> Result<Conditions> {
    let &Measured { session, energy_source, .. } = measured;
    let meta = session.bundle.meta();
    let bytes =
        std::fs::read(data).with_context(|| format!("{}: cannot be read", data.display()))?;
    Ok(Conditions {
        bundle: source.path().display().to_string(),
        bundle_hash: session.bundle.hash().to_string(),
        model: format!("{} ({})", meta.name, meta.architecture),
        data: data.display().to_string(),
        data_hash: Hash::of(&bytes).to_string(),
        machine: machine::name(),
        isa: session.isa().name(),
        threads: session.threads(),
        energy_source,
    })
}

fn show(report: &Report) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let full = report.modes.first().context("full depth is always measured")?;
    write!(out, "{} · {} examples", report.task, report.n)?;
    let rest = full.scores.iter().filter(|(name, _)| **name != report.accuracy_is);
    let first = full.scores.get_key_value(report.accuracy_is);
    for (name, score) in first.into_iter().chain(rest) {
        write!(out, " · {name} {score:.4}")?;
    }
    writeln!(out, " · {:.1} tok/s", full.tokens_per_s)?;
    if report.prompts_cut > 0 {
        writeln!(
            out,
            "{} of {} prompts lost their beginning: plan more with --context if the model allows it",
            report.prompts_cut, report.n
        )?;
    }
    show_modes(report)
}

/// A row for each mode, where there is more than full depth.
fn show_modes(report: &Report) -> Result<()> {
    use std::io::Write;
    if report.modes.len() < 2 {
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{:<24} {:>9} {:>8} {:>9} {:>7} {:>7} {:>7} {:>7} {:>9}",
        "mode",
        "threshold",
        report.accuracy_is,
        "agreement",
        "depth",
        "flops",
        "bytes",
        "time",
        "mJ/token"
    )?;
    for mode in &report.modes {
        writeln!(
            out,
            "{:<24} {:>9} {:>8.4} {:>8.2}% {:>6.1}% {:>6.1}% {:>6.1}% {:>6.1}% {:>9}",
            mode.mode.family(),
            mode.mode.threshold.map_or_else(String::new, |threshold| format!("{threshold:.4}")),
            mode.accuracy,
            100.0 * mode.agreement,
            100.0 * mode.depth_mean,
            100.0 * mode.flops_saved,
            100.0 * mode.bytes_saved,
            100.0 * mode.time_saved,
            mode.energy_mj_per_token.map_or_else(String::new, |mj| format!("{mj:.3}"))
        )?;
    }
    for mode in report.modes.iter().filter(|mode| !mode.acceptance_by_place.is_empty()) {
        let places: Vec<String> =
            mode.acceptance_by_place.iter().map(|share| format!("{:.1}", 100.0 * share)).collect();
        writeln!(out, "drafts right, by their place in a round: {} %", places.join(", "))?;
    }
    if let Some(oracle) = &report.oracle {
        writeln!(
            out,
            "{:<24} {:>9} {:>8} {:>8.2}% {:>6.1}% {:>6.1}% {:>6.1}%",
            "oracle",
            "",
            "",
            100.0,
            100.0 * oracle.depth_mean,
            100.0 * oracle.flops_saved,
            100.0 * oracle.bytes_saved
        )?;
    }
    Ok(())
}

fn write_page(arguments: &Arguments, report: &Report, samples: &[Sample]) -> Result<()> {
    let Some(folder) = &arguments.report else { return Ok(()) };
    let path = folder.join("index.html");
    let write = || {
        std::fs::create_dir_all(folder)?;
        std::fs::write(&path, page(report, samples))
    };
    write().with_context(|| format!("{}: cannot be written", path.display()))?;
    eprintln!("{}", path.display());
    Ok(())
}

/// Answers on the page.
const SAMPLES: usize = 3;
/// Characters of a prompt that are shown before its answer.
const PROMPT_SHOWN: usize = 240;

/// The first answers, token by token.
fn samples(examples: &[Example], (mode, outcome): (String, &Outcome), text: &Text) -> Vec<Sample> {
    let said = examples.iter().zip(&outcome.answers);
    let generated = said.filter(|(example, _)| !matches!(example.ask, Ask::Choose { .. }));
    let sample = |(example, answer): (&Example, &Answer)| {
        let start = example.prompt.char_indices().rev().nth(PROMPT_SHOWN).map_or(0, |(at, _)| at);
        Sample {
            mode: mode.clone(),
            prompt: example.prompt[start..].into(),
            pieces: pieces(&answer.said.tokens, &answer.said.exits, text),
        }
    };
    generated.take(SAMPLES).map(sample).collect()
}

/// Tokens of plain text on the page.
const TEXT_SHOWN: usize = 300;

/// The beginning of a text, each token tinted by where its prediction left.
fn text_sample(
    tokens: &[u32],
    window: usize,
    (mode, outcome): (String, &Outcome),
    text: &Text,
) -> Sample {
    let shown = tokens.len().min(window).min(TEXT_SHOWN);
    let exits = outcome.answers.first().map_or(&[][..], |answer| &answer.said.exits);
    Sample {
        mode,
        prompt: text.decode(&tokens[..1]),
        pieces: pieces(&tokens[1..shown], exits, text),
    }
}
