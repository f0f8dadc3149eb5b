//! A simulated board and text, which drive the real governor.
//!
//! The board has bandwidth, power, noise, stalls, throttling, a change of power mode, and a sensor that is late and coarse; what
//! the governor believes of it is wrong by some percent in every segment. The text has tokens of varying difficulty, exits whose
//! scores tell imperfectly whether they are right, and may be harder than what was calibrated on. Everything follows from
//! a seed, and every token's luck is its own: two policies that differ see the same tokens.

mod board;
mod grid;
mod random;
mod run;
mod text;

pub use board::{BOARDS, SimBoard};
pub use grid::{ASKS, Ask, Cell, Place, cell, grid, table};
pub use run::{Fixed, Outcome, Policy, Steered, run};
pub use text::{TEXTS, Text, Token, calibrate};
