//! `dynamax keygen`: a pair of keys for signing bundles.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use dynamax_bundle::SecretKey;
use dynamax_session::keys;
use serde::Serialize;

use super::print_json;

/// Make a pair of keys for signing.
#[derive(Args, Debug)]
#[command(after_help = "\
Writes two PEM files: the secret key, which only you can read, and the public key beside it, which goes to the devices.

Example:
  dynamax keygen -o release            release and release.pub")]
pub(crate) struct Arguments {
    /// Where to write the secret key; the public key goes beside it, with .pub behind its name.
    #[arg(short, long, default_value = "dynamax-key")]
    output: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    key: String,
    secret: String,
    public: String,
    trust: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(anyhow::Error::msg)
        .context("the system gives no random numbers")?;
    let key = SecretKey::from_bytes(&bytes);
    let public = keys::write_pair(&arguments.output, &key)?;
    let report = Report {
        key: key.public().id().to_string(),
        secret: arguments.output.display().to_string(),
        public: public.display().to_string(),
        trust: keys::inline(&key.public()),
    };
    if arguments.json {
        return print_json(&report);
    }
    println!("{}: key {}; keep it secret", report.secret, report.key);
    println!("{}: for the devices, or as text in device.toml: {}", report.public, report.trust);
    Ok(())
}
