//! One run: a policy, a board, a text.

use std::vec::Vec;

use super::board::{Sensor, SimBoard};
use super::text::{SEGMENTS, Token};
use crate::cost::{Cost, context_bucket};
use crate::decision::{Decision, Revealed, Sample};
use crate::governor::Governor;
use crate::waiting::Waiting;

/// What decides how far tokens go.
pub trait Policy {
    /// Whether a token leaves behind a segment; asked in order, for each segment but the last.
    fn leaves_behind(&mut self, segment: usize, score: f32, elapsed_us: u32) -> bool;
    /// A token begins.
    fn begin(&mut self, context: u32);
    /// A token has ended.
    fn end(&mut self, sample: Sample);
    /// What is turned, to see whether it oscillates.
    fn position(&self) -> f32;
}

/// The governor.
#[derive(Debug)]
pub struct Steered {
    governor: Governor,
    decision: Option<Decision>,
}

impl Steered {
    /// A run with this governor.
    #[must_use]
    pub fn new(governor: Governor) -> Self {
        Self { governor, decision: None }
    }
}

impl Policy for Steered {
    fn leaves_behind(&mut self, segment: usize, score: f32, elapsed_us: u32) -> bool {
        self.decision.is_some_and(|decision| decision.leaves_behind(segment, score, elapsed_us))
    }

    fn begin(&mut self, context: u32) {
        self.decision = Some(self.governor.decide(context));
    }

    fn end(&mut self, sample: Sample) {
        self.governor.observe(sample);
    }

    fn position(&self) -> f32 {
        self.governor.position()
    }
}

/// A threshold that stays, a deadline that is kept by knowing the board, and a ring of rows that wait: when it is full, a token goes
/// to the end.
#[derive(Clone, Copy, Debug)]
pub struct Fixed {
    /// The threshold.
    pub threshold: f32,
    /// Microseconds by which the next segment and the head must be done.
    pub deadline_us: f32,
    /// Time of a segment and the head.
    pub next_us: f32,
    /// Rows that wait, and most that may; 0: none wait.
    pub waiting: (u16, u16),
}

impl Fixed {
    /// A threshold on a board that it knows.
    #[must_use]
    pub fn new(board: &SimBoard, threshold: f32, deadline_us: f32) -> Self {
        let model = board.model();
        let segment = model.segments()[1].first_row[context_bucket(1000)];
        let next_us = (segment.us + model.head().us) * 1.05;
        Self { threshold, deadline_us, next_us, waiting: (0, board.rows_that_may_wait) }
    }
}

impl Policy for Fixed {
    fn leaves_behind(&mut self, _segment: usize, score: f32, elapsed_us: u32) -> bool {
        let (rows, most) = self.waiting;
        let is_full = most > 0 && rows >= most;
        (score >= self.threshold && !is_full) || elapsed_us as f32 + self.next_us > self.deadline_us
    }

    fn begin(&mut self, _context: u32) {}

    fn end(&mut self, sample: Sample) {
        let is_end = usize::from(sample.exit_segment) == SEGMENTS - 1;
        self.waiting.0 = if is_end { 0 } else { self.waiting.0.saturating_add(1) };
    }

    fn position(&self) -> f32 {
        self.threshold
    }
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// True energy of a token, in microjoules.
    pub energy_uj: f32,
    /// The largest mean over a window.
    pub window_uj: f32,
    /// Tokens later than the deadline.
    pub late: u32,
    /// The slowest token of a thousand, in microseconds.
    pub slowest_us: f32,
    /// Share of tokens that are those of full depth.
    pub agreement: f32,
    /// Mean depth, of 1.
    pub depth: f32,
    /// Mean change of the position from token to token, after the first windows.
    pub turning: f32,
}

