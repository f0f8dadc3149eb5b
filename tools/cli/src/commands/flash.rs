//! `dynamax flash`: puts a bundle into a device's other slot, and switches to it.

mod image;
mod parcel;
mod shell;
mod ssh;

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use dynamax_config::Bytes;
use dynamax_session::Options;
use dynamax_slots::{Directory, Report, SlotError, Slots};
use serde::Serialize;

use super::print_json;
use crate::failure::Failure;
use parcel::Parcel;
use ssh::Host;

/// Put a bundle into a device's other slot, check it there, and switch to it.
#[derive(Args, Debug)]
#[command(after_help = "\
The destination is a directory, ssh://[user@]host[:port][/directory], or an image file (*.img) of an ext4 partition. Over SSH
your own configuration and keys are used; without a directory it is the one in the device's device.toml. A transfer that
breaks off goes on from there when it is repeated. The new bundle is on trial until a start of dynamaxd confirms it; after three
that did not, the old one comes back by itself.

Examples:
  dynamax flash m.dmx --to ssh://root@drone --reload
  dynamax flash m.dmx --to ./slots --board jetson-orin-nano-8gb
  dynamax flash --to ssh://root@drone --status
  dynamax flash --to ssh://root@drone --rollback
  dynamax flash m.dmx --to data.img                    a partition for /var/lib/dynamax")]
pub(crate) struct Arguments {
    /// The bundle.
    #[arg(required_unless_present_any = ["status", "rollback"])]
    bundle: Option<PathBuf>,
    /// Where the slots are.
    #[arg(long)]
    to: String,
    /// Say which bundle starts, and which is in reserve.
    #[arg(long, conflicts_with_all = ["bundle", "rollback"])]
    status: bool,
    /// Go back to the other bundle.
    #[arg(long, conflicts_with = "bundle")]
    rollback: bool,
    /// Refuse a bundle that does not fit onto this board.
    #[arg(long, conflicts_with = "memory")]
    board: Option<String>,
    /// Refuse a bundle that needs more than this, such as "3.5 GiB".
    #[arg(long)]
    memory: Option<Bytes>,
    /// Tokens that the device plans for, where its device.toml says so.
    #[arg(long)]
    context: Option<u32>,
    /// Refuse a bundle that this public key has not signed; a directory of keys, or repeated.
    #[arg(long)]
    key: Vec<PathBuf>,
    /// Let a bundle replace a newer one; dynamaxd on a device goes by its own device.toml.
    #[arg(long)]
    allow_downgrade: bool,
    /// Tell dynamaxd on the device to switch now (systemctl reload-or-restart).
    #[arg(long)]
    reload: bool,
    /// Forget a state of the slots that was damaged.
    #[arg(long)]
    reset: bool,
    /// Times that a connection that broke is made again.
    #[arg(long, default_value_t = 3)]
    retries: u32,
    /// Size of a new image; by default room for two bundles of this size.
    #[arg(long)]
    size: Option<Bytes>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Where slots are.
enum Destination {
    Directory(PathBuf),
    Ssh(Host),
    Image(PathBuf),
}

impl Destination {
    fn parse(to: &str) -> Result<Self> {
        if let Some(rest) = to.strip_prefix("ssh://") {
            return Ok(Self::Ssh(Host::parse(rest)?));
        }
        ensure!(
            !to.contains("://"),
            "--to {to}: expected a directory, ssh://host or an image file"
        );
        let path = PathBuf::from(to);
        let is_image = path.is_file() || path.extension().is_some_and(|ending| ending == "img");
        Ok(if is_image { Self::Image(path) } else { Self::Directory(path) })
    }
}

/// What has been done.
#[derive(Serialize)]
struct Done {
    slot: String,
    fallback: Option<String>,
    hash: String,
    counter: u64,
    bytes: u64,
    /// Bytes that an earlier transfer had brought.
    resumed_bytes: u64,
    planned_bytes: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let destination = Destination::parse(&arguments.to)?;
    if arguments.status {
        return status(&destination, arguments.json);
    }
    if arguments.rollback {
        return rollback(&destination, arguments);
    }
    let bundle = arguments.bundle.as_ref().context("give a bundle")?;
    let parcel = Parcel::open(bundle, &arguments.key, arguments.allow_downgrade)?;
    let mut limits = Limits::of(arguments)?;
    let done = match &destination {
        Destination::Directory(path) => {
            let planned_bytes = limits.check(&parcel)?;
            into_directory(path, &parcel, arguments.reset, planned_bytes)
        }
        Destination::Image(path) => {
            let planned_bytes = limits.check(&parcel)?;
            image::make(path, &parcel, arguments.size.map(|size| size.0), planned_bytes)
        }
        Destination::Ssh(host) => host.flash(&parcel, &mut limits, arguments),
    };
    let done = done.map_err(no)?;
    if arguments.json {
        return print_json(&done);
    }
    let Done { slot, counter, bytes, resumed_bytes, .. } = &done;
    let resumed = if *resumed_bytes > 0 {
        format!(", {} had come before", dynamax_config::show_bytes(*resumed_bytes))
    } else {
        String::new()
    };
    println!(
        "{}: slot {slot}, version {counter}, {}{resumed}; {}",
        arguments.to,
        dynamax_config::show_bytes(*bytes),
        match &done.fallback {
            Some(fallback) => format!("slot {fallback} comes back if it fails"),
            None => "the first one there".to_owned(),
        }
    );
    Ok(())
}

/// What the device allows a bundle.
struct Limits(Options);

impl Limits {
    fn of(arguments: &Arguments) -> Result<Self> {
        let memory_bytes = match &arguments.board {
            Some(name) => Some(crate::board::usable_bytes(&crate::board::named(name)?)?),
            None => arguments.memory.map(|memory| memory.0),
        };
        Ok(Self(Options { memory_bytes, ..Options::of_service(arguments.context, None) }))
    }

