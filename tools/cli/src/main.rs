//! `dynamax`: from a checkpoint to a bundle to tokens, on the workstation.
//!
//! ```text
//! commands/   one file for each verb: arguments, what it does, how it is shown
//! eval/       tasks, scores, and the report on them
//! journal/    what each token of an answer cost: the line on the terminal, the page with traces
//! page/       what HTML pages have in common
//! source      where a command finds its bundle: a file, or a demo inside this binary
//! session     the flags of commands that decode
//! ```

mod agreement;
mod backend;
mod board;
mod commands;
mod eval;
mod failure;
mod journal;
mod machine;
mod page;
mod progress;
mod session;
mod source;
mod tint;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use commands::{
    bench, build, calibrate, chat, check, exits, flash, inspect, keygen, package, plan, profile,
    run, sign, train, verify,
};
use failure::Failure;

/// Language models for boards, inside a budget: build bundles from checkpoints, look into them, run them.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  dynamax run \"Once upon a time\"                 speak, from the built-in demo
  dynamax build ./Mistral-7B-v0.3 -o m.dmx       import, quantize to q4, plan, pack
  dynamax inspect m.dmx                          what is inside
  dynamax plan m.dmx --svg plan.svg              the memory plan, as a picture
  dynamax run m.dmx \"The board said\" -n 64       speak, from your own bundle"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
    Chat(chat::Arguments),
    Build(build::Arguments),
    Inspect(inspect::Arguments),
    Plan(plan::Arguments),
    Check(check::Arguments),
    Calibrate(calibrate::Arguments),
    Bench(bench::Arguments),
    Profile(profile::Arguments),
    Eval(commands::eval::Arguments),
    Train(Box<train::Arguments>),
    Flash(flash::Arguments),
    Package(package::Arguments),
    Keygen(keygen::Arguments),
    Sign(sign::Arguments),
    Exits(Box<exits::Arguments>),
    Verify(verify::Arguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Chat(arguments) => chat::run(&arguments),
        Command::Build(arguments) => build::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Calibrate(arguments) => calibrate::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Profile(arguments) => profile::run(&arguments),
        Command::Eval(arguments) => commands::eval::run(&arguments),
        Command::Train(arguments) => train::run(&arguments),
        Command::Flash(arguments) => flash::run(&arguments),
        Command::Package(arguments) => package::run(&arguments),
        Command::Keygen(arguments) => keygen::run(&arguments),
        Command::Sign(arguments) => sign::run(&arguments),
        Command::Exits(arguments) => exits::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => Failure::report(&error),
    }
}
