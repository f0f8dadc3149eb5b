//! What holds for every governor, whatever it is asked and whatever it sees.
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

mod drafts;
mod drift;
mod goals;
mod outlook;
mod properties;
mod setup;
