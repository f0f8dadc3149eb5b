//! `dynamax profile`: what a token costs on this machine, segment by segment.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use dynamax_bundle::StateMode;
use dynamax_config::Profile;
use dynamax_engine::{Decoder, ExitSettings, Outcome};
use dynamax_governor::{CONTEXT_BUCKETS, Cost, CostModel, SegmentCost, Traffic, bucket_context};
use dynamax_session::traffic::Ladder;
use dynamax_session::{Metering, Session};
use serde::Serialize;

use super::print_json;
use crate::progress;
use crate::session::DecodeArguments;
use crate::source::{self, Demo};

/// Measure what a token costs on this machine, for budgets.
#[derive(Args, Debug)]
#[command(after_help = "\
Tokens are made to leave at each exit in turn, then to run to the end, then to wait and be caught up. The differences are the
segments' costs; what cannot be told apart so (the first segment and the head) is shared out by bytes.

Examples:
  dynamax profile m.dmx -o m.profile.toml
  dynamax profile m.dmx -o m.profile.toml --config device.toml     with the board's power meter
  dynamax run m.dmx \"Once\" --energy \"0.5 J\" --profile m.profile.toml")]
pub(crate) struct Arguments {
    /// The bundle; without one, the built-in demo.
    bundle: Option<PathBuf>,
    /// Which demo, without a bundle.
    #[arg(long, value_enum, default_value_t)]
    demo: Demo,
    /// Where to write the profile.
    #[arg(short, long)]
    output: PathBuf,
    /// Tokens of each measurement, at least.
    #[arg(short = 'n', long = "tokens", default_value_t = 64)]
    n: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    decode: DecodeArguments,
}

#[derive(Serialize)]
struct Report {
    output: String,
    source: &'static str,
    full_us: f32,
    full_us_spread: f32,
    segments: Vec<Shown>,
    head_us: f32,
    head_uj: f32,
}

#[derive(Serialize)]
struct Shown {
    us: f32,
    uj: f32,
    more_row_us: f32,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.n >= 8, "-n {}: give at least 8 tokens", arguments.n);
    let source = source::source(arguments.bundle.as_ref(), arguments.demo)?;
    let session = arguments.decode.open(&source)?;
    let metering = arguments.decode.metering(&session)?;
    let label = metering.source().label();
    let mut bench = Bench::new(&session, metering, arguments.n);
    let measured = bench.measure()?;
    let model = measured.model(&Ladder::of(session.model().program()))?;
    let profile = Profile {
        board: arguments.decode.device()?.device.board,
        source: label.to_owned(),
        bundle: session.bundle.hash().to_string(),
        model,
    };
    std::fs::write(&arguments.output, profile.to_text()).with_context(|| {
        format!("{}: cannot be written; give another place with -o", arguments.output.display())
    })?;
    let report = report(arguments, label, &measured, &profile.model);
    if arguments.json { print_json(&report) } else { show(&report) }
}

/// What was measured: the cost of a token to each exit and to the end, and of rows that are caught up.
struct Measured {
    /// To each exit, then to the end.
    ways: Vec<Cost>,
    /// Half the distance between the quartiles of a token's time at full depth, in microseconds.
    spread_us: f32,
    /// Each further row that is caught up with another.
    more_row: Cost,
}

/// Times that every way is measured, one way behind the other, so that a machine that slows down slows all of them.
const ROUNDS: usize = 5;

/// The least time for one way in a round: meters sample a few hundred times a second.
const ROUND: Duration = Duration::from_millis(40);

/// What a round measures at most, however fast.
const MOST_TOKENS: u32 = 1000;

/// What was seen of one way.
#[derive(Default)]
struct Samples {
    /// Of each token.
    us: Sample,
    /// The mean of each round: a sensor is slower than a token.
    uj: Sample,
}

impl Samples {
    /// The medians: other work on the machine is not the token's.
    fn cost(&mut self) -> Cost {
        Cost { us: self.us.quartile(2), uj: self.uj.quartile(2) }
    }
}

