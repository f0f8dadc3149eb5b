//! The grid: every board with every text under every budget, over many seeds, against the best that hindsight could do.

use std::fmt::Write;
use std::ops::Range;
use std::string::String;
use std::vec::Vec;

use super::board::{BOARDS, SimBoard};
use super::run::{Fixed, Outcome, Steered, run};
use super::text::{TEXTS, Text, calibrate};
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
    /// Tokens of the window.
    pub window: usize,
}

/// Four budgets.
pub const ASKS: [Ask; 4] = [
    Ask { name: "ample", energy: 1.3, deadline: 3.0, floor: 0.95, window: 64 },
    Ask { name: "mild", energy: 0.85, deadline: 2.5, floor: 0.95, window: 64 },
    Ask { name: "tight", energy: 0.7, deadline: 2.5, floor: 0.9, window: 256 },
    Ask { name: "timed", energy: 0.8, deadline: 0.9, floor: 0.8, window: 64 },
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
    /// That of the best fixed threshold that keeps the budget in every window, as the governor must.
    pub steady: f32,
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
pub fn cell(board: &SimBoard, text: &Text, ask: &Ask, seeds: Range<u64>) -> Cell {
    let calibration = calibrate(text, CALIBRATED_ON, 4711);
    let full = board.model().full(context_bucket(TOKENS as u32 / 2));
    let (budget, deadline) = (full.uj * ask.energy, full.us * ask.deadline);
    let mut cell = Cell::default();
    let share = 1.0 / (seeds.end - seeds.start) as f32;
    for seed in seeds {
        let tokens = text.tokens(TOKENS, seed);
        let config = GovernorConfig {
            energy_per_token: Some(Microjoules(budget as u64)),
            latency_per_token: Some(Microseconds(deadline as u64)),
            window: ask.window,
            min_agreement: ask.floor,
            rows_that_may_wait: board.rows_that_may_wait,
            ..GovernorConfig::default()
        };
        let governor = Governor::new(config, board.believed(seed), calibration, Metering::Measured);
        let mut policy = Steered::new(governor.expect("an ask that makes sense"));
        let outcome = run(&mut policy, board, &tokens, (config.window, deadline), seed);
        let at = |position: f32| {
            let mut fixed = Fixed::new(board, calibration.threshold(position), deadline);
            run(&mut fixed, board, &tokens, (config.window, deadline), seed)
        };
        let (best, is_payable) = hindsight(&calibration, at, |outcome| outcome.energy_uj <= budget);
        let (steady, _) = hindsight(&calibration, at, |outcome| outcome.window_uj <= budget * 1.01);
        cell.energy = cell.energy.max(outcome.energy_uj / budget);
        cell.window = cell.window.max(outcome.window_uj / budget);
        cell.in_time += (1.0 - outcome.late as f32 / TOKENS as f32) * share;
        cell.agreement += outcome.agreement * share;
        cell.best += best.agreement * share;
        cell.steady += steady.agreement * share;
        cell.depth += outcome.depth * share;
        cell.turning += outcome.turning * share;
        cell.payable += u32::from(is_payable);
        // A deadline below full depth leaves rows waiting for ever.
        let catches_up = board.rows_that_may_wait == 0 || ask.deadline > 1.0;
        let is_in_time = catches_up && (best.late as usize) * 1000 <= TOKENS || ask.deadline > 2.0;
        let is_feasible = is_payable && is_in_time && best.agreement >= ask.floor;
        cell.feasible += u32::from(is_feasible);
    }
    cell
}

/// The strictest fixed position that keeps to a budget, and whether there is one.
fn hindsight(
    calibration: &Calibration,
    at: impl Fn(f32) -> Outcome,
    is_kept: impl Fn(&Outcome) -> bool,
) -> (Outcome, bool) {
    let (mut strict, mut lenient) = (0.0, calibration.last());
    let full = at(strict);
    if is_kept(&full) {
        return (full, true);
    }
    let mut best = at(lenient);
    let is_payable = is_kept(&best);
    for _ in 0..7 {
        let middle = (strict + lenient) / 2.0;
        let outcome = at(middle);
        if is_kept(&outcome) {
            (lenient, best) = (middle, outcome);
        } else {
            strict = middle;
        }
    }
    (best, is_payable)
}

/// A cell and what it is of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// The board.
    pub board: &'static SimBoard,
    /// The text.
    pub text: &'static Text,
    /// The ask.
    pub ask: &'static Ask,
    /// What it came to.
    pub cell: Cell,
}

/// The whole grid, each board in a thread of its own.
///
/// # Panics
///
/// Panics if a thread does.
#[must_use]
pub fn grid(seeds: &Range<u64>) -> Vec<Place> {
    let of_board = |board: &'static SimBoard| {
        let asks = move |text: &'static Text| {
            ASKS.iter().map(move |ask| Place {
                board,
                text,
                ask,
                cell: cell(board, text, ask, seeds.clone()),
            })
        };
        TEXTS.iter().flat_map(asks).collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            BOARDS.iter().map(|board| scope.spawn(move || of_board(board))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a board's thread")).collect()
    })
}

/// The grid as text, one line a cell.
#[must_use]
pub fn table(places: &[Place]) -> String {
    let mut text = String::from(
        "board      text    ask     energy  window  in_time agreed  best    steady  depth   turning feasible payable\n",
    );
    for Place { board, text: kind, ask, cell } in places {
        let _ =
            write!(text, "{:<10} {:<7} {:<7} ", board.name.replace(' ', "-"), kind.name, ask.name);
        let numbers = [
            cell.energy,
            cell.window,
            cell.in_time,
            cell.agreement,
            cell.best,
            cell.steady,
            cell.depth,
            cell.turning,
        ];
        for number in numbers {
            let _ = write!(text, "{number:<7.4} ");
        }
        let _ = writeln!(text, "{:<8} {}", cell.feasible, cell.payable);
    }
    text
}
