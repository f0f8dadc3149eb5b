//! `dynamaxd slot …`: the receiving end of `dynamax flash`, and what an operator on the device needs.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::{Args, Subcommand};
use dynamax_bundle::Hash;
use dynamax_session::Source;
use dynamax_slots::{Directory, Image, Report, SlotError, Slots, Transfer};
use serde::Serialize;
use serde_json::{Value, json};

use crate::loading::{self, Settled};

/// Bytes read at once.
const PIECE_BYTES: usize = 1 << 20;

/// Look at the slots, fill one, or switch.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The directory of the slots, instead of the one in the configuration; nothing but hashes is checked then.
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say which bundle starts, and which is in reserve.
    Status,
    /// Take a bundle from stdin: says where to go on, reads to the end, checks, and switches.
    Receive {
        /// The hash in the bundle's prelude.
        #[arg(long)]
        hash: String,
        /// Length of the file.
        #[arg(long)]
        bytes: u64,
        /// Version of the bundle; 0 if it is not signed.
        #[arg(long, default_value_t = 0)]
        counter: u64,
        /// Forget a state that was damaged.
        #[arg(long)]
        reset: bool,
    },
    /// Put a bundle that is on the device into the slot that does not run, check it there, and switch.
    Install {
        /// The bundle.
        bundle: PathBuf,
        /// Forget a state that was damaged.
        #[arg(long)]
        reset: bool,
    },
    /// Go back to the other bundle.
    Rollback,
}

/// What is done, and for whom.
pub(crate) fn run(arguments: &Arguments, config: &Path, root: &Path) -> Result<()> {
    let (settled, folder) = match &arguments.dir {
        Some(folder) => (None, folder.clone()),
        None => {
            let settled = Settled::read(config, root)?;
            let folder = settled.config.model.slots.clone();
            (Some(settled), folder)
        }
    };
    match &arguments.command {
        Command::Status => status(&folder, settled.as_ref(), arguments.json),
        Command::Rollback => rollback(&folder, arguments.json),
        Command::Install { bundle, reset } => {
            install(&folder, settled.as_ref(), bundle, *reset, arguments.json)
        }
        Command::Receive { hash, bytes, counter, reset } => {
            let hash = Hash::from_hex(hash).with_context(|| {
                format!("--hash {hash}: not 64 hexadecimal digits; send what `dynamax flash` sends")
            })?;
            let image = Image { hash, bytes: *bytes, counter: *counter };
            receive(&folder, settled.as_ref(), image, *reset)
        }
    }
}

/// The slots, with what a sender checks a bundle against.
#[derive(Serialize)]
struct Status {
    directory: String,
    #[serde(flatten)]
    report: Report,
    memory_bytes: Option<u64>,
    context: Option<u32>,
    drafts: Option<u32>,
}

fn status(folder: &Path, settled: Option<&Settled>, json: bool) -> Result<()> {
    let report = Report::of(&Slots::new(Directory::at(folder)))?;
    if !json {
        println!("{report}");
        return Ok(());
    }
    let status = Status {
        directory: folder.display().to_string(),
        report,
        memory_bytes: settled.and_then(|settled| settled.memory_bytes),
        context: settled.and_then(|settled| settled.config.model.context),
        drafts: settled.and_then(Settled::drafts),
    };
    println!("{}", serde_json::to_string(&status).context("the report")?);
    Ok(())
}

fn rollback(folder: &Path, json: bool) -> Result<()> {
    let slot = Slots::new(Directory::at(folder)).rollback()?;
    if json {
        println!("{}", json!({ "active": slot.to_string() }));
    } else {
        println!("slot {slot} starts from now on");
    }
    Ok(())
}

