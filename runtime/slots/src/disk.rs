//! The few things that slots ask of a disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// A directory of a few files, without subdirectories.
///
/// Nothing but [`Disk::sync`] makes contents last, and nothing but [`Disk::sync_names`] makes new names, renames and
/// removals last. Until then a power cut may keep any part of them, in any order.
pub trait Disk {
    /// The contents of a small file; `None` if it is not there.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// The length of a file; `None` if it is not there.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn len(&self, name: &str) -> io::Result<Option<u64>>;

    /// Makes a file `len` bytes long, and makes it if it is not there.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn truncate(&mut self, name: &str, len: u64) -> io::Result<()>;

    /// Writes behind the end of a file that is there.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Forces the contents of a file to the disk.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn sync(&mut self, name: &str) -> io::Result<()>;

    /// Gives a file another name, in place of the file that had it.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file, if it is there.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// Forces names to the disk.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn sync_names(&mut self) -> io::Result<()>;

    /// Bytes that can still be written.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Waits until no other process changes the state, and keeps others from it until the result is dropped. A disk
    /// that only one process knows needs nothing of the kind.
    ///
    /// # Errors
    ///
    /// As the system says.
    fn guard(&self) -> io::Result<Option<File>> {
        Ok(None)
    }
}

/// A directory of this machine.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The directory at `path`, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn create(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        Ok(Self { path: path.into() })
    }

    /// The directory at `path`, there or not: reading finds nothing if it is not.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.into() }
    }

    /// Where a file is.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Keeps others from a transfer until the result is dropped; `None` if someone else has one.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn transfer_guard(&self) -> io::Result<Option<File>> {
        let file = self.lock_file("transfer.lock")?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// A lock needs no right to write: the file may be another user's, as after a flash by root.
    fn lock_file(&self, name: &str) -> io::Result<File> {
        match File::open(self.path(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                OpenOptions::new().create(true).truncate(false).write(true).open(self.path(name))
            }
            other => other,
        }
    }
}

/// `None` instead of an error for what is not there.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Disk for Directory {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        found(fs::read(self.path(name)))
    }

    fn len(&self, name: &str) -> io::Result<Option<u64>> {
        Ok(found(fs::metadata(self.path(name)))?.map(|metadata| metadata.len()))
    }

    fn truncate(&mut self, name: &str, len: u64) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).open(self.path(name))?.set_len(len)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new().append(true).open(self.path(name))?.write_all(bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        File::open(self.path(name))?.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        found(fs::remove_file(self.path(name))).map(drop)
    }

    fn sync_names(&mut self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.path)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn guard(&self) -> io::Result<Option<File>> {
        // Where there is no directory, there is no state to change.
        let Some(file) = found(self.lock_file("state.lock"))? else { return Ok(None) };
        file.lock()?;
        Ok(Some(file))
    }
}
