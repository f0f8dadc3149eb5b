//! The runtime without an operating system, in QEMU: it must say what the desk says.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::steps::NDARRAY;
use crate::tidy::root;

/// What `targets/bare` asks, asked of the command line.
const AT_THE_DESK: &[&str] = &[
    "run",
    "--quiet",
    "--release",
    "-p",
    "dynamax",
    // As the tests build it.
    "--features",
    NDARRAY,
    "--",
    "run",
    "--demo",
    "mamba2",
    "--tokens-in",
    "5,6,7,8",
    "-n",
    "24",
    "--ignore-eos",
    "--json",
];
/// A boot takes three seconds; more than this is a hang.
const PATIENCE: Duration = Duration::from_secs(120);

/// Boots it, and compares.
pub(crate) fn run() -> Result<()> {
    let desk = Command::new("cargo").args(AT_THE_DESK).current_dir(root()).output();
    let desk = desk.context("cargo cannot be run")?;
    ensure!(desk.status.success(), "dynamax failed: {}", String::from_utf8_lossy(&desk.stderr));
    let desk = String::from_utf8_lossy(&desk.stdout);
    let expected = numbers_behind(&desk, "\"tokens\":[", ']').context("no tokens at the desk")?;

    let bare = root().join("targets/bare");
    // Its own folder, so that its own configuration of cargo holds.
    let built =
        Command::new("cargo").args(["build", "--release", "--locked"]).current_dir(&bare).status();
    ensure!(built.context("cargo cannot be run")?.success(), "targets/bare does not build");
    let mut booted = Command::new("timeout");
    booted.arg(PATIENCE.as_secs().to_string()).args([
        "cargo",
        "run",
        "--quiet",
        "--release",
        "--locked",
    ]);
    let booted = booted.current_dir(&bare).output().context("timeout cannot be run")?;
    let said = String::from_utf8_lossy(&booted.stdout);
    print!("{said}");
    if !booted.status.success() {
        bail!(
            "QEMU failed (qemu-system-arm is needed): {}",
            String::from_utf8_lossy(&booted.stderr)
        );
    }
    let found = numbers_behind(&said, "tokens:", '\r').context("no tokens without a system")?;
    ensure!(found == expected, "the desk says {expected:?}, the board without a system {found:?}");
    println!("{} tokens, the same as at the desk", found.len());
    Ok(())
}

/// The numbers between `start` and `end`.
fn numbers_behind(text: &str, start: &str, end: char) -> Option<Vec<u32>> {
    let list = text.split_once(start)?.1.split(end).next()?;
    let numbers = list.split([',', ' ']).filter(|number| !number.is_empty());
    numbers.map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_both_forms() {
        let expected = Some(vec![4, 15]);
        assert_eq!(numbers_behind("{\"tokens\":[4,15],\"x\":1}", "\"tokens\":[", ']'), expected);
        assert_eq!(numbers_behind("a: 1\r\ntokens: 4 15\r\n", "tokens:", '\r'), expected);
        assert_eq!(numbers_behind("refused\r\n", "tokens:", '\r'), None, "none");
    }
}
