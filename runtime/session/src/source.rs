//! Opens bundles: mapped files, and those inside a binary.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use dynamax_bundle::Bundle;
use memmap2::{Mmap, UncheckedAdvice};

use crate::verified::Note;

/// Bytes at a multiple of 64, as sections need them: for a bundle inside a binary.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Aligned<B: ?Sized>(pub B);

/// A mapped file, for all who keep its bytes.
#[derive(Clone, Debug)]
struct Mapped(Arc<Mmap>);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Asks that what is read from the file from now on comes in pages of 2 MiB where the kernel has them for files (Linux 5.18, and a file system
/// such as ext4 since 6.16): a step reads all weights in order, and with small pages it waits a fifth of its time for their addresses.
fn ask_for_large_pages(map: &Mmap) {
    // It is advice: where it is not known, pages stay small.
    #[cfg(target_os = "linux")]
    map.advise(memmap2::Advice::HugePage).ok();
    #[cfg(not(target_os = "linux"))]
    let _ = map;
}

/// Where a bundle comes from.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    bytes: Bytes,
    mapped: Option<Mapped>,
    /// What is mapped, if it is a file.
    file: Option<File>,
}

impl Source {
    /// Maps a file.
    ///
    /// # Errors
    ///
    /// A path that is no file, or cannot be mapped.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let file = File::open(path).with_context(|| {
            format!("{shown}: cannot be opened; give the path of a bundle (.dmx)")
        })?;
        let is_file =
            file.metadata().with_context(|| format!("{shown}: cannot be looked at"))?.is_file();
        anyhow::ensure!(is_file, "{shown}: not a file; give the path of a bundle (.dmx)");
        #[expect(unsafe_code, reason = "the file is mapped, not read")]
        // SAFETY: read-only; a bundle is replaced as a whole under its name, never changed in place.
        let map =
            unsafe { Mmap::map(&file) }.with_context(|| format!("{shown}: cannot be mapped"))?;
        ask_for_large_pages(&map);
        let mapped = Mapped(Arc::new(map));
        let bytes = Bytes::from_owner(mapped.clone());
        Ok(Self { path: path.into(), bytes, mapped: Some(mapped), file: Some(file) })
    }

    /// A bundle inside this binary, with a name for messages.
    #[must_use]
    pub fn embedded(name: &str, bytes: &'static Aligned<[u8]>) -> Self {
        Self { path: name.into(), bytes: Bytes::from_static(&bytes.0), mapped: None, file: None }
    }

    /// Where it comes from, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that it is, if it is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.is_some().then_some(&self.path)
    }

    /// The raw bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same bytes, for who keeps them: they stay mapped as long as anybody does.
    #[must_use]
    pub fn shared(&self) -> &Bytes {
        &self.bytes
    }

    /// Gives back the memory that mapped pages take: whoever copied what it reads needs them no more. Bytes that are looked at
    /// again are read from the file again.
    pub fn give_back(&self) {
        if let Some(Mapped(map)) = &self.mapped {
            #[expect(unsafe_code, reason = "pages of a mapped file are dropped")]
            // SAFETY: the mapping is read-only and of a file, so that a page that was dropped is read with the same bytes.
            let given = unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) };
            // It is advice: where it is not taken, memory stays in use.
            given.ok();
        }
    }

    /// The checked view; contents are not hashed yet.
    ///
    /// # Errors
    ///
    /// Why it is not a bundle.
    pub fn bundle(&self) -> Result<Bundle<'_>> {
        Bundle::parse(self.bytes()).with_context(|| self.path.display().to_string())
    }

    /// Remembers that this file, just written and hashed on the way, is whole.
    ///
    /// # Errors
    ///
    /// Why it is not a bundle.
    pub fn note_whole(&self) -> Result<()> {
        if let Some(file) = &self.file {
            Note::about(file, self.bundle()?.hash()).inspect(Note::write);
        }
        Ok(())
    }

    /// The checked view, with every section's hash compared: now, or since the file was last changed.
    ///
    /// # Errors
    ///
    /// Why it is not a bundle, or which section was changed.
    pub fn verified(&self) -> Result<Bundle<'_>> {
        let bundle = self.bundle()?;
        let note = self.file.as_ref().and_then(|file| Note::about(file, bundle.hash()));
        if !note.as_ref().is_some_and(Note::is_there) {
            self.compare(&bundle)?;
            note.inspect(Note::write);
        }
        Ok(bundle)
    }

    /// Compares every section with its hash.
    ///
    /// # Errors
    ///
    /// The first section that was changed.
    pub fn compare(&self, bundle: &Bundle<'_>) -> Result<()> {
        let threads = crate::machine::default_threads();
        bundle.verify_parallel(threads).with_context(|| self.path.display().to_string())
    }
}
