//! `dynamax profile`: what a token costs on this machine, segment by segment.

mod measured;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use dynamax_bundle::{Program, Rows, StateMode};
use dynamax_config::{Profile, Spread};
use dynamax_engine::{Decide, Decoder, ExitSettings, Outcome, Probed, Thresholds};
use dynamax_governor::meter::{Source, power_mode};
use dynamax_governor::{CONTEXT_BUCKETS, Cost, MORE_ROWS, SegmentCost, bucket_context};
use dynamax_session::traffic::Ladder;
use dynamax_session::{Metering, Session, profiles};
use serde::Serialize;

use measured::{Measured, ROUNDS, Rounds, middle};

use super::print_json;
use crate::progress;
use crate::session::DecodeArguments;
use crate::source::{self, Demo};

/// Measure what a token costs on this machine, for budgets.
#[derive(Args, Debug)]
#[command(after_help = "\
Tokens are made to leave at each exit in turn, then to run to the end, with exits asked and without, then to wait and be caught
up, nine times. The differences are the costs of segments and of exits, which on a GPU are read back; what cannot be told apart so
(the first segment and the head) is shared out by bytes. Where context is read, tokens are timed at longer contexts, too, as far as
--context reaches.

Examples:
  dynamax profile m.dmx                                  into m.profile.toml, which budgets for m.dmx find
  dynamax profile m.dmx --config device.toml             with the board's power meter
  dynamax run m.dmx \"Once\" --energy \"0.5 J\"
  dynamax profile /var/lib/dynamax/a.dmx --config /etc/dynamax/device.toml      on a board, of the slot that runs")]
pub(crate) struct Arguments {
    /// The bundle; without one, the built-in demo.
    bundle: Option<PathBuf>,
    /// Which demo, without a bundle.
    #[arg(long, value_enum, default_value_t)]
    demo: Demo,
    /// Where to write the profile; by default beside the bundle, where budgets look for it: m.profile.toml for m.dmx.
    #[arg(short, long, required_unless_present = "bundle")]
    output: Option<PathBuf>,
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
    power_mode: Option<u32>,
    full_us: f32,
    full_us_95: [f32; 2],
    segments: Vec<Shown>,
    head_us: f32,
    head_uj: f32,
    /// Longest context of each range that was measured.
    contexts: Vec<u32>,
}

#[derive(Serialize)]
struct Shown {
    us: f32,
    /// What the median is between, with a confidence of 95 %.
    us_95: [f32; 2],
    uj: f32,
    uj_95: [f32; 2],
    /// What 1, 3, 7 and 15 further rows cost together.
    more_rows_us: [f32; MORE_ROWS.len()],
    more_rows_uj: [f32; MORE_ROWS.len()],
    /// What the medians of those that were measured are between.
    more_rows_us_95: Vec<[f32; 2]>,
    /// Of each range of contexts.
    us_by_context: Vec<f32>,
    /// To ask the exit behind it: to compute its score, and to wait until it is known.
    probe_us: f32,
    probe_uj: f32,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.n >= 8, "-n {}: give at least 8 tokens", arguments.n);
    let source = source::source(arguments.bundle.as_ref(), arguments.demo)?;
    let session = arguments.decode.open(&source)?;
    let metering = arguments.decode.metering(&session)?;
    let label = metering.source().label();
    let mut bench = Bench::new(&session, metering, arguments.n);
    let measured = bench.measure()?;
    let ladder = Ladder::of(session.model().program());
    let (model, spreads) = measured.model(&ladder)?;
    let profile = Profile {
        board: arguments.decode.device()?.device.board,
        backend: session.backend().to_owned(),
        source: label.to_owned(),
        bundle: session.bundle.hash().to_string(),
        power_mode: power_mode(arguments.decode.root()),
        model,
        spreads,
    };
    let given = || arguments.output.clone();
    let output = given().or_else(|| source.file().map(profiles::place));
    let output = output.context("give a place for the profile: -o")?;
    std::fs::write(&output, profile.to_text()).with_context(|| {
        format!("{}: cannot be written; give another place with -o", output.display())
    })?;
    let report = report(&output, label, (&measured, &ladder), &profile);
    if arguments.json { print_json(&report) } else { show(&report) }
}

/// The least time for one way in a round: meters sample a few hundred times a second.
const ROUND: Duration = Duration::from_millis(25);

/// What a round measures at most, however fast.
const MOST_TOKENS: u32 = 1000;

