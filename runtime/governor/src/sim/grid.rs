//! The grid: every board with every text under every budget, over many seeds, against the best that hindsight could do.

use std::fmt::Write;
use std::string::String;

use super::board::{BOARDS, SimBoard};
use super::run::{Fixed, Outcome, Steered, run};
use super::text::{TEXTS, Text, Token, calibrate};
use crate::calibration::Calibration;
use crate::config::GovernorConfig;
use crate::cost::context_bucket;
use crate::governor::{Governor, Metering};
use crate::units::{Microjoules, Microseconds};

/// Tokens of a run.
const TOKENS: usize = 1500;

/// Tokens that a text is calibrated on.
const CALIBRATED_ON: usize = 20_000;

/// What is asked, as shares of what full depth costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ask {
    /// Its name.
    pub name: &'static str,
    /// Energy budget.
    pub energy: f32,
    /// Deadline.
    pub deadline: f32,
    /// Least agreement.
    pub floor: f32,
}

/// Four budgets.
pub const ASKS: [Ask; 4] = [
    Ask { name: "ample", energy: 1.3, deadline: 3.0, floor: 0.95 },
    Ask { name: "mild", energy: 0.85, deadline: 2.5, floor: 0.95 },
    Ask { name: "tight", energy: 0.7, deadline: 2.5, floor: 0.9 },
    Ask { name: "timed", energy: 0.8, deadline: 0.9, floor: 0.8 },
];

/// What a cell of the grid came to: means over its seeds, but for the worst.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cell {
    /// Mean energy over the budget; the worst seed's.
    pub energy: f32,
    /// Largest mean over a window over the budget; the worst seed's.
    pub window: f32,
    /// Share of tokens in time.
    pub in_time: f32,
    /// Agreement with full depth.
    pub agreement: f32,
    /// That of the best fixed threshold that hindsight finds for each run.
    pub best: f32,
    /// Mean depth.
    pub depth: f32,
    /// Mean change of the position from token to token.
    pub turning: f32,
    /// Seeds in which some fixed threshold keeps budget, deadline and floor.
    pub feasible: u32,
    /// Seeds in which some threshold keeps the energy budget.
    pub payable: u32,
}

/// One cell.
///
/// # Panics
///
/// Panics if the governor refuses the ask, which would be a defect of the simulator.
#[must_use]
pub fn cell(board: &SimBoard, text: &Text, ask: &Ask, seeds: u64) -> Cell {
    let calibration = calibrate(text, CALIBRATED_ON, 4711);
    let full = board.model().full(context_bucket(TOKENS as u32 / 2));
    let (budget, deadline) = (full.uj * ask.energy, full.us * ask.deadline);
    let mut cell = Cell::default();
    for seed in 1..=seeds {
        let tokens = text.tokens(TOKENS, seed);
        let config = GovernorConfig {
            energy_per_token: Some(Microjoules(budget as u64)),
            latency_per_token: Some(Microseconds(deadline as u64)),
            min_agreement: ask.floor,
            rows_that_may_wait: board.rows_that_may_wait,
            ..GovernorConfig::default()
        };
        let governor = Governor::new(config, board.believed(seed), calibration, Metering::Measured);
        let mut policy = Steered::new(governor.expect("an ask that makes sense"));
        let outcome = run(&mut policy, board, &tokens, (config.window, deadline), seed);
        let (best, is_payable) = hindsight(board, &tokens, &calibration, (budget, deadline), seed);
        let share = 1.0 / seeds as f32;
        cell.energy = cell.energy.max(outcome.energy_uj / budget);
        cell.window = cell.window.max(outcome.window_uj / budget);
        cell.in_time += (1.0 - outcome.late as f32 / TOKENS as f32) * share;
        cell.agreement += outcome.agreement * share;
        cell.best += best.agreement * share;
        cell.depth += outcome.depth * share;
        cell.turning += outcome.turning * share;
        cell.payable += u32::from(is_payable);
        let is_feasible = is_payable && best.late == 0 && best.agreement >= ask.floor;
        cell.feasible += u32::from(is_feasible);
    }
    cell
}

/// The strictest fixed position whose mean energy keeps the budget, and whether there is one.
fn hindsight(
    board: &SimBoard,
    tokens: &[Token],
    calibration: &Calibration,
    (budget, deadline): (f32, f32),
    seed: u64,
) -> (Outcome, bool) {
    let model = board.model();
    let segment = model.segments()[1].first_row[context_bucket(tokens.len() as u32)];
    let next_us = (segment.us + model.head().us) * 1.05;
    let at = |position: f32| {
        let threshold = calibration.threshold(position);
        run(
            &mut Fixed { threshold, deadline_us: deadline, next_us },
            board,
            tokens,
            (64, deadline),
            seed,
        )
    };
    let (mut strict, mut lenient) = (0.0, calibration.last());
    let full = at(strict);
    if full.energy_uj <= budget {
        return (full, true);
    }
    let mut best = at(lenient);
    let is_payable = best.energy_uj <= budget;
    for _ in 0..8 {
        let middle = (strict + lenient) / 2.0;
        let outcome = at(middle);
        if outcome.energy_uj <= budget {
            (lenient, best) = (middle, outcome);
        } else {
            strict = middle;
        }
    }
    (best, is_payable)
}

/// The whole grid as text, one line a cell.
#[must_use]
pub fn table(seeds: u64) -> String {
    let mut text = String::from(
        "board      text    ask     energy  window in_time  agreed  best    depth  turning feasible payable\n",
    );
    for board in &BOARDS {
        for kind in &TEXTS {
            for ask in &ASKS {
                let cell = cell(board, kind, ask, seeds);
                let _ = writeln!(
                    text,
                    "{:<10} {:<7} {:<7} {:<7.3} {:<6.3} {:<8.4} {:<7.4} {:<7.4} {:<6.3} {:<7.3} {:<8} {}",
                    board.name,
                    kind.name,
                    ask.name,
                    cell.energy,
                    cell.window,
                    cell.in_time,
                    cell.agreement,
                    cell.best,
                    cell.depth,
                    cell.turning,
                    cell.feasible,
                    cell.payable,
                );
            }
        }
    }
    text
}
