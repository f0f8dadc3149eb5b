//! Boards: what a segment really costs, and what a sensor says of it.

use std::vec::Vec;

use super::random::{normal, unit};
use super::text::SEGMENTS;
use crate::cost::{CONTEXT_BUCKETS, Cost, CostModel, Rates, SegmentCost, Traffic};
use crate::integrator::{Integrator, Plausible};
use crate::units::{Microjoules, Microseconds, Milliwatts};

/// A board with a model on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimBoard {
    /// Its name.
    pub name: &'static str,
    /// Bytes of the model's weights.
    pub weights: f32,
    /// Gigabytes per second that decoding reaches.
    pub bandwidth_gb_s: f32,
    /// Power of the board that does nothing.
    pub idle: Milliwatts,
    /// Picojoules for a byte.
    pub pj_per_byte: f32,
    /// How much time varies.
    pub noise: f32,
    /// Time between samples, and how late the sensor is.
    pub sensor_us: (u32, u32),
    /// Steps of the sensor's answers.
    pub step: Milliwatts,
    /// Factor on time between the 500th and the 800th token.
    pub throttle: f32,
    /// Factor on time from the 1000th token on, as if the power mode were changed.
    pub mode_change: f32,
    /// Rows that may wait.
    pub rows_that_may_wait: u16,
}

/// Six boards.
pub const BOARDS: [SimBoard; 6] = [
    board("nano", 3.9e9, 50.0, (4500, 150.0, 40)),
    SimBoard { rows_that_may_wait: 16, ..board("nano super", 3.9e9, 75.0, (4500, 150.0, 40)) },
    SimBoard { throttle: 1.25, ..board("nx", 3.9e9, 75.0, (5000, 150.0, 40)) },
    SimBoard { sensor_us: (20_000, 60_000), ..board("agx", 7.5e9, 150.0, (9000, 150.0, 100)) },
    SimBoard {
        mode_change: 1.4,
        noise: 0.03,
        ..board("xavier nx", 1.6e9, 40.0, (4000, 200.0, 40))
    },
    SimBoard {
        noise: 0.04,
        rows_that_may_wait: 16,
        ..board("pi 5", 0.8e9, 11.0, (2700, 400.0, 20))
    },
];

const fn board(
    name: &'static str,
    weights: f32,
    bandwidth_gb_s: f32,
    power: (u32, f32, u32),
) -> SimBoard {
    SimBoard {
        name,
        weights,
        bandwidth_gb_s,
        idle: Milliwatts(power.0),
        pj_per_byte: power.1,
        noise: 0.02,
        sensor_us: (10_000, 15_000),
        step: Milliwatts(power.2),
        throttle: 1.0,
        mode_change: 1.0,
        rows_that_may_wait: 0,
    }
}

impl SimBoard {
    /// What a token really costs, without noise.
    ///
    /// # Panics
    ///
    /// Panics if the board has no bandwidth.
    #[must_use]
    pub fn model(&self) -> CostModel {
        let share = |part: f32| Traffic {
            bytes: (self.weights * part) as u64,
            macs: (self.weights * part * 1.8) as u64,
            bytes_per_context: 4096,
            probe_bytes: 20_000,
        };
        let rates = Rates {
            bandwidth_gb_s: self.bandwidth_gb_s,
            // A further row takes a fifth of the time of the first.
            gmac_s: self.bandwidth_gb_s * 1.8 * 5.0,
            idle: self.idle,
            pj_per_byte: self.pj_per_byte,
            pj_per_mac: self.pj_per_byte / 40.0,
        };
        let segments = [share(0.94 / SEGMENTS as f32); SEGMENTS];
        let head = Traffic { bytes_per_context: 0, ..share(0.06) };
        CostModel::from_traffic(&segments, head, &rates).expect("a board with bandwidth")
    }

    /// What the governor believes: every segment is off by up to a tenth, and all together by as much.
    ///
    /// # Panics
    ///
    /// Panics if the board has no bandwidth.
    #[must_use]
    pub fn believed(&self, seed: u64) -> CostModel {
        let truth = self.model();
        let all = 0.9 + 0.2 * unit(seed, 0, 1);
        let wrong = |cost: Cost, part: u64| Cost {
            us: cost.us * all * (0.9 + 0.2 * unit(seed, part, 2)),
            uj: cost.uj * all * (0.9 + 0.2 * unit(seed, part, 3)),
        };
        let segments: Vec<SegmentCost> = truth
            .segments()
            .iter()
            .zip(1_u64..)
            .map(|(cost, part)| {
                let mut first_row = [Cost::default(); CONTEXT_BUCKETS];
                for (to, from) in first_row.iter_mut().zip(cost.first_row) {
                    *to = wrong(from, part);
                }
                SegmentCost {
                    first_row,
                    more_rows: cost.more_rows.map(|cost| wrong(cost, part)),
                    probe: wrong(cost.probe, part),
                }
            })
            .collect();
        CostModel::new(&segments, wrong(truth.head(), 99)).expect("costs that are a little off")
    }

    /// Factor on the time of everything around a token.
    #[must_use]
    pub fn slowness(&self, token: usize) -> f32 {
        let throttle = if (500..800).contains(&token) { self.throttle } else { 1.0 };
        throttle * if token >= 1000 { self.mode_change } else { 1.0 }
    }

    /// A segment's time with its noise, and its energy: idle power flows as long as it takes.
    pub(crate) fn real(&self, cost: Cost, slowness: f32, luck: (u64, u64, u64)) -> Cost {
        let (seed, place, part) = luck;
        let stall = if unit(seed, place, 500) < 0.0003 { 1.15 } else { 1.0 };
        let us = cost.us
            * slowness
            * stall
            * (1.0 + self.noise * normal(seed, place, 600 + part)).max(0.5);
        Cost { us, uj: cost.uj + self.idle.0 as f32 * (us - cost.us) / 1e3 }
    }
}

/// A sensor that samples at its own times, late and in steps.
#[derive(Debug)]
pub(crate) struct Sensor {
    board: SimBoard,
    integrator: Integrator,
    now_us: f64,
    next_us: f64,
    seen_mw: f32,
}

impl Sensor {
    pub(crate) fn new(board: &SimBoard) -> Self {
        let interval = Microseconds(u64::from(board.sensor_us.0));
        let mut integrator = Integrator::new(Plausible::every(interval));
        integrator.add(Microseconds(0), Ok(board.idle));
        let next_us = f64::from(board.sensor_us.0);
        Self { board: *board, integrator, now_us: 0.0, next_us, seen_mw: board.idle.0 as f32 }
    }

    /// Time passes at a power.
    pub(crate) fn pass(&mut self, cost: Cost, seed: u64) {
        let until = self.now_us + f64::from(cost.us);
        let power = cost.uj * 1e3 / cost.us.max(1e-3);
        let (interval, lag) = self.board.sensor_us;
        while self.next_us <= until {
            // The board's own filter: a first-order lag.
            let share = interval as f32 / (interval + lag) as f32;
            self.seen_mw += share * (power - self.seen_mw);
            let jitter = 1.0 + 0.005 * normal(seed, self.next_us as u64, 700);
            let step = self.board.step.0;
            let shown = (self.seen_mw * jitter / step as f32).round() as u32 * step;
            self.integrator.add(Microseconds(self.next_us as u64), Ok(Milliwatts(shown)));
            self.next_us += f64::from(interval);
        }
        self.now_us = until;
    }

    /// Energy since the start, as far as the sensor knows.
    pub(crate) fn energy(&self) -> Microjoules {
        self.integrator.read(Microseconds(self.now_us as u64)).energy
    }
}
