//! Small files of the kernel, read again and again.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::string::String;
use std::vec::Vec;

use crate::integrator::MeterFault;

/// A file with one number, kept open.
#[derive(Debug)]
pub(crate) struct NumberFile(File);

impl NumberFile {
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        File::open(path).map(Self)
    }

    /// The number that stands there now.
    pub(crate) fn read(&mut self) -> Result<i64, MeterFault> {
        let mut bytes = [0; 32];
        let length = match self.0.seek(SeekFrom::Start(0)).and_then(|_| self.0.read(&mut bytes)) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return Err(MeterFault::Nonsense);
            }
            Err(_) => return Err(MeterFault::Gone),
        };
        let text = std::str::from_utf8(&bytes[..length]).map_err(|_| MeterFault::Nonsense)?;
        text.trim().parse().map_err(|_| MeterFault::Nonsense)
    }
}

/// The text of a small file, without the line's end.
pub(crate) fn text(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| String::from(text.trim()))
}

/// The number in a small file.
pub(crate) fn number(path: &Path) -> Option<i64> {
    text(path)?.parse().ok()
}

/// What lies in a folder, in order; nothing where it is not there.
pub(crate) fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}
