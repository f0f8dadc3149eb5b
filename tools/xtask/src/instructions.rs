//! `cargo xtask instructions [--record]`: how many instructions a token takes, counted by valgrind's callgrind.
//!
//! A count is the same on a busy machine, where a time is not: a decode step that got longer shows. Valgrind knows AVX2 and not
//! AVX-512, so that this is the AVX2 path, with one thread. Two runs differ in their number of tokens only; what both do
//! besides, starting up and reading the prompt, cancels out.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::tidy::root;

/// The demos that are run.
const DEMOS: [&str; 2] = ["mamba2", "transformer"];
/// Tokens of the shorter and the longer run.
const TOKENS: [u64; 2] = [8, 40];
/// A count that differs by more than this share is another program. Hashing and the clock make some ten thousandths.
const TOLERANCE: f64 = 0.02;

/// Counts, and compares with what was recorded; `--record` records.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let is_recording = match arguments {
        [] => false,
        [only] if only == "--record" => true,
        _ => bail!("usage: cargo xtask instructions [--record]"),
    };
    let built = Command::new("cargo")
        .args(["build", "--release", "--quiet", "--package", "dynamax"])
        .current_dir(root())
        .status();
    ensure!(built.context("cargo cannot be run")?.success(), "dynamax does not build");
    let recorded = std::fs::read_to_string(record()).unwrap_or_default();
    let (mut lines, mut other) = (String::new(), Vec::new());
    for demo in DEMOS {
        let [short, long] = TOKENS.map(|tokens| count(demo, tokens));
        let found = (long? - short?) / (TOKENS[1] - TOKENS[0]);
        writeln!(lines, "{demo} {found}")?;
        let before: Option<f64> =
            recorded.lines().find_map(|line| line.strip_prefix(demo)?.trim().parse().ok());
        let Some(before) = before else {
            println!("{demo}: {found} instructions a token");
            other.push(format!("{demo} has no record"));
            continue;
        };
        let change = found as f64 / before - 1.0;
        println!("{demo}: {found} instructions a token, {:+.2} % of {before}", 100.0 * change);
        if change.abs() > TOLERANCE {
            other.push(format!("{demo} takes {found} instructions a token, not {before}"));
        }
    }
    if is_recording {
        std::fs::write(record(), lines).context("the record cannot be written")?;
        return Ok(());
    }
    ensure!(
        other.is_empty(),
        "{}; if that is meant, cargo xtask instructions --record",
        other.join(", ")
    );
    Ok(())
}

/// Where the counts are.
fn record() -> PathBuf {
    root().join("tools/xtask/instructions.txt")
}

/// Instructions of a whole run.
fn count(demo: &str, tokens: u64) -> Result<u64> {
    let tokens = tokens.to_string();
    let run = ["run", "--demo", demo, "--threads", "1", "--isa", "avx2", "--tokens-in", "5,6,7,8"];
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(root().join("target/release/dynamax"))
        .args(run)
        .args(["-n", &tokens, "--ignore-eos", "--json"])
        .output()
        .context("valgrind cannot be run: install the package of that name")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "dynamax failed under valgrind: {said}");
    let collected =
        said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    collected.with_context(|| format!("valgrind names no count: {said}"))
}
