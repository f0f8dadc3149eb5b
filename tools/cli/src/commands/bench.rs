//! `dynamax bench`: prompt and decode speed, beside what the machine's memory allows.

mod speedup;
mod trace;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use dynamax_bundle::Program;
use dynamax_config::show_bytes as show;
use dynamax_engine::decoder::Crew;
use dynamax_engine::{Decoder, Outcome, Team};
use dynamax_governor::Microjoules;
use dynamax_session::budget::Budget;
use dynamax_session::rounds::{Drafter, Tally};
use dynamax_session::traffic::Ladder;
use dynamax_session::{Depth, Session, Source, Text, machine::peak_rss_bytes};
use serde::Serialize;

use super::print_json;
use crate::machine;
use crate::session::DecodeArguments;
use crate::source::{self, Demo};
use trace::Trace;

/// Measure prompt and decode speed.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  dynamax bench m.dmx                       512 tokens in, 128 out, three times
  dynamax bench m.dmx -p 128 -n 64 -r 5 -t 1
  dynamax bench m.dmx --exit fixed          with early exits, and beside them with --exit off
  dynamax bench m.dmx --exit verified       as drafts: the tokens of --exit off
  dynamax bench m.dmx --exit verified --acceptance 0.8      if eight of ten drafts were right
  dynamax bench m.dmx --isa avx2 --json     another instruction set, same tokens
  dynamax bench m.dmx --trace t.json        what each thread did when; opens in ui.perfetto.dev")]
pub(crate) struct Arguments {
    /// The bundle; without one, the built-in demo.
    bundle: Option<PathBuf>,
    /// Which demo, without a bundle.
    #[arg(long, value_enum, default_value_t)]
    demo: Demo,
    /// Tokens of the prompt; by default 512, or as many as the bundle's context leaves.
    #[arg(short = 'p', long = "prompt-tokens")]
    prompt: Option<usize>,
    /// Tokens to decode.
    #[arg(short = 'n', long = "tokens", default_value_t = 128)]
    n: usize,
    /// Repetitions; the median is reported.
    #[arg(short = 'r', long, default_value_t = 3)]
    repetitions: usize,
    /// Let drafts be right with this chance, whatever exits say (--exit verified): what exits that good would bring.
    #[arg(long, value_name = "CHANCE")]
    acceptance: Option<f64>,
    /// Write what each thread did when to this file, after the measurement: a prompt and some tokens more.
    #[arg(long)]
    trace: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    decode: DecodeArguments,
}

#[derive(Serialize)]
struct Report {
    prefill_tok_s: f64,
    decode_tok_s: f64,
    decode_bytes_per_token: u64,
    read_gb_s: f64,
    machine_read_gb_s: f64,
    /// For 1, 2, … threads.
    machine_read_gb_s_by_threads: Vec<f64>,
    /// `read_gb_s` as a part of what the machine reads with as many threads; above 1 if caches help.
    machine_share: f64,
    load_ms: f64,
    threads: usize,
    isa: &'static str,
    backend: &'static str,
    depth_mean: f64,
    agreement: Option<f64>,
    /// Of drafts, the share that was right; without drafts, none.
    acceptance: Option<f64>,
    /// Of drafts, the share that no exit made, because it had been said before.
    said_before: Option<f64>,
    /// Decoding speed as a multiple of `--exit off`, measured in turn with it; without exits, none.
    speedup: Option<f64>,
    /// What the cost model makes of the same steps: the profile's, or that of the board's rates.
    speedup_modelled: Option<f64>,
    /// Whether the model's costs were measured here (`dynamax profile`); without exits, none.
    is_profiled: Option<bool>,
    peak_rss_bytes: Option<u64>,
    planned_bytes: u64,
}

/// Tokens of a prompt whose length nobody chose.
const PROMPT_TOKENS: usize = 512;

