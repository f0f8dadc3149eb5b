//! A row of budgets, from generous to tight: depth and joules fall together, and real tokens are faster.
//!
//! The decoder and its exits are real, and so is the governor. The clock is the board's, by what a step reads and multiplies: the same on
//! any machine, however busy it is. Energy is the model's, or that of a recording of `tegrastats`, replayed by this clock.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::path::Path;
use std::time::{Duration, Instant};

use dynamax_config::{DeviceConfig, StatePolicy};
use dynamax_governor::meter::{Draw, Meter, Modelled, Trace};
use dynamax_governor::{Integrator, Microjoules, Microseconds, Plausible, Rates};
use dynamax_session::budget::Budget;
use dynamax_session::machine::Machine;
use dynamax_session::traffic::Ladder;
use dynamax_session::{Options, Session, Source, Text};

const TOKENS: usize = 2000;

/// What a budget came to.
#[derive(Debug)]
struct Point {
    depth: f64,
    uj: f64,
    /// Real time of the median step.
    step: Duration,
}

/// What tells the energy of a step: bytes, products, microseconds.
trait Joules {
    fn step(&mut self, bytes: u64, macs: u64, us: u64) -> Microjoules;
}

impl Joules for Modelled {
    fn step(&mut self, bytes: u64, macs: u64, us: u64) -> Microjoules {
        self.energy(bytes, macs, Microseconds(us))
    }
}

/// A recording, sampled every 10 ms of the board's time.
struct Replayed {
    trace: Trace,
    sum: Integrator,
    now: u64,
    next: u64,
}

impl Replayed {
    fn new() -> Self {
        let line = |mw: u32| {
            format!(
                "11-28-2026 21:04:13 RAM 4187/7620MB (lfb 4x4MB) SWAP 0/3810MB (cached 0MB) CPU [100%@1510,3%@1510,2%@1510,\
                 1%@1510,0%@729,0%@729] EMC_FREQ 0% GR3D_FREQ 0% CPU@48.2C SOC2@47.1C SOC0@46.5C GPU@46.8C tj@48.2C \
                 SOC1@46.9C VDD_IN {mw}mW/{mw}mW VDD_CPU_GPU_CV 1424mW/1424mW VDD_SOC 1264mW/1264mW\n"
            )
        };
        let text = [5028, 5068, 4988, 5108, 5028, 5148, 5068].map(line).concat();
        let trace = Trace::parse(&text, Some("VDD_IN"), Microseconds(20_000)).unwrap();
        let sum = Integrator::new(Plausible::every(Microseconds(10_000)));
        Self { trace, sum, now: 0, next: 0 }
    }
}

impl Joules for Replayed {
    fn step(&mut self, _bytes: u64, _macs: u64, us: u64) -> Microjoules {
        let before = self.sum.read(Microseconds(self.now)).energy;
        self.now += us;
        while self.next <= self.now {
            let at = Microseconds(self.next);
            let Ok(Draw::Power(power)) = self.trace.sample(at) else { panic!("it shows power") };
            self.sum.add(at, Ok(power));
            self.next += 10_000;
        }
        self.sum.read(Microseconds(self.now)).energy.less(before)
    }
}

/// Microseconds of a step on the board.
fn microseconds(rates: &Rates, bytes: u64, macs: u64) -> u64 {
    ((bytes as f32 / rates.bandwidth_gb_s).max(macs as f32 / rates.gmac_s) / 1e3) as u64
}

