//! The bundle that is sent: checked here first, then again where it arrives.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use dynamax_bundle::check_trust;
use dynamax_session::{Options, Source, keys};
use dynamax_slots::{Disk, Image, Slots};

use super::Done;
use crate::progress;

/// Bytes handed on at once.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// A bundle on its way.
pub(super) struct Parcel {
    pub(super) source: Source,
    pub(super) image: Image,
    /// It may replace a newer one.
    may_be_older: bool,
}

impl Parcel {
    /// Opens and checks a bundle, and who signed it if keys are given.
    pub(super) fn open(path: &Path, trusted: &[PathBuf], may_be_older: bool) -> Result<Self> {
        let source = Source::open(path)?;
        let bundle = source.verified()?;
        let mut public = Vec::new();
        for path in trusted {
            public.extend(keys::read_public(path)?);
        }
        if !public.is_empty() {
            let checked = check_trust(&bundle, &public, 0);
            checked.with_context(|| path.display().to_string()).map_err(|error| {
                anyhow::Error::from(crate::failure::Failure(format!("{error:#}")))
            })?;
        }
        let counter = bundle.signature().map_or(0, |signature| signature.counter);
        let image = Image { hash: bundle.hash(), bytes: source.bytes().len() as u64, counter };
        Ok(Self { source, image, may_be_older })
    }

    /// Bytes that its plan needs, if they are not too many.
    pub(super) fn plan(&self, options: &Options) -> Result<u64> {
        let needed = options.planned_bytes(&self.source.bundle()?);
        needed.with_context(|| format!("{} does not fit onto the device", self.shown()))
    }

    fn shown(&self) -> String {
        self.source.path().display().to_string()
    }

    /// Sends it into slots that this program sees, in pieces of at most `piece_bytes`.
    pub(super) fn deliver<D: Disk>(
        &self,
        slots: &mut Slots<D>,
        piece_bytes: usize,
        planned_bytes: u64,
        check: impl FnOnce(&D, &'static str) -> Result<(), String>,
    ) -> Result<Done> {
        if !self.may_be_older {
            slots.admit(self.image.counter)?;
        }
        let mut transfer = slots.offer(self.image)?;
        let resumed_bytes = transfer.offset();
        let bar = progress::bytes(self.image.bytes, "writing");
        bar.inc(resumed_bytes);
        for piece in self.source.bytes()[resumed_bytes as usize..].chunks(piece_bytes) {
            slots.write(&mut transfer, piece)?;
            bar.inc(piece.len() as u64);
        }
        bar.finish_and_clear();
        let finished = slots.finish(transfer, check)?;
        Ok(self.done(
            finished.slot.to_string(),
            finished.fallback.map(|slot| slot.to_string()),
            resumed_bytes,
            planned_bytes,
        ))
    }

    pub(super) fn done(
        &self,
        slot: String,
        fallback: Option<String>,
        resumed_bytes: u64,
        planned_bytes: u64,
    ) -> Done {
        let Image { hash, bytes, counter } = self.image;
        let hash = hash.to_string();
        Done { slot, fallback, hash, counter, bytes, resumed_bytes, planned_bytes }
    }

    /// A file that arrived is this bundle, byte by byte.
    pub(super) fn compare(&self, path: &Path) -> Result<()> {
        let arrived = Source::open(path)?;
        let bundle = arrived.bundle()?;
        ensure!(bundle.hash() == self.image.hash, "{}: another bundle arrived", path.display());
        arrived.compare(&bundle)
    }
}
