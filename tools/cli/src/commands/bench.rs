//! `dynamax bench`: prompt and decode speed, beside what the machine's memory allows.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use dynamax_config::show_bytes as show;
use dynamax_engine::Outcome;
use dynamax_session::traffic::Ladder;
use dynamax_session::{Session, Text, machine::peak_rss_bytes};
use serde::Serialize;

use super::print_json;
use crate::machine;
use crate::session::DecodeArguments;
use crate::source::{self, Demo};

/// Measure prompt and decode speed.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  dynamax bench m.dmx                       512 tokens in, 128 out, three times
  dynamax bench m.dmx -p 128 -n 64 -r 5 -t 1
  dynamax bench m.dmx --exit fixed          with early exits, to compare with --exit off
  dynamax bench m.dmx --isa avx2 --json     another instruction set, same tokens")]
pub(crate) struct Arguments {
    /// The bundle; without one, the built-in demo.
    bundle: Option<PathBuf>,
    /// Which demo, without a bundle.
    #[arg(long, value_enum, default_value_t)]
    demo: Demo,
    /// Tokens of the prompt.
    #[arg(short = 'p', long = "prompt-tokens", default_value_t = 512)]
    prompt: usize,
    /// Tokens to decode.
    #[arg(short = 'n', long = "tokens", default_value_t = 128)]
    n: usize,
    /// Repetitions; the median is reported.
    #[arg(short = 'r', long, default_value_t = 3)]
    repetitions: usize,
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
    load_ms: f64,
    threads: usize,
    isa: &'static str,
    depth_mean: f64,
    agreement: Option<f64>,
    peak_rss_bytes: Option<u64>,
    planned_bytes: u64,
}

/// Rounds of the bandwidth measurement.
const STREAM_ROUNDS: usize = 5;

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(
        arguments.prompt > 0 && arguments.n > 0 && arguments.repetitions > 0,
        "-p, -n and -r start at 1"
    );
    let source = source::source(arguments.bundle.as_ref(), arguments.demo)?;
    let mut decode = arguments.decode.clone();
    decode.context.get_or_insert((arguments.prompt + arguments.n) as u32);
    let session = decode.open(&source)?;
    let measured = measure(&session, arguments)?;
    // Before the stream is measured, whose memory is not the model's.
    let peak_rss_bytes = peak_rss_bytes();
    let bytes = measured.bytes_per_token;
    let decode_tok_s = arguments.n as f64 / measured.decode_s;
    let report = Report {
        prefill_tok_s: arguments.prompt as f64 / measured.prefill_s,
        decode_tok_s,
        decode_bytes_per_token: bytes,
        read_gb_s: bytes as f64 * decode_tok_s / 1e9,
        machine_read_gb_s: machine::read_bandwidth(session.threads(), STREAM_ROUNDS) / 1e9,
        load_ms: session.load_s * 1e3,
        threads: session.threads(),
        isa: session.isa().name(),
        depth_mean: measured.depth_mean,
        agreement: measured.agreement,
        peak_rss_bytes,
        planned_bytes: session.model().sizes().total_bytes(),
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
}

fn measure(session: &Session<'_>, arguments: &Arguments) -> Result<Measured> {
    let (model, depth) = (session.model(), arguments.decode.steady_depth(session)?);
    let program = model.program();
    let mut memory = session.memory();
    let mut decoder = session.decoder(&mut memory);
    decoder.use_exits(depth.settings())?;
    let decide = depth.decision(arguments.prompt as u32, arguments.n as u32);
    let prompt = prompt(session, arguments.prompt);
    let (mut prefills, mut decodes) = (Vec::new(), Vec::new());
    let mut outcomes = Vec::with_capacity(arguments.n * arguments.repetitions);
    for _ in 0..arguments.repetitions {
        decoder.reset();
        let start = Instant::now();
        let mut token = session.isa().argmax(decoder.feed(&prompt)?) as u32;
        prefills.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        for _ in 0..arguments.n {
            outcomes.push(decoder.step(token, &decide)?);
            token = session.isa().argmax(decoder.logits()) as u32;
        }
        decodes.push(start.elapsed().as_secs_f64());
    }
    let count = outcomes.len() as f64;
    let layers = |segment: u16| f64::from(program.segments[usize::from(segment)].layers.max(1));
    let all = layers(program.segments.len() as u16 - 1);
    let depths: f64 = outcomes.iter().map(|outcome| layers(outcome.segment) / all).sum();
    let sum = |of: fn(&Outcome) -> u32| outcomes.iter().map(of).sum::<u32>();
    let (revealed, agreed) = (sum(|outcome| outcome.revealed), sum(|outcome| outcome.agreed));
    let position = (arguments.prompt + arguments.n / 2) as u64;
    let asks = depth.settings().is_some();
    let ladder = Ladder::of(program);
    let bytes: u64 =
        outcomes.iter().map(|outcome| ladder.step_bytes(outcome, asks, position)).sum();
    Ok(Measured {
        prefill_s: median(&mut prefills),
        decode_s: median(&mut decodes),
        bytes_per_token: (bytes as f64 / count) as u64,
        depth_mean: depths / count,
        agreement: (revealed > 0).then(|| f64::from(agreed) / f64::from(revealed)),
    })
}

/// What the prompt says, over and over, where the bundle has a tokenizer.
const PROMPT: &str = "It was a bright cold day, and the people of the town stood about the harbour and spoke of the ship \
    that had come in the night. Nobody knew whence she came, nor who had seen her first. ";

/// A prompt of so many tokens: text, so that early exits meet what they know; any ids where there is no tokenizer.
fn prompt(session: &Session<'_>, len: usize) -> Vec<u32> {
    let text = Text::of(&session.bundle).and_then(|text| text.encode(PROMPT)).unwrap_or_default();
    if text.is_empty() {
        let vocab_size = session.model().vocab_size();
        return (0..len as u32).map(|index| (index * 7919 + 13) % vocab_size).collect();
    }
    text.into_iter().cycle().take(len).collect()
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
    println!("depth     {:>9.1} %{agreement}", 100.0 * report.depth_mean);
    println!("planned   {:>12}", show(report.planned_bytes));
    println!("peak RSS  {:>12}", report.peak_rss_bytes.map_or_else(|| "unknown".into(), show));
    println!("on        {} × {}, loaded in {:.0} ms", report.isa, report.threads, report.load_ms);
    Ok(())
}
