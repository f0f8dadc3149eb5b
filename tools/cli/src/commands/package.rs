//! `dynamax package`: for update engines that devices have already.
//!
//! A binary of the service becomes a Debian package, a bundle an update for RAUC.

mod debian;
mod rauc;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use dynamax_bundle::MAGIC;
use serde::Serialize;

use super::print_json;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Make a Debian package of the device service, or a RAUC update of a bundle.
#[derive(Args, Debug)]
#[command(after_help = "\
The package has dynamaxd, its systemd unit, a configuration that upgrades leave alone, and a user of its own; the service
starts once a bundle is flashed. It needs dpkg-deb on this machine. What glibc it needs is read from the binary.

A bundle becomes an update for devices that RAUC looks after: its handler puts the bundle into the slot of dynamaxd's that does
not run. It needs rauc on this machine, and a certificate that the devices trust.

Examples:
  cargo xtask cross --board jetson-orin-nano-8gb
  dynamax package target/aarch64-unknown-linux-gnu/board/dynamaxd --board jetson-orin-nano-8gb
  dynamax package m.dmx --board jetson-orin-nano-8gb --certificate fleet.pem --key fleet.key")]
pub(crate) struct Arguments {
    /// The service's binary, built for the device, or a bundle.
    #[arg(value_name = "BINARY | BUNDLE")]
    input: PathBuf,
    /// The board that the configuration names.
    #[arg(long, default_value = "generic")]
    board: String,
    /// Who makes the package, as `Name <address>`; by default DEBFULLNAME and DEBEMAIL.
    #[arg(long)]
    maintainer: Option<String>,
    /// The certificate that RAUC signs with.
    #[arg(long)]
    certificate: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    key: Option<PathBuf>,
    /// What RAUC's devices call themselves; by default the board.
    #[arg(long)]
    compatible: Option<String>,
    /// The package or update; by default its usual name, here.
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What has been made.
struct Made {
    output: PathBuf,
    what: String,
    architecture: Option<&'static str>,
    version: String,
}

#[derive(Serialize)]
struct Report {
    output: String,
    architecture: Option<&'static str>,
    version: String,
    bytes: u64,
}

/// Whether a file is a bundle; it may be too large to be read for that.
fn is_bundle(path: &Path) -> io::Result<bool> {
    let mut start = Vec::new();
    File::open(path)?.take(MAGIC.len() as u64).read_to_end(&mut start)?;
    Ok(start == MAGIC)
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let shown = arguments.input.display();
    let is_bundle = is_bundle(&arguments.input)
        .with_context(|| format!("{shown}: cannot be read; build it with `cargo xtask cross`"))?;
    crate::board::named(&arguments.board)?;
    let made = if is_bundle { rauc::make(arguments)? } else { debian::make(arguments)? };
    let bytes =
        fs::metadata(&made.output).with_context(|| made.output.display().to_string())?.len();
    let Made { output, what, architecture, version } = made;
    let report = Report { output: output.display().to_string(), architecture, version, bytes };
    if arguments.json {
        return print_json(&report);
    }
    println!("{}: {what}, {}", report.output, dynamax_config::show_bytes(bytes));
    Ok(())
}
