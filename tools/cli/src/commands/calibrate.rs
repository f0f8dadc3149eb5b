//! `dynamax calibrate`: thresholds with a guarantee, written into the bundle.

mod rewrite;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use dynamax_bundle::check::MAX_EXITS;
use dynamax_bundle::{Calibration, Certificate, Point, Program, StateMode, Unit};
use dynamax_engine::ExitSettings;
use dynamax_models::calibrate::{Path as Slopes, Target, Trial, certify, data_hash};
use dynamax_session::depth::Fixed;
use dynamax_session::{Contents, Options, Session, Source, Text};
use serde::Serialize;

use super::print_json;
use crate::agreement::{self, Passages, Stepped, Surveyed, mean_depth};
use crate::progress;
use crate::session::State;

/// Certify exit thresholds on a text, and write them into the bundle.
#[derive(Args, Debug)]
#[command(after_help = "\
The text is cut into passages. With the asked confidence, tokens of such text differ from full depth at a rate of at
most --risk (learn then test, Hoeffding-Bentkus; docs/early-exit.md). `dynamax run --exit fixed` uses the thresholds.

Examples:
  dynamax calibrate m.dmx --text held-out.txt                      2 % may differ, with confidence 0.95
  dynamax calibrate m.dmx --text a.txt b.txt --risk 0.05 --state deferred,skip
  dynamax calibrate m.dmx --text held-out.txt -o calibrated.dmx    leave m.dmx as it is")]
pub(crate) struct Arguments {
    /// The bundle.
    bundle: PathBuf,
    /// Plain text that the model was not trained on.
    #[arg(long, required = true, num_args = 1..)]
    text: Vec<PathBuf>,
    /// Most disagreement with full depth, as a rate.
    #[arg(long, default_value_t = 0.02)]
    risk: f64,
    /// Probability that this holds.
    #[arg(long, default_value_t = 0.95)]
    confidence: f64,
    /// Treatments of skipped state to certify; the first one's curve is kept for budgets.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "deferred")]
    state: Vec<State>,
    /// What counts as one observation.
    #[arg(long, value_enum, default_value_t = Count::Passages)]
    count: Count,
    /// How thresholds of several exits hang together.
    #[arg(long, value_enum, default_value_t = Order::BySaving)]
    order: Order,
    /// Tokens of a passage.
    #[arg(long, default_value_t = 64)]
    passage: usize,
    /// Use this many tokens at most.
    #[arg(long)]
    tokens: Option<usize>,
    /// Where to write the calibrated bundle; by default in the place of the old one.
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Threads; by default one for each core.
    #[arg(long, short = 't')]
    threads: Option<std::num::NonZeroUsize>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What counts as one observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Count {
    /// A passage, whose loss is the share of its tokens that differ: sound where passages are exchangeable.
    Passages,
    /// A token, as if tokens of a text did not depend on each other: less text is needed, and less is proved.
    Tokens,
}

/// How thresholds of several exits hang together: one number orders them, so that they can be tested in sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Order {
    /// The same threshold for all.
    Equal,
    /// What may go wrong at an exit is in proportion to the layers that it saves: the earlier, the bolder.
    BySaving,
}

impl Order {
    fn slopes(self, program: &Program<'_>) -> Slopes {
        let exits = program.exits.len();
        if self == Self::Equal {
            return Slopes::uniform(exits);
        }
        let savings: Vec<f64> =
            agreement::depths(program)[..exits].iter().map(|depth| 1.0 - depth).collect();
        let most = savings.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        Slopes::with_slopes(savings.iter().map(|saving| saving / most).collect())
    }
}

impl Count {
    fn unit(self) -> Unit {
        match self {
            Self::Passages => Unit::Sequence,
            Self::Tokens => Unit::Token,
        }
    }
}

#[derive(Serialize)]
struct Report {
    output: String,
    risk: f64,
    confidence: f64,
    unit: &'static str,
    n: u64,
    data_hash: String,
    certificates: Vec<Shown>,
}