#[derive(Default)]
struct Sample(Vec<f32>);

impl Sample {
    fn quartile(&mut self, share: usize) -> f32 {
        self.0.sort_unstable_by(f32::total_cmp);
        self.0.get(self.0.len() * share / 4).copied().unwrap_or(0.0)
    }

    /// Half the distance between the quartiles.
    fn spread(&mut self) -> f32 {
        (self.quartile(3) - self.quartile(1)) / 2.0
    }
}

/// Rows that are caught up together, to tell what one more costs.
const ROWS: usize = 8;

struct Bench<'s> {
    session: &'s Session<'s>,
    metering: Metering,
    n: usize,
}

impl<'s> Bench<'s> {
    fn new(session: &'s Session<'s>, metering: Metering, n: usize) -> Self {
        Self { session, metering, n }
    }

    fn measure(&mut self) -> Result<Measured> {
        let exits = self.session.model().program().exits.len();
        let mut memory = self.session.memory();
        let mut decoder = self.session.decoder(&mut memory);
        let bar = progress::steps(ROUNDS as u64 + 2, "profile");
        let mut ways: Vec<_> = (0..=exits).map(|_| Samples::default()).collect();
        for _ in 0..ROUNDS {
            for (way, samples) in ways.iter_mut().enumerate() {
                self.way(&mut decoder, way, exits, samples)?;
            }
            bar.inc(1);
        }
        let spread_us = ways.last_mut().map_or(0.0, |full| full.us.spread());
        let ways = ways.iter_mut().map(Samples::cost).collect();
        let more_row = if exits > 0 {
            let (one, many) = (self.catch_up(&mut decoder, 1)?, self.catch_up(&mut decoder, ROWS)?);
            let more = |one: f32, many: f32| ((many - one) / (ROWS - 1) as f32).max(0.0);
            Cost { us: more(one.us, many.us), uj: more(one.uj, many.uj) }
        } else {
            Cost::default()
        };
        bar.finish_and_clear();
        Ok(Measured { ways, spread_us, more_row })
    }

    /// Tokens that all leave at exit `way`, or run to the end.
    fn way(
        &mut self,
        decoder: &mut Decoder<'_>,
        way: usize,
        exits: usize,
        samples: &mut Samples,
    ) -> Result<()> {
        let settings = ExitSettings { state: StateMode::Skip, ..ExitSettings::default() };
        decoder.use_exits((exits > 0).then_some(settings))?;
        decoder.feed(&[0])?;
        let model = self.session.model();
        let room = model.settings().context.saturating_sub(1).min(MOST_TOKENS);
        let (mut energy_uj, mut tokens, began) = (0.0, 0, Instant::now());
        self.metering.start();
        while tokens < room && (tokens < self.n.div_ceil(ROUNDS) as u32 || began.elapsed() < ROUND)
        {
            let start = Instant::now();
            let outcome = decoder.step(tokens % model.vocab_size(), |probed| probed.exit == way)?;
            let elapsed = start.elapsed();
            samples.us.0.push(elapsed.as_secs_f32() * 1e6);
            energy_uj += self.energy(&outcome, elapsed)?;
            tokens += 1;
        }
        samples.uj.0.push(energy_uj / tokens.max(1) as f32);
        Ok(())
    }

    /// The least cost of catching up so many rows that left at the first exit.
    fn catch_up(&mut self, decoder: &mut Decoder<'_>, rows: usize) -> Result<Cost> {
        decoder.use_exits(Some(ExitSettings::default()))?;
        decoder.feed(&[0])?;
        let last = self.session.model().program().segments.len() as u16 - 1;
        let (mut us, mut uj, rounds) = (f32::INFINITY, 0.0, self.n.div_ceil(rows));
        for _ in 0..rounds {
            for token in 0..rows as u32 {
                decoder.step(token, |_| true)?;
            }
            self.metering.start();
            let start = Instant::now();
            decoder.catch_up();
            let elapsed = start.elapsed();
            us = us.min(elapsed.as_secs_f32() * 1e6);
            let caught = Outcome {
                segment: last,
                reach: last,
                caught_up: rows as u32 - 1,
                ..Outcome::default()
            };
            uj += self.energy(&caught, elapsed)?;
        }
        Ok(Cost { us, uj: uj / rounds as f32 })
    }