    /// Bytes that the bundle's plan needs, if it fits.
    fn check(&self, parcel: &Parcel) -> Result<u64> {
        parcel.plan(&self.0).map_err(no)
    }
}

/// Answers of "no" end with status 1.
fn no(error: anyhow::Error) -> anyhow::Error {
    let is_no = error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(dynamax_engine::LoadError::Memory { .. }))
            || cause.downcast_ref().is_some_and(SlotError::is_no)
    });
    if is_no { Failure(format!("{error:#}")).into() } else { error }
}

fn into_directory(
    path: &std::path::Path,
    parcel: &Parcel,
    reset: bool,
    planned_bytes: u64,
) -> Result<Done> {
    let shown = path.display();
    let directory = Directory::create(path).with_context(|| format!("{shown}: cannot be made"))?;
    let guard = directory.transfer_guard().with_context(|| format!("{shown}: cannot be locked"))?;
    let _alone = guard.ok_or(SlotError::Busy)?;
    let mut slots = Slots::new(directory);
    if reset {
        slots.reset()?;
    }
    parcel.deliver(&mut slots, parcel::PIECE_BYTES, planned_bytes, |directory, file| {
        parcel.compare(&directory.path(file)).map_err(|error| format!("{error:#}"))
    })
}

fn status(destination: &Destination, json: bool) -> Result<()> {
    let report = match destination {
        Destination::Directory(path) => Report::of(&Slots::new(Directory::at(path)))?,
        Destination::Ssh(host) => host.status()?.report,
        Destination::Image(path) => image::status(path)?,
    };
    if json {
        return print_json(&report);
    }
    println!("{report}");
    Ok(())
}

fn rollback(destination: &Destination, arguments: &Arguments) -> Result<()> {
    let active = match destination {
        Destination::Directory(path) => {
            let slot =
                Slots::new(Directory::at(path)).rollback().map_err(|error| no(error.into()))?;
            slot.to_string()
        }
        Destination::Ssh(host) => {
            let active = host.rollback().map_err(no)?;
            host.reload(arguments.reload)?;
            active
        }
        Destination::Image(path) => {
            bail!("{}: mount the image, and give its directory", path.display())
        }
    };
    if arguments.json {
        return print_json(&serde_json::json!({ "active": active }));
    }
    println!("{}: slot {active} starts from now on", arguments.to);
    Ok(())
}