/// Rounds of the bandwidth measurement.
const STREAM_ROUNDS: usize = 5;

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(
        arguments.prompt != Some(0) && arguments.n > 0 && arguments.repetitions > 0,
        "-p, -n and -r start at 1"
    );
    let source = source::source(arguments.bundle.as_ref(), arguments.demo)?;
    let mut decode = arguments.decode.clone();
    let context = decode.context.unwrap_or(source.bundle()?.meta().context_max);
    let room = (context as usize).saturating_sub(arguments.n).max(1);
    let prompt_tokens = arguments.prompt.unwrap_or(PROMPT_TOKENS.min(room));
    decode.context.get_or_insert((prompt_tokens + arguments.n) as u32);
    let session = decode.open(&source)?;
    ensure!(
        arguments.trace.is_none() || session.backend() == "cpu",
        "--trace shows the threads of the cpu: leave out --backend {}",
        session.backend()
    );
    let prompt = prompt(&source, session.model().vocab_size(), prompt_tokens)?;
    let measured = measure(&session, &prompt, arguments)?;
    // Before the stream is measured, whose memory is not the model's.
    let peak_rss_bytes = peak_rss_bytes();
    let bytes = measured.bytes_per_token;
    let decode_tok_s = arguments.n as f64 / measured.decode_s;
    let read_gb_s = bytes as f64 * decode_tok_s / 1e9;
    if let Some(path) = &arguments.trace {
        write_trace(path, &source, &session, &prompt, arguments.n.min(TRACED_TOKENS))?;
    }
    let by_threads: Vec<f64> = (1..=session.threads())
        .map(|threads| machine::read_bandwidth(session.isa(), threads, STREAM_ROUNDS) / 1e9)
        .collect();
    let machine_read_gb_s = by_threads[session.threads() - 1];
    let report = Report {
        prefill_tok_s: prompt_tokens as f64 / measured.prefill_s,
        decode_tok_s,
        decode_bytes_per_token: bytes,
        read_gb_s,
        machine_read_gb_s,
        machine_read_gb_s_by_threads: by_threads,
        machine_share: read_gb_s / machine_read_gb_s,
        load_ms: session.load_s * 1e3,
        threads: session.threads(),
        isa: session.isa().name(),
        backend: session.backend(),
        depth_mean: measured.depth_mean,
        agreement: measured.agreement,
        acceptance: measured.drafts.acceptance(),
        said_before: measured.drafts.share_said_before(),
        speedup: measured.speedup,
        speedup_modelled: measured.speedup_modelled,
        is_profiled: measured.is_profiled,
        peak_rss_bytes,
        planned_bytes: session.planned_bytes(),
    };
    if arguments.json { print_json(&report) } else { show_report(&report) }
}

/// What was measured.
struct Measured {
    /// Median seconds of the prompt.
    prefill_s: f64,
    /// Median seconds of all decoded tokens.
    decode_s: f64,
    bytes_per_token: u64,
    depth_mean: f64,
    agreement: Option<f64>,
    drafts: Tally,
    speedup: Option<f64>,
    speedup_modelled: Option<f64>,
    is_profiled: Option<bool>,
}

fn measure(session: &Session<'_>, prompt: &[u32], arguments: &Arguments) -> Result<Measured> {
    let (model, depth) = (session.model(), arguments.decode.steady_depth(session)?);
    let mut memory = session.memory();
    let mut decoder = session.decoder(&mut memory);
    decoder.use_exits(depth.settings())?;
    let mut depth = depth;
    let (mut prefills, mut decodes, mut speedups) = (Vec::new(), Vec::new(), Vec::new());
    let mut seen = Seen {
        outcomes: Vec::new(),
        drafts: Tally::default(),
        staged: staged(&mut decoder, prompt, arguments, &depth)?,
    };
    for _ in 0..arguments.repetitions {
        decoder.reset();
        let start = Instant::now();
        decoder.take(prompt)?;
        let token = decoder.best();
        prefills.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        decode(&mut decoder, token, (prompt, arguments.n), &mut depth, &mut seen)?;
        decodes.push(start.elapsed().as_secs_f64());
        if depth.settings().is_some() {
            let full_s = speedup::full_depth_s(&mut decoder, prompt, arguments.n)?;
            speedups.push(full_s / decodes[decodes.len() - 1]);
        }
    }
    let tokens = (arguments.n * arguments.repetitions) as f64;
    let position = (prompt.len() + arguments.n / 2) as u64;
    let ladder = Ladder::of(model.program());
    let step_bytes = |outcome: &Outcome| ladder.step_bytes(outcome, position);
    let bytes: u64 = seen.outcomes.iter().map(step_bytes).sum();
    let modelled = |budget: &Budget| {
        speedup::modelled(budget.governor().model(), &seen.outcomes, tokens, position as u32)
    };
    Ok(Measured {
        prefill_s: median(&mut prefills),
        decode_s: median(&mut decodes),
        bytes_per_token: (bytes as f64 / tokens) as u64,
        depth_mean: seen.depth_mean(model.program(), tokens),
        agreement: match depth {
            // The last layer has said every token.
            Depth::Verified(_) => Some(1.0),
            _ => seen.agreement(),
        },
        drafts: seen.drafts,
        speedup: (!speedups.is_empty()).then(|| median(&mut speedups)),
        speedup_modelled: depth.budget().map(modelled),
        is_profiled: depth.budget().map(Budget::is_profiled),
    })
}