/// Copies a bundle of this device into the slot that does not run. What may not run is refused before anything is written.
fn install(
    folder: &Path,
    settled: Option<&Settled>,
    path: &Path,
    reset: bool,
    json: bool,
) -> Result<()> {
    let source = Source::open(path)?;
    let bundle = source.bundle()?;
    let counter = bundle.signature().map_or(0, |signature| signature.counter);
    let image = Image { hash: bundle.hash(), bytes: source.bytes().len() as u64, counter };
    let (_alone, mut slots) = open(folder, reset)?;
    vouch(settled, &source, slots.state()?.floor)?;
    let mut transfer = slots.offer(image)?;
    let start = usize::try_from(transfer.offset()).context("the bundle is too large")?;
    for piece in source.bytes()[start..].chunks(PIECE_BYTES) {
        slots.write(&mut transfer, piece)?;
    }
    let finished = finish(&mut slots, transfer, settled, image)?;
    if json {
        return say(&finished);
    }
    println!("slot {} starts from now on", finished["active"].as_str().unwrap_or_default());
    Ok(())
}

/// Speaks first: one line of JSON with the offset to send from. Then reads stdin to its end.
fn receive(folder: &Path, settled: Option<&Settled>, image: Image, reset: bool) -> Result<()> {
    let (_alone, mut slots) = open(folder, reset)?;
    // Before a large file is sent; a version that is a lie is found out when it has arrived, and so is a missing signature.
    let refuses_older = settled.is_some_and(|settled| settled.config.trust.refuses_older());
    if refuses_older && image.counter > 0 {
        slots.admit(image.counter)?;
    }
    let mut transfer = slots.offer(image)?;
    say(&json!({ "slot": transfer.slot().to_string(), "offset": transfer.offset() }))?;
    take(&mut slots, &mut transfer)?;
    say(&finish(&mut slots, transfer, settled, image)?)
}

/// The slots, and what keeps others from filling them as long as it lives.
fn open(folder: &Path, reset: bool) -> Result<(File, Slots<Directory>)> {
    let directory = Directory::create(folder)
        .with_context(|| format!("{}: cannot be made", folder.display()))?;
    let alone = directory.transfer_guard()?.ok_or(SlotError::Busy)?;
    let mut slots = Slots::new(directory);
    if reset {
        slots.reset()?;
    }
    Ok((alone, slots))
}

/// Checks what has arrived, and switches to it.
fn finish(
    slots: &mut Slots<Directory>,
    transfer: Transfer,
    settled: Option<&Settled>,
    image: Image,
) -> Result<Value> {
    let floor = slots.state()?.floor;
    let finished = slots.finish(transfer, |disk, file| {
        check(settled, &disk.path(file), image, floor).map_err(|error| format!("{error:#}"))
    })?;
    Ok(json!({
        "active": finished.slot.to_string(),
        "fallback": finished.fallback.map(|slot| slot.to_string()),
    }))
}

fn say(line: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("stdout is closed")
}

fn take(slots: &mut Slots<Directory>, transfer: &mut Transfer) -> Result<()> {
    let mut stdin = std::io::stdin().lock();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let len = stdin.read(&mut piece).context("stdin cannot be read")?;
        if len == 0 {
            return Ok(());
        }
        slots.write(transfer, &piece[..len])?;
    }
}

/// What arrived is what was offered, and may run here.
fn check(settled: Option<&Settled>, path: &Path, image: Image, floor: u64) -> Result<()> {
    let source = Source::open(path)?;
    let bundle = source.bundle()?;
    if bundle.hash() != image.hash {
        return Err(anyhow!(
            "{} was offered, {} arrived; send it again",
            image.hash,
            bundle.hash()
        ));
    }
    vouch(settled, &source, floor)
}

/// A bundle is whole, and may run here as far as a configuration says.
fn vouch(settled: Option<&Settled>, source: &Source, floor: u64) -> Result<()> {
    match settled {
        Some(settled) => {
            let least = if settled.config.trust.refuses_older() { floor } else { 0 };
            loading::admit(settled, source, least).map(drop)
        }
        None => source.verified().map(drop),
    }
}
