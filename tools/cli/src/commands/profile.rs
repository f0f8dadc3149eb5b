//! `dynamax profile`: what a token costs on this machine, segment by segment.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use dynamax_bundle::{Program, Rows, StateMode};
use dynamax_config::{Profile, Spread};
use dynamax_engine::{Decoder, ExitSettings, Outcome};
use dynamax_governor::meter::{Source, power_mode};
use dynamax_governor::{CONTEXT_BUCKETS, Cost, CostModel, SegmentCost, Traffic, bucket_context};
use dynamax_session::traffic::Ladder;
use dynamax_session::{Metering, Session, profiles};
use serde::Serialize;

use super::print_json;
use crate::progress;
use crate::session::DecodeArguments;
use crate::source::{self, Demo};

/// Measure what a token costs on this machine, for budgets.
#[derive(Args, Debug)]
#[command(after_help = "\
Tokens are made to leave at each exit in turn, then to run to the end, then to wait and be caught up, nine times. The differences
are the segments' costs; what cannot be told apart so (the first segment and the head) is shared out by bytes. Where context is
read, tokens are timed at longer contexts, too, as far as --context reaches.

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
    more_row_us: f32,
    more_row_us_95: [f32; 2],
    more_row_uj: f32,
    /// Of each range of contexts.
    us_by_context: Vec<f32>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.n >= 8, "-n {}: give at least 8 tokens", arguments.n);
    let source = source::source(arguments.bundle.as_ref(), arguments.demo)?;
    let session = arguments.decode.open(&source)?;
    let metering = arguments.decode.metering(&session)?;
    let label = metering.source().label();
    let mut bench = Bench::new(&session, metering, arguments.n);
    let measured = bench.measure()?;
    let (model, spreads) = measured.model(&Ladder::of(session.model().program()))?;
    let profile = Profile {
        board: arguments.decode.device()?.device.board,
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
    let report = report(&output, label, &measured, &profile);
    if arguments.json { print_json(&report) } else { show(&report) }
}

/// What was measured, round by round.
struct Measured {
    /// To each exit, then to the end.
    ways: Vec<Rounds>,
    /// Each further row that is caught up with another.
    more_row: Rounds,
    /// How much longer each way takes at the contexts of a range, from the second range on.
    longer: Vec<Vec<f32>>,
}

/// Times that every way is measured, one way behind the other, so that a machine that slows down slows all of them.
const ROUNDS: usize = 9;

/// Of so many sorted rounds, the second and the last but one: the median is between them in 96 of 100 profiles, because it is not if
/// eight or more of nine coins show the same side.
const BETWEEN: [usize; 2] = [1, ROUNDS - 2];

/// The least time for one way in a round: meters sample a few hundred times a second.
const ROUND: Duration = Duration::from_millis(25);

/// What a round measures at most, however fast.
const MOST_TOKENS: u32 = 1000;

/// Tokens of one way in a round at a longer context: few, so that the context stays in its range.
const TOKENS_AT_CONTEXT: usize = 2;

/// A cost, once for each round.
#[derive(Clone, Debug, Default)]
struct Rounds(Vec<Cost>);

impl Rounds {
    /// Round by round, what these cost more.
    fn minus(&self, other: &Self) -> Self {
        let pairs = self.0.iter().zip(&other.0);
        Self(pairs.map(|(a, b)| Cost { us: a.us - b.us, uj: a.uj - b.uj }).collect())
    }

    /// The medians: other work on the machine is not the token's.
    fn median(&self) -> Cost {
        let at = |of: fn(&Cost) -> f32| rank(self.sorted(of), ROUNDS / 2);
        Cost { us: at(|cost| cost.us), uj: at(|cost| cost.uj) }
    }

    /// What the median is between.
    fn between(&self, of: fn(&Cost) -> f32) -> [f32; 2] {
        BETWEEN.map(|index| rank(self.sorted(of), index))
    }

    fn spread(&self) -> Spread {
        Spread { us: self.between(|cost| cost.us), uj: self.between(|cost| cost.uj) }
    }

    fn sorted(&self, of: fn(&Cost) -> f32) -> Vec<f32> {
        let mut values: Vec<f32> = self.0.iter().map(of).collect();
        values.sort_unstable_by(f32::total_cmp);
        values
    }
}

fn rank(sorted: Vec<f32>, index: usize) -> f32 {
    sorted.get(index).copied().unwrap_or(0.0)
}