/// Decodes under a budget; every 16th token is of a text, so that no answer goes round in circles.
fn decode(session: &Session<'_>, budget: Microjoules, joules: &mut dyn Joules) -> Point {
    let mut config = DeviceConfig::default();
    config.device.board = "jetson-orin-nano-8gb".to_owned();
    config.budget.energy_per_token = Some(budget);
    config.exit.min_agreement = 0.5;
    // This clock counts a row that is caught up as dearly as one that was never skipped: nothing would be saved.
    config.exit.state = StatePolicy::Copy;
    let rates = config.board().unwrap().rates(1);
    let machine = Machine { threads: 1, root: Path::new("no-board"), profile: None };
    let program = session.model();
    let program = program.program();
    let mut budget = Budget::new(&session.bundle, program, &config, &machine).unwrap();
    let (ladder, mut memory) = (Ladder::of(program), session.memory());
    let mut decoder = session.decoder(&mut memory);
    decoder.use_exits(Some(budget.settings())).unwrap();
    let text = Text::of(&session.bundle).unwrap();
    let words =
        text.encode("Once upon a time the rain fell on the hills, and a boy went home.").unwrap();
    decoder.take(&words[..2]).unwrap();
    let (mut depth, mut uj, mut steps) = (0.0, 0, Vec::with_capacity(TOKENS));
    for made in 0..TOKENS {
        let token = match made % 16 {
            0 => words[made / 16 % words.len()],
            _ => decoder.best(),
        };
        let running = budget.decide(decoder.position());
        let start = Instant::now();
        let outcome = decoder.step_by(token, &running).unwrap();
        steps.push(start.elapsed());
        let bytes = ladder.step_bytes(&outcome, made as u64);
        let macs = ladder.step_macs(&outcome);
        let us = microseconds(&rates, bytes, macs);
        let energy = joules.step(bytes, macs, us);
        budget.observe(&outcome, Duration::from_micros(us), Some(energy));
        depth += f64::from(outcome.segment + 1) / ladder.segments.len() as f64 / TOKENS as f64;
        uj += energy.0;
    }
    steps.sort_unstable();
    Point { depth, uj: uj as f64 / TOKENS as f64, step: steps[TOKENS / 2] }
}

/// The row, of what full depth costs.
const SHARES: [f64; 6] = [1.3, 0.95, 0.9, 0.85, 0.8, 0.75];

fn row(joules: impl Fn() -> Box<dyn Joules>) -> Vec<Point> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/cli/demo");
    let source = Source::open(&folder.join("mamba2.dmx")).unwrap();
    let options = Options {
        context: Some(TOKENS as u32 + 8),
        rows: Some(16),
        head_rows: Some(16),
        threads: std::num::NonZeroUsize::new(1),
        ..Options::default()
    };
    let session = Session::open(&source, &options).unwrap();
    let full = decode(&session, Microjoules(1_000_000_000), &mut *joules()).uj;
    let budget = |share: &f64| Microjoules((share * full) as u64);
    let run = || SHARES.map(|share| decode(&session, budget(&share), &mut *joules()));
    let mut points = Vec::from(run());
    // The wall's clock also shows what else the machine does: of three runs, the least.
    for again in [run(), run()] {
        for (point, again) in points.iter_mut().zip(again) {
            point.step = point.step.min(again.step);
        }
    }
    for (point, share) in points.iter().zip(SHARES) {
        assert!(point.uj <= 1.01 * share * full, "{share} of {full} uJ is kept: {point:?}");
    }
    points
}

fn assert_falls(points: &[Point]) {
    assert!(points[0].depth > 0.999, "generous: {points:?}");
    for pair in points.windows(2) {
        let falls = pair[1].depth < pair[0].depth && pair[1].uj < pair[0].uj;
        assert!(falls, "depth and joules fall with the budget: {points:#?}");
    }
    let (first, last) = (&points[0], &points[points.len() - 1]);
    assert!(last.step < first.step, "and the median token is faster: {points:#?}");
}

#[test]
fn by_the_model_depth_and_joules_fall_with_the_budget() {
    let rates = DeviceConfig::default().board().unwrap().rates(1);
    assert_falls(&row(|| Box::new(Modelled::new(rates))));
}

#[test]
fn by_a_replayed_recording_depth_and_joules_fall_with_the_budget() {
    assert_falls(&row(|| Box::new(Replayed::new())));
}
