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
//!
//! ```
//! use dynamax_governor::{
//!     CONTEXT_BUCKETS, Calibration, Cost, CostModel, Governor, GovernorConfig, Metering, Microjoules, Sample, SegmentCost,
//! };
//!
//! let first = Cost { us: 10_000.0, uj: 100_000.0 };
//! let segment = SegmentCost { first_row: [first; CONTEXT_BUCKETS], ..SegmentCost::default() };
//! let model = CostModel::new(&[segment; 4], Cost { us: 4000.0, uj: 40_000.0 })?;
//! let config = GovernorConfig { energy_per_token: Some(Microjoules(900_000)), ..GovernorConfig::default() };
//! let mut governor = Governor::new(config, model, Calibration::none(4), Metering::Measured)?;
//!
//! // For each token:
//! let context = 17;
//! let decision = governor.decide(context);
//! let (mut exit, mut elapsed_us) = (3, 0);
//! for segment in 0..4 {
//!     elapsed_us += 10_000; // The segment runs here; its exit scores 0.4.
//!     if segment < 3 && decision.leaves_behind(segment, 0.4, elapsed_us) {
//!         exit = segment as u8;
//!         break;
//!     }
//! }
//! let energy = Some(Microjoules(440_000)); // What the meter says between the token's start and its end.
//! governor.observe(Sample { energy, ..Sample::new(exit, elapsed_us + 4000) });
//! assert_eq!(exit, 3, "900 mJ are enough for full depth");
//! # Ok::<(), dynamax_governor::GovernorError>(())
//! ```
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
mod shortfall;
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
    CONTEXT_BUCKETS, Cost, CostModel, MAX_SEGMENTS, MORE_ROWS, Rates, SegmentCost, Traffic,
    bucket_context, context_bucket,
};
pub use decision::{Decision, Revealed, Sample};
pub use draft::lookup::LONGEST_MATCH;
pub use draft::{Drafting, Origin, RoundCost, RoundSeen};
pub use error::GovernorError;
pub use event::Events;
pub use governor::{Governor, MeterState, Metering, Outlook, Verdict};
pub use integrator::{Integrator, MeterFault, Plausible, Reading};
pub use mode::{Cause, Mode, TRANSITIONS};
pub use units::{Microjoules, Microseconds, Milliwatts};
pub use window::EnergyWindow;