    fn energy(&mut self, outcome: &Outcome, elapsed: Duration) -> Result<f32> {
        let energy = self.metering.token(outcome, true, 0, elapsed);
        let energy = energy.map_err(|fault| anyhow::anyhow!("the power meter fails: {fault}"))?;
        Ok(energy.0 as f32)
    }
}

impl Measured {
    /// Costs of the parts: differences between the ways; the first segment, its probe and the head share the first way by
    /// bytes, and longer contexts cost more by the bytes that they read.
    fn model(&self, ladder: &Ladder) -> Result<CostModel> {
        let bytes = |part: &Traffic| part.bytes as f32;
        let (first, probe) = (&ladder.segments[0], ladder.segments[0].probe_bytes as f32);
        let whole = bytes(first) + probe + bytes(&ladder.head);
        let shortest = self.ways[0];
        let head = shortest.times(bytes(&ladder.head) / whole);
        let us_per_byte = shortest.us / whole;
        let uj_per_byte = shortest.uj / whole;
        let skipped: f32 = ladder.segments.iter().skip(1).map(bytes).sum();
        let mut segments = Vec::with_capacity(ladder.segments.len());
        for (index, part) in ladder.segments.iter().enumerate() {
            let base = match index.checked_sub(1) {
                None => shortest.times(bytes(first) / whole),
                Some(before) => difference(self.ways[index], self.ways[before]),
            };
            let probe = Cost { us: us_per_byte, uj: uj_per_byte }.times(part.probe_bytes as f32);
            let mut first_row = [base; CONTEXT_BUCKETS];
            for (bucket, cost) in first_row.iter_mut().enumerate() {
                let read = bucket_context(bucket) as f32 * part.bytes_per_context as f32;
                *cost = cost.plus(Cost { us: us_per_byte, uj: uj_per_byte }.times(read));
            }
            let share = if skipped > 0.0 { bytes(part) / skipped } else { 0.0 };
            segments.push(SegmentCost { first_row, more_row: self.more_row.times(share), probe });
        }
        CostModel::new(&segments, head).context("what was measured makes no costs: measure again")
    }
}

/// What a longer way costs more; noise must not make it nothing.
fn difference(longer: Cost, shorter: Cost) -> Cost {
    let least = |cost: f32| cost * 1e-3;
    Cost {
        us: (longer.us - shorter.us).max(least(longer.us)),
        uj: (longer.uj - shorter.uj).max(least(longer.uj)),
    }
}

fn report(
    arguments: &Arguments,
    source: &'static str,
    measured: &Measured,
    model: &CostModel,
) -> Report {
    let shown = |segment: &SegmentCost| Shown {
        us: segment.first_row[0].us,
        uj: segment.first_row[0].uj,
        more_row_us: segment.more_row.us,
    };
    Report {
        output: arguments.output.display().to_string(),
        source,
        full_us: measured.ways.last().map_or(0.0, |full| full.us),
        full_us_spread: measured.spread_us,
        segments: model.segments().iter().map(shown).collect(),
        head_us: model.head().us,
        head_uj: model.head().uj,
    }
}

fn show(report: &Report) -> Result<()> {
    println!(
        "{}: a token takes {:.0} us ± {:.0} at full depth; energy by {}",
        report.output, report.full_us, report.full_us_spread, report.source
    );
    for (index, segment) in report.segments.iter().enumerate() {
        println!(
            "  segment {index}: {:>9.1} us {:>11.1} uJ, each further row {:.1} us",
            segment.us, segment.uj, segment.more_row_us
        );
    }
    println!("  head     : {:>9.1} us {:>11.1} uJ", report.head_us, report.head_uj);
    Ok(())
}
