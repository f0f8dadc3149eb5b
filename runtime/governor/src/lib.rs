//! Keeps an energy budget and a deadline for each token, and gives up as little agreement with full depth as it must.
//!
//! ```text
//!             ┌──────────── Decision: threshold, deepest segment, deadline ────────────┐
//!             │                                                                        ▼
//!   Governor ─┤  cost model · window · calibration · evidence                      decode loop
//!             ▲                                                                        │
//!             └──── Sample: where it left, how long it took, joules, rows revealed ────┘
//!                                                    ▲
//!                  meter ── sampler ── joules ───────┘
//! ```
//!
//! The governor is a function of its state and a sample: it reads no clock, opens no file, allocates nothing and cannot fail.
//! `docs/governor.md` says what it does and how well.
#![no_std]

#[cfg(any(feature = "std", test))]
extern crate std;

mod agreement;
mod calibration;
mod config;
mod correction;
mod cost;
mod decision;
mod draft;
mod error;
mod event;
mod governor;
mod integrator;
pub mod meter;
mod mode;
#[cfg(feature = "std")]
pub mod sim;
mod units;
mod waiting;
mod window;

pub use agreement::Evidence;
pub use calibration::{Calibration, Level, MAX_LEVELS, NEVER};
pub use config::{Exits, Goal, GovernorConfig, MAX_WINDOW, OnMeterFault};
pub use correction::{Correction, Factors, PARTS};
pub use cost::{
    CONTEXT_BUCKETS, Cost, CostModel, MAX_SEGMENTS, Rates, SegmentCost, Traffic, bucket_context,
    context_bucket,
};
pub use decision::{Decision, Revealed, Sample};
pub use draft::{Drafting, RoundCost};
pub use error::GovernorError;
pub use event::Events;
pub use governor::{Governor, MeterState, Metering, Outlook, Verdict};
pub use integrator::{Integrator, MeterFault, Plausible, Reading};
pub use mode::{Cause, Mode, TRANSITIONS};
pub use units::{Microjoules, Microseconds, Milliwatts};
pub use window::EnergyWindow;
