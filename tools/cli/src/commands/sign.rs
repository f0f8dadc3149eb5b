//! `dynamax sign`: vouches for a bundle.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Args;
use dynamax_bundle::Signature;
use dynamax_session::{Source, keys};
use serde::Serialize;

use super::print_json;

/// Sign a bundle, so that devices that trust the key run it.
#[derive(Args, Debug)]
#[command(after_help = "\
A device refuses a counter below the largest it has run. Without --counter it is the time in seconds, so that what is
signed later is newer. What was signed before is signed anew.

Example:
  dynamax keygen -o release
  dynamax sign m.dmx --key release
  dynamax verify m.dmx --key release.pub")]
pub(crate) struct Arguments {
    /// The bundle.
    bundle: PathBuf,
    /// The secret key.
    #[arg(long)]
    key: PathBuf,
    /// The version that the bundle gets.
    #[arg(long)]
    counter: Option<u64>,
    /// Where to write the signed bundle; by default in place of the other.
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    output: String,
    key: String,
    counter: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let key = keys::read_secret(&arguments.key)?;
    // Before anything is written.
    Source::open(&arguments.bundle)?.verified()?;
    let output = arguments.output.as_ref().unwrap_or(&arguments.bundle);
    let counter = arguments.counter.unwrap_or_else(now);
    // Others may have the bundle mapped: they keep the old file, and the new one takes its name when it is whole.
    let part = part_of(output);
    let signed = copy(&arguments.bundle, &part)
        .and_then(|()| keys::sign_in_place(&part, &key, counter))
        .and_then(|signature| {
            std::fs::rename(&part, output)
                .with_context(|| format!("{}: cannot be written", output.display()))?;
            Ok(signature)
        });
    if signed.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    let Signature { key, counter, .. } = signed?;
    let report = Report { output: output.display().to_string(), key: key.to_string(), counter };
    if arguments.json {
        return print_json(&report);
    }
    println!("{}: version {counter}, signed with key {key}", report.output);
    Ok(())
}

/// The counter of what is signed now.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A name beside `path`, for a file that is not whole yet.
fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("{}: cannot be copied to {}", from.display(), to.display()))
}