#[derive(Serialize)]
struct Shown {
    state: &'static str,
    thresholds: Vec<f32>,
    observed: f64,
    p_value: f64,
    depth_mean: f64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let source = Source::open(&arguments.bundle)?;
    let options = Options {
        threads: arguments.threads,
        head_rows: Some(u32::MAX),
        contents: Contents::Verified,
        ..Options::default()
    };
    let session = Session::open(&source, &options)?;
    ensure!(
        !session.model().program().exits.is_empty(),
        "{}: {}",
        arguments.bundle.display(),
        dynamax_engine::ExitError::NoExits
    );
    let tokens = read_tokens(&session, &arguments.text, arguments.tokens)?;
    let passages = Passages::cut(&tokens, arguments.passage)?;
    let target = Target { risk: arguments.risk, confidence: arguments.confidence };
    let bar = progress::steps(passages.len() as u64, "surveying");
    let surveyed = agreement::survey(&session, &passages, &bar)?;
    bar.finish_and_clear();
    let unit = arguments.count.unit();
    let slopes = arguments.order.slopes(session.model().program());
    let work =
        Work { session: &session, passages: &passages, surveyed: &surveyed, unit, target, slopes };
    let found: Vec<Found> =
        arguments.state.iter().map(|state| work.certify(state.mode())).collect::<Result<_>>()?;
    let certificates: Vec<Certificate> = found.iter().map(|found| found.certificate).collect();
    let content = Calibration::emit(&certificates, &work.curve(), work.forced())?;
    let output = arguments.output.as_deref().unwrap_or(&arguments.bundle);
    rewrite::with_calibration(&session.bundle, &content, output)?;
    let report = report(output, &work, &found);
    if arguments.json { print_json(&report) } else { show(&report, &session) }
}

/// All texts as one sequence of tokens.
fn read_tokens(session: &Session<'_>, paths: &[PathBuf], most: Option<usize>) -> Result<Vec<u32>> {
    let text = Text::of(&session.bundle)?;
    let mut tokens = Vec::new();
    for path in paths {
        let content = std::fs::read_to_string(path)
            .with_context(|| format!("{}: cannot be read as text", path.display()))?;
        tokens.extend(text.encode(&content)?);
    }
    tokens.truncate(most.unwrap_or(usize::MAX));
    Ok(tokens)
}

/// What all treatments share.
struct Work<'w> {
    session: &'w Session<'w>,
    passages: &'w Passages<'w>,
    surveyed: &'w Surveyed,
    unit: Unit,
    target: Target,
    slopes: Slopes,
}

/// A certificate, and how it was found.
struct Found {
    certificate: Certificate,
    p_value: f64,
}

impl Work<'_> {
    /// Certifies one treatment of skipped state.
    fn certify(&self, state: StateMode) -> Result<Found> {
        let slopes = &self.slopes;
        let (trials, depths) = if state == StateMode::Deferred {
            let grid = fine_grid();
            let replay = &self.surveyed.replay;
            let depth = |lambda: &f64| {
                let taken = replay.take(&slopes.thresholds(*lambda));
                mean_depth(self.session.model().program(), &taken.tokens_per_exit)
            };
            let depths = grid.iter().map(depth).collect::<Vec<_>>();
            (replay.trials(slopes, &grid, self.unit), depths)
        } else {
            self.run_all(state)?
        };
        let certified = certify(&trials, self.target, self.unit)
            .with_context(|| format!("--state {}", state.name()))?;
        let threshold = certified.trial.threshold;
        let certificate = Certificate {
            state,
            thresholds: self.thresholds(threshold),
            risk: self.target.risk as f32,
            confidence: self.target.confidence as f32,
            n: certified.trial.n,
            unit: self.unit,
            observed: certified.trial.observed() as f32,
            depth_mean: depths[certified.index] as f32,
            data: data_hash(self.passages.iter()),
        };
        Ok(Found { certificate, p_value: certified.p_value })
    }

    /// Runs every threshold of a coarse grid, until one does twice the damage that is allowed.
    fn run_all(&self, state: StateMode) -> Result<(Vec<Trial>, Vec<f64>)> {
        let grid = coarse_grid();
        let bar = progress::steps(grid.len() as u64, state.name());
        let (mut trials, mut depths) = (Vec::new(), Vec::new());
        for threshold in grid {
            let fixed = Fixed {
                settings: ExitSettings { state, ..ExitSettings::default() },
                thresholds: self.thresholds(threshold),
                decay: None,
            };
            let settled = &self.surveyed.settled;
            let stepped = agreement::step(self.session, self.passages, settled, Some(&fixed))?;
            trials.push(self.trial(threshold, &stepped));
            depths.push(mean_depth(self.session.model().program(), &stepped.tokens_per_exit));
            bar.inc(1);
            if 1.0 - stepped.agreement() > 2.0 * self.target.risk {
                break;
            }
        }
        bar.finish_and_clear();
        Ok((trials, depths))
    }

    /// The threshold of each exit at a place of the order.
    fn thresholds(&self, lambda: f64) -> [f32; MAX_EXITS] {
        let all = self.slopes.thresholds(lambda);
        std::array::from_fn(|exit| all.get(exit).map_or(2.0, |threshold| *threshold as f32))
    }

    fn trial(&self, threshold: f64, stepped: &Stepped) -> Trial {
        match self.unit {
            Unit::Token => Trial::of_tokens(threshold, stepped.tokens(), stepped.disagreements),
            Unit::Sequence => Trial::of_sequences(threshold, &stepped.shares),
        }
    }

    /// For each exit, the share of tokens that would be those of full depth if all left there.
    fn forced(&self) -> [f32; MAX_EXITS] {
        let exits = self.session.model().program().exits.len();
        std::array::from_fn(|exit| {
            if exit >= exits {
                return 0.0;
            }
            let thresholds: Vec<f64> =
                (0..exits).map(|other| if other == exit { 0.0 } else { 2.0 }).collect();
            let taken = self.surveyed.replay.take(&thresholds);
            1.0 - taken.disagreements as f32 / self.surveyed.replay.tokens().max(1) as f32
        })
    }

    /// How agreement falls with the threshold, with exact state.
    fn curve(&self) -> Vec<Point> {
        let replay = &self.surveyed.replay;
        let slopes = Slopes::uniform(self.session.model().program().exits.len());
        let tokens = replay.tokens().max(1) as f64;
        let point = |threshold: f64| {
            let taken = replay.take(&slopes.thresholds(threshold));
            let mut left = [0.0; MAX_EXITS];
            let exits = taken.tokens_per_exit.len() - 1;
            for (left, count) in left.iter_mut().zip(&taken.tokens_per_exit[..exits]) {
                *left = (*count as f64 / tokens) as f32;
            }
            let agreement = (1.0 - taken.disagreements as f64 / tokens) as f32;
            Point { threshold: threshold as f32, agreement, left }
        };
        coarse_grid().into_iter().map(point).collect()
    }
}