/// Drafts that are right as often as --acceptance says.
struct Staged {
    /// What full depth says behind the prompt.
    tokens: Vec<u32>,
    /// How many of them have been told.
    told: usize,
    chance: f64,
    random: Random,
}

fn staged(
    decoder: &mut Decoder<'_>,
    prompt: &[u32],
    arguments: &Arguments,
    depth: &Depth,
) -> Result<Option<Staged>> {
    let Some(chance) = arguments.acceptance else { return Ok(None) };
    ensure!((0.0..=1.0).contains(&chance), "--acceptance {chance}: give a chance from 0 to 1");
    ensure!(matches!(depth, Depth::Verified(_)), "--acceptance is of --exit verified: add it");
    let isa = decoder.isa();
    let mut tokens = vec![isa.argmax(decoder.feed(prompt)?) as u32];
    for index in 0..arguments.n {
        tokens.push(isa.argmax(decoder.feed(&[tokens[index]])?) as u32);
    }
    Ok(Some(Staged { tokens, told: 0, chance, random: Random(1) }))
}

/// Numbers from 0 to 1, always the same ones (Marsaglia 2003).
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl Staged {
    /// What follows the drafts, or something else.
    fn draft(&mut self, drafts: usize) -> u32 {
        let right = self.tokens.get(self.told + drafts).copied().unwrap_or(0);
        if self.random.unit() < self.chance { right } else { u32::from(right == 0) }
    }
}

/// Decodes greedily behind a prompt.
fn decode(
    decoder: &mut Decoder<'_>,
    first: u32,
    (prompt, tokens): (&[u32], usize),
    depth: &mut Depth,
    seen: &mut Seen,
) -> Result<()> {
    let mut token = first;
    if let Depth::Verified(rounds) = depth {
        rounds.begin_sequence();
        let mut said = prompt.to_vec();
        for made in 0..tokens {
            if let Some(staged) = &mut seen.staged {
                // Staged drafts are all there is.
                (staged.told, said) = (made + 1, Vec::new());
            }
            rounds.step(decoder, (&said, token), tokens - made - 1, seen)?;
            said.push(token);
            token = decoder.best();
        }
        seen.drafts.add(&rounds.end_sequence());
        return Ok(());
    }
    let decide = depth.decision(prompt.len() as u32, tokens as u32);
    for _ in 0..tokens {
        seen.outcomes.push(decoder.step_by(token, &decide)?);
        token = decoder.best();
    }
    Ok(())
}

/// What was seen of all tokens.
struct Seen {
    outcomes: Vec<Outcome>,
    drafts: Tally,
    staged: Option<Staged>,
}

impl Drafter for Seen {
    fn draft(&mut self, decoder: &mut Decoder<'_>, drafts: &[u32]) -> u32 {
        match &mut self.staged {
            Some(staged) => staged.draft(drafts.len()),
            None => decoder.best(),
        }
    }

    fn hear(&mut self, decoder: &mut Decoder<'_>) {
        _ = decoder.best();
    }

    fn always_leaves(&self) -> bool {
        self.staged.is_some()
    }

    fn stepped(&mut self, outcome: &Outcome, _: Duration) -> Option<Microjoules> {
        self.outcomes.push(*outcome);
        None
    }
}

impl Seen {
    /// Mean share of the layers that answers came from; tokens of drafts that were right came from where these left.
    fn depth_mean(&self, program: &Program<'_>, tokens: f64) -> f64 {
        let layers = |segment: u16| f64::from(program.segments[usize::from(segment)].layers.max(1));
        let (all, last) = (layers(program.segments.len() as u16 - 1), program.segments.len() - 1);
        let depth = |outcome: &Outcome| layers(outcome.segment) / all;
        let is_early = |outcome: &&Outcome| usize::from(outcome.segment) < last;
        let left: Vec<&Outcome> = self.outcomes.iter().filter(is_early).collect();
        let early: f64 = left.iter().map(|outcome| depth(outcome)).sum();
        // What was said before went through all layers.
        let right = (self.drafts.right() - self.drafts.said_before().1) as f64;
        if left.is_empty() || self.drafts.drafted() == 0 {
            return (early + tokens - left.len() as f64) / tokens;
        }
        (early / left.len() as f64 * right + (tokens - right)) / tokens
    }