/// Tokens of one way in a round at a longer context: few, so that the context stays in its range.
const TOKENS_AT_CONTEXT: usize = 2;

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
        let bar = progress::steps(ROUNDS as u64 * 2, "profile");
        let (mut ways, mut unasked) = (vec![Rounds::default(); exits + 1], Rounds::default());
        // As many as may wait.
        let most = self.session.model().settings().max_rows.saturating_sub(1);
        let can_wait = MORE_ROWS.into_iter().filter(|more| exits > 0 && u32::from(*more) < most);
        let mut more_rows = vec![Rounds::default(); can_wait.count()];
        for _ in 0..ROUNDS {
            for (way, rounds) in ways.iter_mut().enumerate() {
                rounds.0.push(self.way(&mut decoder, exits, &At(way))?);
            }
            if exits > 0 {
                unasked.0.push(self.way(&mut decoder, exits, &Thresholds::all(f32::INFINITY))?);
                let one = self.catch_up(&mut decoder, 1)?;
                for (more, rounds) in MORE_ROWS.into_iter().zip(&mut more_rows) {
                    let many = self.catch_up(&mut decoder, usize::from(more) + 1)?;
                    rounds.0.push(Cost { us: many.us - one.us, uj: many.uj - one.uj });
                }
            }
            bar.inc(1);
        }
        let longer = self.at_longer_contexts(&mut decoder, exits)?;
        bar.finish_and_clear();
        Ok(Measured { ways, unasked, more_rows, longer })
    }

    /// One round of tokens that all go the same way.
    fn way(
        &mut self,
        decoder: &mut Decoder<'_>,
        exits: usize,
        decide: &impl Decide,
    ) -> Result<Cost> {
        use_skipping(decoder, exits)?;
        decoder.feed(&[0])?;
        let model = self.session.model();
        let room = model.settings().context.saturating_sub(1).min(MOST_TOKENS);
        let (mut times_us, mut energies_uj, began) = (Vec::new(), Vec::new(), Instant::now());
        self.metering.start();
        while times_us.len() < room as usize
            && (times_us.len() < self.n.div_ceil(ROUNDS) || began.elapsed() < ROUND)
        {
            let token = times_us.len() as u32 % model.vocab_size();
            let start = Instant::now();
            let outcome = decoder.step_by(token, decide)?;
            _ = decoder.best();
            let elapsed = start.elapsed();
            times_us.push(elapsed.as_secs_f32() * 1e6);
            energies_uj.push(self.energy(&outcome, elapsed)?);
        }
        let uj = match self.metering.source() {
            // It follows from the time, of which the middle counts.
            Source::Model => middle(energies_uj),
            // A sensor is slower than a token: only the sum is right.
            _ => energies_uj.iter().sum::<f32>() / times_us.len().max(1) as f32,
        };
        Ok(Cost { us: middle(times_us), uj })
    }

    /// How many times as long each way takes in the ranges of context behind the first, as far as the planned context reaches, if the
    /// context is read at all.
    fn at_longer_contexts(&self, decoder: &mut Decoder<'_>, exits: usize) -> Result<Vec<Vec<f32>>> {
        let model = self.session.model();
        if !reads_context(model.program()) {
            return Ok(Vec::new());
        }
        let measured = (ROUNDS * (exits + 1) * TOKENS_AT_CONTEXT) as u32;
        use_skipping(decoder, exits)?;
        let mut ratios: Vec<Vec<f32>> = Vec::new();
        let mut first: Vec<f32> = Vec::new();
        for bucket in 0..CONTEXT_BUCKETS {
            let end = bucket_context(bucket);
            let rest = end.saturating_sub(decoder.position() + measured);
            if end > model.settings().context || (bucket > 0 && rest == 0) {
                break;
            }
            let prompt: Vec<u32> = (0..rest.max(1)).map(|at| at % model.vocab_size()).collect();
            decoder.feed(&prompt)?;
            let mut times = vec![Vec::new(); exits + 1];
            for round in 0..ROUNDS * TOKENS_AT_CONTEXT {
                for (way, times) in times.iter_mut().enumerate() {
                    let start = Instant::now();
                    decoder.step_by(round as u32, &At(way))?;
                    _ = decoder.best();
                    times.push(start.elapsed().as_secs_f32() * 1e6);
                }
            }
            let times: Vec<f32> = times.into_iter().map(middle).collect();
            if first.is_empty() {
                first = times;
            } else {
                ratios.push(times.iter().zip(&first).map(|(us, first)| us / first).collect());
            }
        }
        Ok(ratios)
    }

    /// One round of catching up so many rows that left at the first exit.
    fn catch_up(&mut self, decoder: &mut Decoder<'_>, rows: usize) -> Result<Cost> {
        decoder.use_exits(Some(ExitSettings::default()))?;
        decoder.feed(&[0])?;
        let last = self.session.model().program().segments.len() as u16 - 1;
        let times = self.n.div_ceil(rows).div_ceil(ROUNDS).max(2);
        let (mut times_us, mut uj) = (Vec::new(), 0.0);
        for _ in 0..times {
            for token in 0..rows as u32 {
                decoder.step(token, |_| true)?;
            }
            decoder.wait();
            self.metering.start();
            let start = Instant::now();
            decoder.catch_up();
            decoder.wait();
            let elapsed = start.elapsed();
            times_us.push(elapsed.as_secs_f32() * 1e6);
            let caught = Outcome {
                segment: last,
                reach: last,
                caught_up: rows as u32 - 1,
                ..Outcome::default()
            };
            uj += self.energy(&caught, elapsed)?;
        }
        Ok(Cost { us: middle(times_us), uj: uj / times as f32 })
    }

    fn energy(&mut self, outcome: &Outcome, elapsed: Duration) -> Result<f32> {
        let energy = self.metering.token(outcome, 0, elapsed);
        let energy = energy.map_err(|un| anyhow::anyhow!("the power meter fails: {}", un.fault))?;
        Ok(energy.0 as f32)
    }
}

