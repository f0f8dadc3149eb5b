//! The static memory planner: buffers with lifetimes in, offsets out.
//!
//! Two buffers may share bytes if they are never live in the same step. The planner decides which, before the first
//! token; nothing is allocated after.
//!
//! ```text
//! address ▲        ┌───────────────┐
//!         │        │       B       │       A and C are never live together, so they share bytes; both meet B.
//!         │ ┌──────┴───┐ ┌─────────┤
//!         │ │    A     │ │    C    │
//!         └─┴──────────┴─┴─────────┴──▶ operator step
//! ```
//!
//! - [`place_greedy`] plans on the board, without memory of its own;
//! - `search` (feature `alloc`) looks for the smallest arena, or for one of a given size, where a bundle is built;
//! - [`verify()`] checks a plan, wherever it comes from, and shares nothing with the planners;
//! - `text_picture` and `svg_picture` (feature `alloc`) show it.
//!
//! Lifetimes and sizes are untrusted: nothing here overflows, whatever they are.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

mod buffer;
mod error;
mod greedy;
#[cfg(feature = "alloc")]
mod picture;
#[cfg(feature = "alloc")]
mod search;
mod verify;

pub use buffer::{Buffer, lower_bound};
pub use error::PlanError;
pub use greedy::place_greedy;
#[cfg(feature = "alloc")]
pub use picture::{svg_picture, text_picture};
#[cfg(feature = "alloc")]
pub use search::{Effort, Solution, search};
pub use verify::verify;