/// Runs `tokens` on a board.
pub fn run(
    policy: &mut impl Policy,
    board: &SimBoard,
    tokens: &[Token],
    (window, deadline_us): (usize, f32),
    seed: u64,
) -> Outcome {
    let mut machine = Machine::new(board, seed);
    let mut outcome = Outcome::default();
    let (mut energies, mut times) =
        (Vec::with_capacity(tokens.len()), Vec::with_capacity(tokens.len()));
    let mut position = 0.0;
    for (place, token) in tokens.iter().enumerate() {
        policy.begin(place as u32);
        if place > 2 * window {
            outcome.turning += (policy.position() - position).abs();
        }
        position = policy.position();
        let (sample, cost) = machine.decode(policy, place, token);
        policy.end(sample);
        energies.push(cost.uj);
        times.push(cost.us);
        outcome.late += u32::from(cost.us > deadline_us);
        outcome.agreement += f32::from(u8::from(token.agrees[usize::from(sample.exit_segment)]));
        outcome.depth += (f32::from(sample.exit_segment) + 1.0) / SEGMENTS as f32;
    }
    let count = tokens.len() as f32;
    let largest =
        energies.windows(window).map(|last| last.iter().map(|uj| f64::from(*uj)).sum::<f64>());
    outcome.window_uj = (largest.fold(0.0, f64::max) / window as f64) as f32;
    outcome.energy_uj =
        (energies.iter().map(|uj| f64::from(*uj)).sum::<f64>() / f64::from(count)) as f32;
    times.sort_by(f32::total_cmp);
    outcome.slowest_us = times[times.len() - 1 - times.len() / 1000];
    outcome.agreement /= count;
    outcome.depth /= count;
    outcome.turning /= (count - 2.0 * window as f32).max(1.0);
    outcome
}

/// A board that decodes.
struct Machine<'b> {
    board: &'b SimBoard,
    model: crate::cost::CostModel,
    sensor: Sensor,
    waiting: Waiting,
    /// Rows that wait, and those of them that agree.
    rows: (u16, u16),
    seed: u64,
}

impl<'b> Machine<'b> {
    fn new(board: &'b SimBoard, seed: u64) -> Self {
        let (model, sensor) = (board.model(), Sensor::new(board));
        Self { board, model, sensor, waiting: Waiting::default(), rows: (0, 0), seed }
    }

    fn decode(&mut self, policy: &mut impl Policy, place: usize, token: &Token) -> (Sample, Cost) {
        let before = self.sensor.energy();
        let mut total = Cost::default();
        let end = SEGMENTS - 1;
        let mut exit = end;
        for segment in 0..=end {
            let cost = self.model.segments()[segment];
            let rows = f32::from(self.waiting.before(segment));
            let cost =
                cost.first_row[context_bucket(place as u32)].plus(cost.probe).plus(cost.more(rows));
            total = total.plus(self.pass(cost, place, segment as u64));
            if segment < end
                && policy.leaves_behind(segment, token.scores[segment], total.us as u32)
            {
                exit = segment;
                break;
            }
        }
        total = total.plus(self.pass(self.model.head(), place, 99));
        let (catch_up_rows, revealed) = self.move_rows(exit, token);
        let sample = Sample {
            catch_up_rows,
            energy: Some(self.sensor.energy().less(before)),
            revealed,
            ..Sample::new(exit as u8, total.us as u32)
        };
        (sample, total)
    }

    fn pass(&mut self, cost: Cost, place: usize, part: u64) -> Cost {
        let real =
            self.board.real(cost, self.board.slowness(place), (self.seed, place as u64, part));
        self.sensor.pass(real, self.seed);
        real
    }

    fn move_rows(&mut self, exit: usize, token: &Token) -> (u16, Option<Revealed>) {
        if self.board.rows_that_may_wait == 0 {
            return (0, None);
        }
        let along = self.waiting.before(exit);
        self.waiting.take_along(exit);
        if exit < SEGMENTS - 1 {
            self.waiting.add(exit);
            self.rows = (self.rows.0 + 1, self.rows.1 + u16::from(token.agrees[exit]));
            return (along, None);
        }
        self.waiting.arrive(exit);
        let (of, agreed) = core::mem::take(&mut self.rows);
        (along, (of > 0).then_some(Revealed { agreed, of }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BOARDS, TEXTS};
    use super::*;

    #[test]
    fn a_fixed_threshold_goes_to_the_end_when_the_ring_is_full() {
        let board = BOARDS.iter().find(|board| board.rows_that_may_wait == 16).expect("a ring");
        let tokens = TEXTS[0].tokens(170, 1);
        let mut fixed = Fixed::new(board, 0.0, f32::INFINITY);
        let outcome = run(&mut fixed, board, &tokens, (64, f32::INFINITY), 1);
        // Sixteen leave behind the first of six segments, the next goes through all.
        let depth = (16.0 / SEGMENTS as f32 + 1.0) / 17.0;
        assert!((outcome.depth - depth).abs() < 1e-4, "{outcome:?}, not {depth}");
    }
}
