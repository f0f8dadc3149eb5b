//! One file for each verb.

pub(crate) mod bench;
pub(crate) mod build;
pub(crate) mod calibrate;
pub(crate) mod chat;
pub(crate) mod check;
pub(crate) mod eval;
mod exit_places;
mod exit_table;
pub(crate) mod exits;
pub(crate) mod flash;
pub(crate) mod inspect;
pub(crate) mod keygen;
pub(crate) mod package;
pub(crate) mod plan;
pub(crate) mod profile;
pub(crate) mod run;
pub(crate) mod sign;
pub(crate) mod train;
pub(crate) mod verify;

use anyhow::Result;
use serde::Serialize;

/// Prints one JSON object on stdout.
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}
