//! Keeps the energy and latency budget of each token.
#![no_std]

#[cfg(any(feature = "std", test))]
extern crate std;

mod units;

pub use units::{Microjoules, Microseconds, Milliwatts};
