//! `cargo xtask`: the one door for checks. `cargo xtask ci` runs all of them, in order, and collects what failed.

mod cross;
mod instructions;
mod qemu;
mod random_checkpoint;
mod steps;
mod tidy;

use std::process::ExitCode;
use std::time::Instant;

use steps::STEPS;

fn main() -> ExitCode {
    let verb = std::env::args().nth(1).unwrap_or_default();
    if verb == "ci" {
        return all();
    }
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let tool = match verb.as_str() {
        "cross" => Some(cross::run(&arguments)),
        "instructions" => Some(instructions::run(&arguments)),
        "random-checkpoint" => Some(random_checkpoint::run(&arguments)),
        _ => None,
    };
    if let Some(done) = tool {
        return done.map_or_else(|error| fail(&format!("{error:#}")), |()| ExitCode::SUCCESS);
    }
    match STEPS.iter().find(|step| step.name == verb) {
        Some(step) => match (step.run)() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("{error:#}")),
        },
        None => usage(&verb),
    }
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
    println!(
        "usage: cargo xtask ci, cargo xtask cross [--board NAME], cargo xtask instructions [--record],\n       \
         cargo xtask random-checkpoint SHAPE DIR, or one step:"
    );
    for step in STEPS {
        println!("  {:<12} {}", step.name, step.what);
    }
    if verb.is_empty() { ExitCode::SUCCESS } else { fail(&format!("unknown step \"{verb}\"")) }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("xtask: {message}");
    ExitCode::FAILURE
}
