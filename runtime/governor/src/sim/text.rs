//! Texts: how hard their tokens are, what exits score, and whether exits are right.

use std::vec::Vec;

use super::random::{normal, unit};
use crate::calibration::{Calibration, Level};
use crate::cost::MAX_SEGMENTS;

/// Segments of the simulated model.
pub(crate) const SEGMENTS: usize = 6;

/// Thresholds that are calibrated.
const THRESHOLDS: [f32; 20] = [
    0.995, 0.99, 0.98, 0.97, 0.95, 0.93, 0.9, 0.87, 0.83, 0.79, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5,
    0.45, 0.4, 0.3, 0.2,
];

/// A kind of text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Text {
    /// Its name.
    pub name: &'static str,
    /// Mean difficulty; at 0, half of the tokens are decided at half depth.
    pub difficulty: f32,
    /// How much difficulty varies.
    pub spread: f32,
    /// How alike neighbours are, of 1.
    pub memory: f32,
    /// Difficulty that comes and goes every so many tokens.
    pub burst: f32,
    /// Difficulty that is added in the second half, after calibration.
    pub drift: f32,
}

/// Five kinds.
pub const TEXTS: [Text; 5] = [
    Text { name: "chat", difficulty: -0.6, spread: 1.0, memory: 0.2, burst: 0.0, drift: 0.0 },
    Text { name: "code", difficulty: -1.0, spread: 1.4, memory: 0.6, burst: 0.0, drift: 0.0 },
    Text { name: "facts", difficulty: 0.2, spread: 1.0, memory: 0.3, burst: 0.0, drift: 0.0 },
    Text { name: "bursts", difficulty: -0.5, spread: 0.8, memory: 0.3, burst: 0.9, drift: 0.0 },
    Text { name: "drift", difficulty: -0.6, spread: 1.0, memory: 0.3, burst: 0.0, drift: 0.5 },
];

/// What exits would say of a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Token {
    /// Each exit's score.
    pub scores: [f32; SEGMENTS],
    /// Whether each exit's answer is that of full depth; the last is.
    pub agrees: [bool; SEGMENTS],
}

impl Text {
    /// Tokens of this text.
    #[must_use]
    pub fn tokens(&self, count: usize, seed: u64) -> Vec<Token> {
        let mut state = 0.0;
        let fresh = (1.0 - self.memory * self.memory).sqrt();
        (0..count as u64)
            .map(|place| {
                state = self.memory * state + fresh * normal(seed, place, 100);
                let is_burst = unit(seed, place / 80, 200) < 0.5;
                let burst = if is_burst { self.burst } else { -self.burst };
                let drift = if place as usize * 2 >= count { self.drift } else { 0.0 };
                token(self.difficulty + self.spread * state + burst + drift, seed, place)
            })
            .collect()
    }
}

fn token(difficulty: f32, seed: u64, place: u64) -> Token {
    let luck = unit(seed, place, 300);
    let mut token = Token { scores: [1.0; SEGMENTS], agrees: [true; SEGMENTS] };
    for exit in 0..SEGMENTS - 1 {
        let depth = (exit + 1) as f32 / SEGMENTS as f32;
        let margin = 4.0 * depth - 1.0 - difficulty;
        token.agrees[exit] = luck < sigmoid(2.2 * margin);
        token.scores[exit] =
            sigmoid(2.0 * (margin + 0.35 * normal(seed, place, 400 + exit as u64)));
    }
    token
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Calibrates on a text, as it is before any drift.
///
/// # Panics
///
/// Panics if the simulated exits are no calibration, which would be a defect of the simulator.
#[must_use]
pub fn calibrate(text: &Text, count: usize, seed: u64) -> Calibration {
    let tokens = Text { drift: 0.0, ..*text }.tokens(count, seed);
    let mut levels: Vec<Level> = Vec::new();
    let mut agreement = 1.0_f32;
    for threshold in THRESHOLDS {
        let mut level = Level { threshold, agreement: 0.0, exits: [0.0; MAX_SEGMENTS] };
        for token in &tokens {
            let exit =
                token.scores.iter().position(|score| *score >= threshold).unwrap_or(SEGMENTS - 1);
            level.exits[exit] += 1.0 / count as f32;
            level.agreement += f32::from(u8::from(token.agrees[exit])) / count as f32;
        }
        agreement = agreement.min(level.agreement);
        level.agreement = agreement;
        levels.push(level);
    }
    let share = |exit: usize| {
        tokens.iter().filter(|token| token.agrees[exit]).count() as f32 / count as f32
    };
    let forced: Vec<f32> = (0..SEGMENTS).map(share).collect();
    Calibration::new(&levels, &forced).expect("simulated exits are a calibration")
}
