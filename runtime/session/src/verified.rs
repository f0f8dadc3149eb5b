//! Remembers which large bundles have been compared with their hashes, so that this is done once and not at every
//! start.
//!
//! A note in the user's cache says: this file (device, inode, length, time of last change, hash of its header) was whole.
//! Whoever changes the file changes at least one of these. Notes are hints: without them a bundle is hashed again.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use dynamax_bundle::Hash;

/// Smaller bundles are hashed in less time than anyone would notice.
const LEAST_BYTES: u64 = 64 << 20;

/// The place of a note about a file, if the file is worth one.
#[derive(Debug)]
pub(crate) struct Note(PathBuf);

impl Note {
    /// The note about the bundle in `file`, whose header has this hash.
    pub(crate) fn about(file: &File, header: Hash) -> Option<Self> {
        let metadata = file.metadata().ok().filter(|metadata| metadata.len() >= LEAST_BYTES)?;
        let name = Hash::of(identity(&metadata, header).as_bytes()).to_string();
        Some(Self(cache()?.join(name)))
    }

    /// True if the file was whole.
    pub(crate) fn is_there(&self) -> bool {
        self.0.exists()
    }

    /// Notes that the file is whole. A cache that cannot be written is no reason to complain.
    pub(crate) fn write(&self) {
        let folder = self.0.parent().map(std::fs::create_dir_all);
        if matches!(folder, Some(Ok(()))) {
            let _ = File::create(&self.0);
        }
    }
}

/// What changes when a file does.
fn identity(metadata: &Metadata, header: Hash) -> String {
    let (changed, nanoseconds) = (metadata.ctime(), metadata.ctime_nsec());
    let (written, fraction) = (metadata.mtime(), metadata.mtime_nsec());
    let (device, inode, len) = (metadata.dev(), metadata.ino(), metadata.len());
    format!("{device} {inode} {len} {written}.{fraction} {changed}.{nanoseconds} {header}")
}

/// Where notes are kept.
fn cache() -> Option<PathBuf> {
    let base =
        std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let base =
        base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    Some(base.join("dynamax").join("verified"))
}
