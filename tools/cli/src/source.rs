//! Opens bundles: mapped files, and the demos inside this binary.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dynamax_bundle::Bundle;
use memmap2::Mmap;

use crate::verified::Note;

/// Bytes at a multiple of 64, as sections need them.
#[repr(C, align(64))]
struct Aligned<B: ?Sized>(B);

static MAMBA2: &Aligned<[u8]> = &Aligned(*include_bytes!("../demo/mamba2.dmx"));
static TRANSFORMER: &Aligned<[u8]> = &Aligned(*include_bytes!("../demo/transformer.dmx"));

/// A demo inside this binary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Demo {
    /// A Mamba-2, trained on public-domain books.
    #[default]
    Mamba2,
    /// A transformer, trained on the same.
    Transformer,
}

/// Where a bundle comes from.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    Mapped(File, Mmap),
    Demo(&'static [u8]),
}

impl Source {
    /// Maps a file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
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
        Ok(Self { path: path.into(), bytes: Bytes::Mapped(file, map) })
    }

    /// The demo inside this binary.
    pub(crate) fn demo(demo: Demo) -> Self {
        let (name, bytes) = match demo {
            Demo::Mamba2 => ("(demo mamba2)", &MAMBA2.0),
            Demo::Transformer => ("(demo transformer)", &TRANSFORMER.0),
        };
        Self { path: name.into(), bytes: Bytes::Demo(bytes) }
    }

    /// Where it comes from, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The raw bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(_, map) => map,
            Bytes::Demo(bytes) => bytes,
        }
    }

    /// The checked view; contents are not hashed yet.
    pub(crate) fn bundle(&self) -> Result<Bundle<'_>> {
        Bundle::parse(self.bytes()).with_context(|| self.path.display().to_string())
    }

    /// Remembers that this file, just written and hashed on the way, is whole.
    pub(crate) fn note_whole(&self) -> Result<()> {
        if let Bytes::Mapped(file, _) = &self.bytes {
            Note::about(file, self.bundle()?.hash()).inspect(Note::write);
        }
        Ok(())
    }

    /// The checked view, with every section's hash compared: now, or since the file was last changed.
    pub(crate) fn verified(&self) -> Result<Bundle<'_>> {
        let bundle = self.bundle()?;
        let note = match &self.bytes {
            Bytes::Mapped(file, _) => Note::about(file, bundle.hash()),
            Bytes::Demo(_) => None,
        };
        if !note.as_ref().is_some_and(Note::is_there) {
            self.compare(&bundle)?;
            note.inspect(Note::write);
        }
        Ok(bundle)
    }

    /// Compares every section with its hash.
    pub(crate) fn compare(&self, bundle: &Bundle<'_>) -> Result<()> {
        let threads = crate::machine::default_threads();
        bundle.verify_parallel(threads).with_context(|| self.path.display().to_string())
    }
}