    fn agreement(&self) -> Option<f64> {
        let sum = |of: fn(&Outcome) -> u32| self.outcomes.iter().map(of).sum::<u32>();
        let (revealed, agreed) = (sum(|outcome| outcome.revealed), sum(|outcome| outcome.agreed));
        (revealed > 0).then(|| f64::from(agreed) / f64::from(revealed))
    }
}

/// What is fed, again and again if need be, where there is a tokenizer: a description by Joseph Conrad, 1902.
const PASSAGE: &str = "The sea-reach of the Thames stretched before us like the beginning of an interminable waterway. In \
    the offing the sea and the sky were welded together without a joint, and in the luminous space the tanned sails of the \
    barges drifting up with the tide seemed to stand still in red clusters of canvas sharply peaked, with gleams of \
    varnished sprits. A haze rested on the low shores that ran out to sea in vanishing flatness. ";

/// Tokens of a prompt: of a text, or any, if the bundle has no tokenizer.
fn prompt(source: &Source, vocab_size: u32, count: usize) -> Result<Vec<u32>> {
    let text = Text::of(&source.bundle()?).and_then(|text| text.encode_as_written(PASSAGE));
    Ok(match text {
        Ok(tokens) if !tokens.is_empty() => tokens.into_iter().cycle().take(count).collect(),
        _ => (0..count as u32).map(|index| (index * 7919 + 13) % vocab_size).collect(),
    })
}

/// Tokens that a trace shows behind the prompt.
const TRACED_TOKENS: usize = 16;

/// Runs the prompt and `tokens` tokens once more, seen by a [`Trace`], and writes it.
fn write_trace(
    path: &Path,
    source: &Source,
    session: &Session<'_>,
    prompt: &[u32],
    tokens: usize,
) -> Result<()> {
    let mut team = Team::new(session.threads())?;
    let trace = Arc::new(Trace::new(team.threads()));
    team.show(Arc::<Trace>::clone(&trace));
    let mut memory = session.memory();
    let crew = Crew::Team(&team);
    let mut decoder = Decoder::new(session.model(), &mut memory, session.isa(), crew);
    let mut steps: Vec<(String, Range<f64>)> = Vec::new();
    let mut next = prompt.to_vec();
    for step in 0..=tokens {
        let start = trace.now_us();
        let token = session.isa().argmax(decoder.feed(&next)?) as u32;
        let name =
            if step == 0 { format!("prompt of {}", next.len()) } else { format!("token {step}") };
        steps.push((name, start..trace.now_us()));
        next = vec![token];
    }
    trace.write(path, &source.bundle()?, session.model().program(), &steps)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn show_report(report: &Report) -> Result<()> {
    println!("prefill   {:>9.1} tok/s", report.prefill_tok_s);
    println!("decode    {:>9.1} tok/s", report.decode_tok_s);
    println!(
        "memory    {:>9.1} GB/s of the machine's {:.1} ({:.0} %), {} a token",
        report.read_gb_s,
        report.machine_read_gb_s,
        100.0 * report.read_gb_s / report.machine_read_gb_s,
        show(report.decode_bytes_per_token)
    );
    let agreement = report
        .agreement
        .map_or_else(String::new, |share| format!(", agreement {:.1} %", 100.0 * share));
    let acceptance = report
        .acceptance
        .map_or_else(String::new, |share| format!(", {:.1} % of drafts right", 100.0 * share));
    let said_before = report
        .said_before
        .map_or_else(String::new, |share| format!(" ({:.0} % said before)", 100.0 * share));
    println!("depth     {:>9.1} %{agreement}{acceptance}{said_before}", 100.0 * report.depth_mean);
    if let Some(speedup) = report.speedup {
        let modelled = match (report.speedup_modelled, report.is_profiled) {
            (Some(speedup), Some(true)) => format!(" (by the profile {speedup:.2})"),
            (Some(speedup), _) => format!(" (by the board's rates {speedup:.2}; no profile)"),
            (None, _) => String::new(),
        };
        println!("speed-up  {speedup:>9.2} × --exit off, in turn{modelled}");
    }
    println!("planned   {:>12}", show(report.planned_bytes));
    println!("peak RSS  {:>12}", report.peak_rss_bytes.map_or_else(|| "unknown".into(), show));
    println!("on        {} × {}, loaded in {:.0} ms", report.isa, report.threads, report.load_ms);
    Ok(())
}
