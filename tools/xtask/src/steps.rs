//! The steps of `cargo xtask ci`.
//!
//! Everything is built in the release profile: the workspace's own `cargo run --release` then shares every dependency
//! with the checks, and tests of kernels and training would take minutes without optimisation.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{qemu, tidy};

/// One check.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) run: fn() -> Result<()>,
}

/// All checks, cheap ones first.
pub(crate) const STEPS: &[Step] = &[
    Step { name: "fmt", what: "the code is formatted", run: fmt },
    Step { name: "tidy", what: "our own rules: dependencies, links, words", run: tidy::run },
    Step { name: "bare", what: "the runtime builds without an operating system", run: bare },
    Step { name: "clippy", what: "no lint warns", run: clippy },
    Step { name: "test", what: "all tests on this machine", run: test },
    Step { name: "aarch64", what: "the runtime's tests on arm64, in emulation", run: aarch64 },
    Step {
        name: "qemu",
        what: "no operating system: the same tokens, in emulation",
        run: qemu::run,
    },
    Step { name: "doc", what: "the documentation builds and its links resolve", run: doc },
    Step { name: "wgpu", what: "the same tokens on a GPU, or on Mesa's software one", run: wgpu },
];

/// Crates that a board runs, and the tests that need nothing else.
const RUNTIME: [&str; 5] =
    ["dynamax-bundle", "dynamax-plan", "dynamax-kernels", "dynamax-engine", "dynamax-governor"];

fn fmt() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])
}

fn bare() -> Result<()> {
    let mut arguments =
        vec!["build", "--release", "--no-default-features", "--target", "aarch64-unknown-none"];
    // What checks signatures needs no operating system either.
    arguments.extend(["--features", "dynamax-bundle/signature"]);
    arguments.extend(RUNTIME.iter().flat_map(|package| ["-p", package]));
    cargo(&arguments)
}

fn clippy() -> Result<()> {
    // With all backends: nothing that is built here is used by another step.
    let backends = "dynamax/wgpu,dynamaxd/flex,dynamaxd/wgpu";
    let mut arguments = vec!["clippy", "--release", "--workspace", "--all-targets"];
    arguments.extend(["--features", backends, "--", "-D", "warnings"]);
    cargo(&arguments)
}

/// With Burn's other CPU backend: Burn is what takes longest to build, and so it is built once.
pub(crate) const NDARRAY: &str = "dynamax/ndarray";

fn test() -> Result<()> {
    cargo(&["test", "--release", "--workspace", "--features", NDARRAY, "--no-fail-fast"])
}

fn aarch64() -> Result<()> {
    let mut arguments = vec!["test", "--release", "--target", "aarch64-unknown-linux-gnu"];
    let features = RUNTIME.map(|package| format!("{package}/std")).join(",");
    let features = features + ",dynamax-bundle/signature";
    arguments.extend(["--features", &features]);
    arguments.extend(RUNTIME.iter().flat_map(|package| ["-p", package]));
    arguments.extend(["-p", "dynamax-tests"]);
    cargo(&arguments)?;
    // The whole service is built by `cargo xtask cross`, which takes longer.
    cargo(&["check", "--release", "--target", "aarch64-unknown-linux-gnu", "-p", "dynamaxd"])
}

fn doc() -> Result<()> {
    cargo(&["doc", "--release", "--workspace", "--no-deps", "--document-private-items"])
}

/// A GPU that is missing is a failure here.
fn wgpu() -> Result<()> {
    let with = [("DYNAMAX_NEEDS_GPU", "1")];
    // One set of packages and features, so that wgpu is built once, and what lies below the binaries is that of the other tests.
    let features = format!("dynamax-wgpu/vulkan,dynamax/wgpu,dynamaxd/wgpu,{NDARRAY}");
    let test = ["test", "--release", "--features", &features];
    let of = ["-p", "dynamax-wgpu", "-p", "dynamax", "-p", "dynamaxd"];
    cargo_with(&[&test[..], &of, &["--test", "executor"]].concat(), &with)?;
    cargo_with(&[&test[..], &of, &["--test", "gpu", "--test", "service", "gpu"]].concat(), &with)
}

/// Runs cargo in the workspace.
fn cargo(arguments: &[&str]) -> Result<()> {
    cargo_with(arguments, &[])
}

/// The same with variables set.
fn cargo_with(arguments: &[&str], variables: &[(&str, &str)]) -> Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    println!("$ cargo {}", arguments.join(" "));
    let status = Command::new(cargo)
        .args(arguments)
        .envs(variables.iter().copied())
        .current_dir(tidy::root())
        .status()
        .context("cargo cannot be run")?;
    ensure!(status.success(), "cargo {} failed", arguments[0]);
    Ok(())
}
