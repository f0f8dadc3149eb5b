//! `dynamax verify`: compares every byte of a bundle with its hashes.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use dynamax_config::show_bytes as show;
use dynamax_session::Source;
use serde::Serialize;

use super::print_json;
use crate::failure::Failure;

/// Compare a bundle's contents with its hashes.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  dynamax verify m.dmx && echo whole")]
pub(crate) struct Arguments {
    /// The bundle.
    bundle: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    whole: bool,
    signed: bool,
    error: Option<String>,
    bytes: usize,
    seconds: f64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let source = Source::open(&arguments.bundle)?;
    let start = Instant::now();
    let verified = source.bundle().and_then(|bundle| {
        source.compare(&bundle)?;
        bundle.program_buf().with_context(|| source.path().display().to_string())
    });
    let seconds = start.elapsed().as_secs_f64();
    let error = verified.err().map(|error| format!("{error:#}"));
    let bytes = source.bytes().len();
    if arguments.json {
        print_json(&Report {
            whole: error.is_none(),
            signed: false,
            error: error.clone(),
            bytes,
            seconds,
        })?;
    }
    if let Some(error) = error {
        return Err(Failure(error).into());
    }
    if !arguments.json {
        let path = arguments.bundle.display();
        println!("{path}: whole, not signed · {} in {:.0} ms", show(bytes as u64), seconds * 1e3);
    }
    Ok(())
}
