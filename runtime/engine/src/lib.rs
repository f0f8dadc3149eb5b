//! The CPU executor: runs a Program over one planned block of memory, on any number of threads, with the same bits.
//!
//! ```text
//! Bundle ─▶ Model (where every tensor is) ─▶ Decoder (the memory, the position) ─▶ logits ─▶ Sampler ─▶ token
//! ```
//!
//! - [`memory`] lays out state, activations and scratch before the first token; nothing is allocated after that.
//! - [`model`] resolves every tensor of a checked Program to its place, once.
//! - [`decoder`] feeds tokens through it; `schedule` and `executor` are the step itself, which cannot fail.
//! - [`device`] is the other way to run a step: by something with memory of its own.
//! - [`exits`] says how tokens may leave early, and what became of one.
//! - [`sample`] turns logits into a token.
//! - [`team`] runs a step on several threads (feature `std`).
//!
//! What it refuses to do: open files, know tokenizers, or print.
#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(feature = "alloc")]
extern crate alloc;

mod arena;
pub mod crew;
pub mod decoder;
pub mod device;
pub mod error;
mod executor;
pub mod exits;
pub mod memory;
pub mod model;
pub mod sample;
mod schedule;
pub mod team;

pub use arena::Line;
pub use decoder::Decoder;
pub use device::{Device, Job};
pub use error::{ExitError, LoadError, StepError};
pub use exits::{Decide, ExitSettings, Outcome, Probed, Said, Thresholds};
pub use memory::{Settings, Sizes};
#[cfg(feature = "alloc")]
pub use model::Loaded;
pub use model::Model;
pub use sample::{Sampler, Sampling};
pub use team::Team;
