//! `dynamax verify`: compares every byte of a bundle with its hashes, and its signature with keys.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use dynamax_bundle::{Bundle, PublicKey, Signature, check_trust};
use dynamax_config::show_bytes as show;
use dynamax_session::{Source, keys};
use serde::Serialize;

use super::print_json;
use crate::failure::Failure;

/// Compare a bundle's contents with its hashes, and its signature with keys.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  dynamax verify m.dmx && echo whole
  dynamax verify m.dmx --key release.pub && echo whole, and signed with this key
  dynamax verify m.dmx --key /etc/dynamax/keys --least 7")]
pub(crate) struct Arguments {
    /// The bundle.
    bundle: PathBuf,
    /// A public key to trust, or a directory of them; may be repeated. Without one, signatures are not checked.
    #[arg(long)]
    key: Vec<PathBuf>,
    /// The oldest version to trust.
    #[arg(long, default_value_t = 0, requires = "key")]
    least: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    whole: bool,
    signed: bool,
    trusted: Option<bool>,
    key: Option<String>,
    counter: Option<u64>,
    error: Option<String>,
    bytes: usize,
    seconds: f64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut trusted = Vec::new();
    for path in &arguments.key {
        trusted.extend(keys::read_public(path)?);
    }
    let source = Source::open(&arguments.bundle)?;
    let start = Instant::now();
    let whole = compare(&source);
    let trust = |bundle: &Bundle<'_>| {
        let checked = check_trust(bundle, &trusted, arguments.least);
        checked.with_context(|| source.path().display().to_string())
    };
    let asked = !trusted.is_empty();
    let trust = whole.as_ref().ok().filter(|_| asked).map(trust);
    let signature = whole.as_ref().ok().and_then(Bundle::signature).copied();
    let mut report = Report {
        whole: whole.is_ok(),
        signed: signature.is_some(),
        trusted: asked.then_some(matches!(trust, Some(Ok(_)))),
        key: signature.map(|signature| signature.key.to_string()),
        counter: signature.map(|signature| signature.counter),
        error: None,
        bytes: source.bytes().len(),
        seconds: start.elapsed().as_secs_f64(),
    };
    let refused = whole.err().or_else(|| trust.and_then(Result::err));
    report.error = refused.map(|error| format!("{error:#}"));
    if arguments.json {
        print_json(&report)?;
    }
    if let Some(error) = report.error {
        return Err(Failure(error).into());
    }
    if !arguments.json {
        let path = arguments.bundle.display();
        let vouched = vouched(signature, &trusted);
        let (size, ms) = (show(report.bytes as u64), report.seconds * 1e3);
        println!("{path}: whole, {vouched} · {size} in {ms:.0} ms");
    }
    Ok(())
}

/// Compares every section with its hash, and checks the Program.
fn compare(source: &Source) -> Result<Bundle<'_>> {
    let bundle = source.bundle()?;
    source.compare(&bundle)?;
    bundle.program_buf().with_context(|| source.path().display().to_string())?;
    Ok(bundle)
}

fn vouched(signature: Option<Signature>, trusted: &[PublicKey]) -> String {
    let Some(Signature { key, counter, .. }) = signature else { return "not signed".into() };
    let checked = if trusted.is_empty() { ", which was not checked" } else { "" };
    format!("version {counter}, signed with key {key}{checked}")
}
