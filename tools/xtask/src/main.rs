//! `cargo xtask`: the one door for checks. `cargo xtask ci` runs all of them, in order, and collects what failed.

mod board;
mod cross;
mod instructions;
mod qemu;
mod random_checkpoint;
mod service;
mod soak;
mod steps;
mod tidy;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use steps::STEPS;

/// What is not part of `ci`: it takes long, needs more than Rust, or makes something.
struct Tool {
    name: &'static str,
    what: &'static str,
    run: fn(&[String]) -> Result<()>,
}

const TOOLS: &[Tool] = &[
    Tool {
        name: "cross",
        what: "[--board NAME] [--linker zig|gcc] [--cli]: the device service for arm64",
        run: cross::run,
    },
    Tool {
        name: "board",
        what: "[BINARY]: flashes it, boots an emulated board, compares tokens and joules",
        run: board::run,
    },
    Tool {
        name: "instructions",
        what: "[--record]: how many instructions a token of each demo takes",
        run: instructions::run,
    },
    Tool { name: "soak", what: "[MINUTES]: the device service under load", run: soak::run },
    Tool {
        name: "random-checkpoint",
        what: "SHAPE DIR: a checkpoint of any size, without meaning",
        run: random_checkpoint::run,
    },
];

fn main() -> ExitCode {
    let verb = std::env::args().nth(1).unwrap_or_default();
    if verb == "ci" {
        return all();
    }
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let done = if let Some(tool) = TOOLS.iter().find(|tool| tool.name == verb) {
        (tool.run)(&arguments)
    } else if let Some(step) = STEPS.iter().find(|step| step.name == verb) {
        (step.run)()
    } else {
        return usage(&verb);
    };
    done.map_or_else(|error| fail(&format!("{error:#}")), |()| ExitCode::SUCCESS)
}

/// Runs every step, also behind one that failed, and sums up.
fn all() -> ExitCode {
    let (mut passed, mut failed) = (0, Vec::new());
    for step in STEPS {
        println!("\n── {}: {}", step.name, step.what);
        let start = Instant::now();
        match (step.run)() {
            Ok(()) => passed += 1,
            Err(error) => {
                eprintln!("{}: {error:#}", step.name);
                failed.push(step.name);
            }
        }
        println!("── {} took {:.0} s", step.name, start.elapsed().as_secs_f64());
    }
    if !failed.is_empty() {
        println!("\nfailed: {}", failed.join(", "));
    }
    println!("\n{passed} passed, {} failed", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage(verb: &str) -> ExitCode {
    println!("usage: cargo xtask ci, or one of its steps:");
    for step in STEPS {
        println!("  {:<12} {}", step.name, step.what);
    }
    println!("and beside them:");
    for tool in TOOLS {
        println!("  {:<12} {}", tool.name, tool.what);
    }
    if verb.is_empty() { ExitCode::SUCCESS } else { fail(&format!("unknown step \"{verb}\"")) }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("xtask: {message}");
    ExitCode::FAILURE
}