/// The median of some values; 0 of none.
fn middle(mut values: Vec<f32>) -> f32 {
    values.sort_unstable_by(f32::total_cmp);
    let index = values.len() / 2;
    rank(values, index)
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
        let bar = progress::steps(ROUNDS as u64 * 2, "profile");
        let (mut ways, mut more_row) = (vec![Rounds::default(); exits + 1], Rounds::default());
        for _ in 0..ROUNDS {
            for (way, rounds) in ways.iter_mut().enumerate() {
                rounds.0.push(self.way(&mut decoder, way, exits)?);
            }
            if exits > 0 {
                let one = self.catch_up(&mut decoder, 1)?;
                let many = self.catch_up(&mut decoder, ROWS)?;
                let more = |one: f32, many: f32| (many - one) / (ROWS - 1) as f32;
                let (us, uj) = (more(one.us, many.us), more(one.uj, many.uj));
                more_row.0.push(Cost { us, uj });
            }
            bar.inc(1);
        }
        let longer = self.at_longer_contexts(&mut decoder, exits)?;
        bar.finish_and_clear();
        Ok(Measured { ways, more_row, longer })
    }

    /// One round of tokens that all leave at exit `way`, or run to the end.
    fn way(&mut self, decoder: &mut Decoder<'_>, way: usize, exits: usize) -> Result<Cost> {
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
            let outcome = decoder.step(token, |probed| probed.exit == way)?;
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
                    decoder.step(round as u32, |probed| probed.exit == way)?;
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
            self.metering.start();
            let start = Instant::now();
            decoder.catch_up();
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
        let energy = self.metering.token(outcome, true, 0, elapsed);
        let energy = energy.map_err(|un| anyhow::anyhow!("the power meter fails: {}", un.fault))?;
        Ok(energy.0 as f32)
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

impl Measured {
    /// Costs of the parts: differences between the ways; the first segment, its probe and the head share the first way by
    /// bytes. Ranges of context that were not measured cost more by the bytes that they read.
    fn model(&self, ladder: &Ladder) -> Result<(CostModel, Vec<Spread>)> {
        let bytes = |part: &Traffic| part.bytes as f32;
        let (first, probe) = (&ladder.segments[0], ladder.segments[0].probe_bytes as f32);
        let whole = bytes(first) + probe + bytes(&ladder.head);
        let shortest = self.ways[0].median();
        let head = shortest.times(bytes(&ladder.head) / whole);
        let of_byte = Cost { us: shortest.us / whole, uj: shortest.uj / whole };
        let skipped: f32 = ladder.segments.iter().skip(1).map(bytes).sum();
        let more_row = self.more_row.median();
        let more_row = Cost { us: more_row.us.max(0.0), uj: more_row.uj.max(0.0) };
        let (mut segments, mut spreads) = (Vec::new(), Vec::new());
        for (index, part) in ladder.segments.iter().enumerate() {
            let (base, spread) = match index.checked_sub(1) {
                None => {
                    let share = bytes(first) / whole;
                    let spread = self.ways[0].spread();
                    let of_it = |both: [f32; 2]| both.map(|value| value * share);
                    let spread = Spread { us: of_it(spread.us), uj: of_it(spread.uj) };
                    (shortest.times(share), spread)
                }
                Some(before) => {
                    let more = self.ways[index].minus(&self.ways[before]);
                    (at_least(more.median(), self.ways[index].median()), more.spread())
                }
            };
            let first_row = self.by_context((index, base), part, of_byte);
            let share = if skipped > 0.0 { bytes(part) / skipped } else { 0.0 };
            let probe = of_byte.times(part.probe_bytes as f32);
            segments.push(SegmentCost { first_row, more_row: more_row.times(share), probe });
            spreads.push(spread);
        }
        let model = CostModel::new(&segments, head);
        Ok((model.context("what was measured makes no costs: measure again")?, spreads))
    }

    /// What a segment costs in each range of context: as much longer as its way was found to take, and where none was, by bytes.
    fn by_context(
        &self,
        (segment, base): (usize, Cost),
        part: &Traffic,
        of_byte: Cost,
    ) -> [Cost; CONTEXT_BUCKETS] {
        let context = |bucket: usize| bucket_context(bucket) as f32;
        let mut costs = [base; CONTEXT_BUCKETS];
        for bucket in 1..CONTEXT_BUCKETS {
            costs[bucket] = match self.longer.get(bucket - 1) {
                Some(longer) => {
                    let way = |way: usize| self.ways[way].median().times(longer[way] - 1.0);
                    let before = segment.checked_sub(1).map_or(Cost::default(), way);
                    let more = way(segment);
                    let grown =
                        Cost { us: more.us - before.us, uj: more.uj - before.uj }.plus(base);
                    // More context never costs less: that is noise.
                    let least = costs[bucket - 1];
                    Cost { us: grown.us.max(least.us), uj: grown.uj.max(least.uj) }
                }
                None => {
                    let read = context(bucket) - context(bucket - 1);
                    costs[bucket - 1].plus(of_byte.times(read * part.bytes_per_context as f32))
                }
            };
        }
        costs
    }
}

/// What a longer way costs more; noise must not make it nothing.
fn at_least(more: Cost, whole: Cost) -> Cost {
    Cost { us: more.us.max(whole.us * 1e-3), uj: more.uj.max(whole.uj * 1e-3) }
}

fn report(output: &Path, source: &'static str, measured: &Measured, profile: &Profile) -> Report {
    let model = &profile.model;
    let full = measured.ways.last().map_or_else(Rounds::default, Clone::clone);
    let more_row = measured.more_row.between(|cost| cost.us);
    // A row that waits has been through the first.
    let whole: f32 = model.segments().iter().skip(1).map(|segment| segment.more_row.us).sum();
    let shown = |(segment, spread): (&SegmentCost, &Spread)| Shown {
        us: segment.first_row[0].us,
        us_95: spread.us,
        uj: segment.first_row[0].uj,
        uj_95: spread.uj,
        more_row_us: segment.more_row.us,
        more_row_us_95: more_row.map(|us| us * segment.more_row.us / whole.max(f32::MIN_POSITIVE)),
        more_row_uj: segment.more_row.uj,
        us_by_context: segment.first_row.iter().map(|cost| cost.us).collect(),
    };
    Report {
        output: output.display().to_string(),
        source,
        power_mode: profile.power_mode,
        full_us: full.median().us,
        full_us_95: full.between(|cost| cost.us),
        segments: model.segments().iter().zip(&profile.spreads).map(shown).collect(),
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
        "  medians, with what they are between in 95 of 100 profiles; contexts up to {:?}",
        report.contexts
    );
    for (index, segment) in report.segments.iter().enumerate() {
        println!(
            "  segment {index}: {:>9.1} us ({:>13}) {:>11.1} uJ ({:>15}), each further row {:.1} us ({})",
            segment.us,
            between(segment.us_95),
            segment.uj,
            between(segment.uj_95),
            segment.more_row_us,
            between(segment.more_row_us_95)
        );
    }
    println!("  head     : {:>9.1} us {:>27.1} uJ", report.head_us, report.head_uj);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(us: [f32; ROUNDS]) -> Rounds {
        Rounds(us.map(|us| Cost { us, uj: 10.0 * us }).to_vec())
    }

    #[test]
    fn a_median_lies_between_the_second_and_the_last_but_one() {
        let rounds = rounds([9.0, 1.0, 2.0, 8.0, 3.0, 7.0, 4.0, 6.0, 500.0]);
        assert!((rounds.median().us - 6.0).abs() < 1e-6, "{:?}", rounds.median());
        let spread = rounds.spread();
        assert_eq!((spread.us, spread.uj), ([2.0, 9.0], [20.0, 90.0]), "a stall is no cost");
    }

    #[test]
    fn a_slow_round_slows_every_way_and_no_segment() {
        let short = rounds([10.0, 10.0, 10.0, 30.0, 30.0, 30.0, 30.0, 30.0, 30.0]);
        let long = rounds([14.0, 14.0, 14.0, 34.0, 34.0, 34.0, 34.0, 34.0, 34.0]);
        let more = long.minus(&short).spread();
        assert!(more.us.iter().all(|us| (us - 4.0).abs() < 1e-3), "paired by round: {more:?}");
    }

    #[test]
    fn longer_contexts_cost_what_was_measured_and_then_by_bytes() {
        let ways = vec![rounds([100.0; ROUNDS]), rounds([150.0; ROUNDS])];
        let longer = vec![vec![1.1, 1.2]];
        let measured = Measured { ways, more_row: Rounds::default(), longer };
        let part = Traffic { bytes: 1000, bytes_per_context: 2, ..Traffic::default() };
        let of_byte = Cost { us: 0.01, uj: 0.1 };
        let costs = measured.by_context((1, Cost { us: 50.0, uj: 500.0 }), &part, of_byte);
        // 150·1.2 − 100·1.1; from 511 to 1023 tokens of two bytes, at a hundredth each.
        assert!((costs[1].us - 70.0).abs() < 1e-3, "{costs:?}");
        assert!((costs[2].us - 80.24).abs() < 1e-3, "{costs:?}");
    }
}
