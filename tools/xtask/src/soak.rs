//! `cargo xtask soak [MINUTES]`: the device service under mixed load, for as long as one likes to watch.
//!
//! Conversations, completions with probabilities, clients that leave, clients that know no manners and people who look at
//! gauges, all at once. Told are the memory that the service holds, to the byte, and how long tokens take: by the clock, which
//! other work on the machine disturbs, and in time of the processor, which it disturbs less.

mod load;
mod watch;

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::service::{Service, build, configure};
use crate::tidy::root;
use load::{KINDS, Load};
use watch::{Minute, Process};

/// Minutes without an argument.
const MINUTES: usize = 30;
/// Share of the time after which memory must not grow, and times are compared.
const WARM_UP: f64 = 0.2;
/// How much longer tokens may take at the end.
const MOST_SLOWER: f64 = 1.10;

/// Puts the service under load, and says what came of it.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let minutes = match arguments {
        [] => MINUTES,
        [minutes] => minutes.parse().context("usage: cargo xtask soak [MINUTES]")?,
        _ => anyhow::bail!("usage: cargo xtask soak [MINUTES]"),
    };
    ensure!(
        minutes >= 5,
        "{minutes} minutes are too few to tell a warm-up from the rest; give at least 5"
    );
    let (dynamax, dynamaxd) = (build("dynamax")?, build("dynamaxd")?);
    let folder = tempfile::tempdir().context("there is no place for a device")?;
    let demo = root().join("tools/cli/demo/mamba2.dmx");
    let slots = folder.path().join("slots");
    let flashed = Command::new(dynamax).arg("flash").arg(demo).arg("--to").arg(slots).status();
    ensure!(flashed.context("dynamax cannot be run")?.success(), "the demo is not flashed");
    configure(folder.path(), "\n[power]\nmeter = \"model\"\n")?;
    let config = folder.path().join("device.toml");
    let service = Service::start(Command::new(dynamaxd).arg("--config").arg(config))?;
    let history = watch_for(minutes, &service)?;
    judge(&history)
}

/// Minutes under load, as they went.
fn watch_for(minutes: usize, service: &Service) -> Result<Vec<Minute>> {
    let load = Load::new(service);
    let stop = AtomicBool::new(false);
    let client = service.client();
    let process = Process::new(service.id());
    std::thread::scope(|scope| {
        for kind in KINDS {
            let (load, stop) = (&load, &stop);
            scope.spawn(move || load.go_on(kind, stop));
        }
        let mut history = Vec::new();
        let mut last = process.sample(&client);
        println!("{}", Minute::HEAD);
        let start = Instant::now();
        while history.len() < minutes {
            let end = Duration::from_secs(60 * (history.len() as u64 + 1));
            let mut resident_bytes = 0;
            while start.elapsed() < end {
                std::thread::sleep(Duration::from_secs(1));
                resident_bytes = resident_bytes.max(process.resident_bytes()?);
            }
            let now = process.sample(&client);
            let minute = Minute::of(
                &last?,
                now.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?,
                load.take(),
                resident_bytes,
            );
            println!("{:>6} {minute}", history.len() + 1);
            history.push(minute);
            last = now;
        }
        stop.store(true, Ordering::Relaxed);
        Ok(history)
    })
}

/// Compares the end with the time after the warm-up.
fn judge(history: &[Minute]) -> Result<()> {
    let warm = (history.len() as f64 * WARM_UP).ceil() as usize;
    let (before, after) = history.split_at(warm);
    let most =
        |minutes: &[Minute]| minutes.iter().map(|minute| minute.resident_bytes).max().unwrap_or(0);
    let (early, late) = (most(before), most(after));
    let (first, last) = after.split_at(after.len() / 2);
    let p99 = Minute::p99_ms(last) / Minute::p99_ms(first);
    let cpu = Minute::cpu_ms(last) / Minute::cpu_ms(first);
    let tokens: usize = history.iter().map(|minute| minute.tokens).sum();
    println!("{tokens} tokens in {} minutes, of which {warm} were the warm-up", history.len());
    println!("memory: {early} bytes at most in the warm-up, {late} after it");
    println!(
        "p99 of a token: second half / first half {p99:.3}; processor time of a token: {cpu:.3}"
    );
    ensure!(late <= early, "memory grew by {} bytes after the warm-up", late - early);
    // Slower by the clock alone is the machine's other work.
    ensure!(p99 <= MOST_SLOWER || cpu <= MOST_SLOWER, "tokens take longer at the end");
    if p99 > MOST_SLOWER {
        println!("slower by the clock, not by the processor: other work ran on this machine");
    }
    Ok(())
}