/// Asks each exit, and leaves at this one.
struct At(usize);

impl Decide for At {
    fn leaves(&self, probed: Probed) -> bool {
        probed.exit == self.0
    }
}

/// Whether any operator reads more the longer the context is; at least up to a window.
fn reads_context(program: &Program<'_>) -> bool {
    let states = program.ops.iter().flat_map(|op| op.operands().states).flatten();
    states.into_iter().any(|id| matches!(program.tensor(id).rows, Rows::Cache { .. }))
}

/// Skipped layers are skipped: a token costs what it runs through.
fn use_skipping(decoder: &mut Decoder<'_>, exits: usize) -> Result<()> {
    let settings = ExitSettings { state: StateMode::Skip, ..ExitSettings::default() };
    decoder.use_exits((exits > 0).then_some(settings))?;
    Ok(())
}

fn report(
    output: &Path,
    source: &'static str,
    (measured, ladder): (&Measured, &Ladder),
    profile: &Profile,
) -> Report {
    let model = &profile.model;
    let full = measured.ways.last().map_or_else(Rounds::default, Clone::clone);
    let more_rows = measured.more_rows.iter().map(|rounds| rounds.between(|cost| cost.us));
    let more_rows: Vec<[f32; 2]> = more_rows.collect();
    let shares = measured.shares(ladder);
    let shown = |((segment, spread), share): ((&SegmentCost, &Spread), &f32)| Shown {
        us: segment.first_row[0].us,
        us_95: spread.us,
        uj: segment.first_row[0].uj,
        uj_95: spread.uj,
        more_rows_us: segment.more_rows.map(|cost| cost.us),
        more_rows_uj: segment.more_rows.map(|cost| cost.uj),
        more_rows_us_95: more_rows.iter().map(|between| between.map(|us| us * share)).collect(),
        us_by_context: segment.first_row.iter().map(|cost| cost.us).collect(),
        probe_us: segment.probe.us,
        probe_uj: segment.probe.uj,
    };
    Report {
        output: output.display().to_string(),
        source,
        power_mode: profile.power_mode,
        full_us: full.median().us,
        full_us_95: full.between(|cost| cost.us),
        segments: model.segments().iter().zip(&profile.spreads).zip(&shares).map(shown).collect(),
        head_us: model.head().us,
        head_uj: model.head().uj,
        contexts: (0..=measured.longer.len()).map(bucket_context).collect(),
    }
}

fn show(report: &Report) -> Result<()> {
    let between = |[low, high]: [f32; 2]| format!("{low:.1}–{high:.1}");
    let mode = report.power_mode.map_or_else(String::new, |mode| format!(" · power mode {mode}"));
    println!(
        "{}: a token takes {:.1} us ({}) at full depth · energy by {}{mode}",
        report.output,
        report.full_us,
        between(report.full_us_95),
        report.source
    );
    println!(
        "  medians, with what they are between in 95 of 100 profiles; contexts up to {:?}; {MORE_ROWS:?} further rows of a pass",
        report.contexts
    );
    for (index, segment) in report.segments.iter().enumerate() {
        println!(
            "  segment {index}: {:>9.1} us ({:>13}) {:>11.1} uJ ({:>15}), further rows {:.1?} us, exit {:.1} us",
            segment.us,
            between(segment.us_95),
            segment.uj,
            between(segment.uj_95),
            segment.more_rows_us,
            segment.probe_us
        );
    }
    println!("  head     : {:>9.1} us {:>27.1} uJ", report.head_us, report.head_uj);
    Ok(())
}