/// Thresholds for a replay: 400, denser near 1, where classifiers are sure.
fn fine_grid() -> Vec<f64> {
    grid(400)
}

/// Thresholds where each costs a run over the text.
fn coarse_grid() -> Vec<f64> {
    grid(32)
}

/// Descending from just below 1 to 0, in equal steps of log-odds and then of probability.
fn grid(count: usize) -> Vec<f64> {
    let half = count / 2;
    let confident = (0..half).map(|i| {
        // Odds of 999 to 1 down to 3 to 1.
        let share = i as f64 / half as f64;
        let odds = 999_f64.powf(1.0 - share) * 3_f64.powf(share);
        odds / (1.0 + odds)
    });
    let rest = count - half;
    let unsure = (0..rest).map(|i| 0.75 * (1.0 - i as f64 / (rest - 1) as f64));
    confident.chain(unsure).collect()
}

fn report(output: &Path, work: &Work<'_>, found: &[Found]) -> Report {
    let exits = work.session.model().program().exits.len();
    let shown = |found: &Found| Shown {
        state: found.certificate.state.name(),
        thresholds: found.certificate.thresholds[..exits].to_vec(),
        observed: found.certificate.observed.into(),
        p_value: found.p_value,
        depth_mean: found.certificate.depth_mean.into(),
    };
    Report {
        output: output.display().to_string(),
        risk: work.target.risk,
        confidence: work.target.confidence,
        unit: work.unit.plural(),
        n: found.first().map_or(0, |found| found.certificate.n),
        data_hash: data_hash(work.passages.iter()).to_string(),
        certificates: found.iter().map(shown).collect(),
    }
}

fn show(report: &Report, session: &Session<'_>) -> Result<()> {
    println!(
        "{}: at most {} of the tokens differ from full depth, with confidence {}, by {} {}",
        report.output, report.risk, report.confidence, report.n, report.unit
    );
    for shown in &report.certificates {
        println!(
            "  {:<10} thresholds {:.4?} · {:.4} differ here · mean depth {:.1} %",
            shown.state,
            shown.thresholds,
            shown.observed,
            100.0 * shown.depth_mean
        );
    }
    if session.bundle.signature().is_some() {
        println!("the signature was of the bundle before: sign it again (dynamax sign)");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_fall_from_cautious_to_bold() {
        for grid in [fine_grid(), coarse_grid()] {
            assert!(grid.windows(2).all(|pair| pair[1] < pair[0]), "descending, each once");
            assert!(grid[0] > 0.99 && grid[grid.len() - 1].abs() < 1e-12, "from sure to always");
        }
    }
}
