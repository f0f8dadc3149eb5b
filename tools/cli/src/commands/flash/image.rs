//! An ext4 image with the slots inside: a partition that is written with the board's own tools.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use dynamax_config::show_bytes;
use dynamax_slots::{Directory, Report, STATE_FILE, Slots};

use super::Done;
use super::parcel::{PIECE_BYTES, Parcel};

/// What the file system keeps for itself, at least.
const FILE_SYSTEM_BYTES: u64 = 32 << 20;

/// Makes an image with the bundle in its first slot.
pub(super) fn make(
    path: &Path,
    parcel: &Parcel,
    size_bytes: Option<u64>,
    planned_bytes: u64,
) -> Result<Done> {
    let shown = path.display();
    ensure!(
        !path.exists(),
        "{shown}: is there already; remove it, or mount it and flash its directory"
    );
    let two = 2 * parcel.image.bytes;
    let size_bytes = size_bytes.unwrap_or(two + two / 20 + FILE_SYSTEM_BYTES);
    let least = parcel.image.bytes + FILE_SYSTEM_BYTES;
    ensure!(
        size_bytes >= least,
        "--size {}: too small for a bundle of {} and a file system; give at least {}",
        show_bytes(size_bytes),
        show_bytes(parcel.image.bytes),
        show_bytes(least.next_multiple_of(1 << 20))
    );
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let staging = tempfile::tempdir_in(parent.unwrap_or(Path::new(".")))
        .with_context(|| format!("{shown}: nothing can be written beside it"))?;
    let mut slots = Slots::new(Directory::create(staging.path())?);
    let done = parcel.deliver(&mut slots, PIECE_BYTES, planned_bytes, |directory, file| {
        parcel.compare(&directory.path(file)).map_err(|error| format!("{error:#}"))
    })?;
    for lock in ["state.lock", "transfer.lock"] {
        let _ = std::fs::remove_file(staging.path().join(lock));
    }
    let output = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-L", "dynamax", "-m", "0", "-d"])
        .arg(staging.path())
        .arg(path)
        .arg(format!("{}k", size_bytes / 1024))
        .output()
        .context("mke2fs cannot be run; install e2fsprogs")?;
    ensure!(
        output.status.success(),
        "{shown}: mke2fs failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(done)
}

/// Looks at the slots in an image, without mounting it.
pub(super) fn status(path: &Path) -> Result<Report> {
    let shown = path.display();
    let copy = tempfile::tempdir().context("there is no place for a copy of the state")?;
    let target = copy.path().join(STATE_FILE);
    let output = Command::new("debugfs")
        .arg("-R")
        .arg(format!("dump /{STATE_FILE} {}", target.display()))
        .arg(path)
        .output()
        .context("debugfs cannot be run; install e2fsprogs")?;
    ensure!(
        output.status.success() && target.exists(),
        "{shown}: no slots are in it: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let mut report = Report::of(&Slots::new(Directory::at(copy.path())))?;
    // Room is the image's, and not told.
    report.free_bytes = None;
    Ok(report)
}
