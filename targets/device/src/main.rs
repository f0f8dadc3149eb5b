//! `dynamaxd`: the service on the device.
//!
//! ```text
//! main      flags; what systemd and signals say
//! loading   device.toml ─▶ the slot that starts ─▶ signature, hashes, plan ─▶ Ready
//! worker    the one thread that decodes; a bounded queue in front of it
//! api       OpenAI's HTTP, the page, metrics
//! server    connections, and what they may not do
//! slot      dynamaxd slot …: the receiving end of `dynamax flash`
//! ```

mod api;
mod backend;
mod check;
mod health;
mod heap;
mod job;
mod live;
mod loading;
mod metrics;
mod patience;
mod seats;
mod server;
mod service;
mod slot;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use loading::Settled;

/// The device service of Dynamax: answers over HTTP, from a bundle in one of two slots.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  dynamaxd --config /etc/dynamax/device.toml --check   what would happen
  dynamaxd --config /etc/dynamax/device.toml           serve
  dynamaxd slot status                                 which bundle starts, and which is in reserve

Signals: HUP looks at configuration and slots anew; TERM lets answers finish, and ends."
)]
struct Arguments {
    /// The configuration.
    #[arg(long, default_value_os_t = loading::default_config(), global = true)]
    config: PathBuf,
    /// Check configuration, bundle and plan, say what would happen, and end.
    #[arg(long)]
    check: bool,
    /// Where the board's files are, to try out what is not there.
    #[arg(long, value_name = "DIR", default_value = "/", hide = true, global = true)]
    root: PathBuf,
    /// With --check, print one JSON object.
    #[arg(long, requires = "check")]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look at the slots, fill one, or switch.
    Slot(slot::Arguments),
}

fn main() -> ExitCode {
    // Before there are threads.
    heap::use_one();
    let arguments = Arguments::parse();
    let done = match &arguments.command {
        Some(Command::Slot(command)) => slot::run(command, &arguments.config, &arguments.root),
        None if arguments.check => check::run(&arguments.config, &arguments.root, arguments.json),
        None => run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dynamaxd: {error:#}");
            ExitCode::from(check::status(&error))
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let settled = Settled::read(&arguments.config, &arguments.root)?;
    service::run(&arguments.config, settled)
}
