//! From `device.toml` to a bundle that may run: the slot that starts, who vouches for it, and whether it fits.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use dynamax_bundle::{PublicKey, Signature, check_trust};
use dynamax_config::{Board, DeviceConfig, ExitMode, Profile, show_bytes};
use dynamax_session::{Contents, Options, Source, keys, profiles};
use dynamax_slots::{Directory, Slot, Slots, Start};

use crate::backend;

/// Starts on trial until the bundle before comes back.
pub(crate) const MOST_STARTS: u32 = 3;

/// The configuration, with what it names looked up.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    pub(crate) config: DeviceConfig,
    pub(crate) keys: Vec<PublicKey>,
    /// Bytes that the plan may need at most.
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) threads: Option<NonZeroUsize>,
    pub(crate) api_key: Option<String>,
    /// Where the board's files are: `/`, but for tests.
    pub(crate) root: PathBuf,
}

impl Settled {
    /// Reads the file and what it names; the board's files are below `root`.
    pub(crate) fn read(path: &Path, root: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!("{}: cannot be read; give the path of a device.toml", path.display())
        })?;
        Self::new(DeviceConfig::from_text(&path.display().to_string(), &text)?, root)
    }

    fn new(config: DeviceConfig, root: &Path) -> Result<Self> {
        backend::check(&config.device)?;
        let board = Board::named(&config.device.board)
            .map_err(|problem| anyhow::anyhow!("[device] board: {problem}"))?;
        let mut trusted = Vec::new();
        for name in &config.trust.keys {
            trusted.extend(keys::trusted(name).context("[trust] keys")?);
        }
        let memory = config.device.memory.map(|bytes| bytes.0);
        let threads = config.device.threads.or(board.cores).and_then(|count| {
            // The board's cores are the most that make sense, on a machine that has them.
            let here = dynamax_session::machine::default_threads();
            NonZeroUsize::new((count as usize).min(here))
        });
        let api_key = api_key(&config)?;
        let memory_bytes = memory.or_else(|| board.usable_bytes());
        Ok(Self { config, keys: trusted, memory_bytes, threads, api_key, root: root.into() })
    }

    /// The slots of this device.
    pub(crate) fn slots(&self) -> Result<Slots<Directory>> {
        let path = &self.config.model.slots;
        let directory = Directory::create(path)
            .with_context(|| format!("[model] slots: {} cannot be made", path.display()))?;
        Ok(Slots::new(directory))
    }

    /// How a session is opened. Contents have been compared with their hashes by then.
    pub(crate) fn options(&self) -> Options {
        Options {
            threads: self.threads,
            memory_bytes: self.memory_bytes,
            contents: Contents::Unverified,
            ..Options::of_service(self.config.model.context, self.drafts())
        }
    }

    /// Drafts that are planned for, where exits are verified.
    pub(crate) fn drafts(&self) -> Option<u32> {
        let exit = &self.config.exit;
        (exit.mode == ExitMode::Verified).then_some(exit.draft_length)
    }
}

/// What clients must present.
fn api_key(config: &DeviceConfig) -> Result<Option<String>> {
    let Some(path) = &config.server.api_key_file else { return Ok(config.server.api_key.clone()) };
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("[server] api_key_file: {shown} cannot be read"))?;
    let key = text.trim();
    ensure!(!key.is_empty(), "[server] api_key_file: {shown} is empty; write a key into it");
    Ok(Some(key.to_owned()))
}

/// A bundle that may run.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) source: Source,
    pub(crate) slot: Slot,
    pub(crate) on_trial: bool,
    pub(crate) rolled_back: bool,
    pub(crate) signature: Option<Signature>,
    /// Bytes that the plan needs.
    pub(crate) planned_bytes: u64,
}

impl Ready {
    /// What the bundle was found to cost on this board: see [`profiles::beside`].
    pub(crate) fn profile(&self, settled: &Settled, backend: &str) -> Result<Option<Profile>> {
        let hash = self.source.bundle()?.hash();
        profiles::beside(self.source.path(), hash, (&settled.config.device.board, backend))
    }
}

/// Picks the slot that starts, counting the start if it is on trial. A bundle on trial that cannot run gives way to the
/// one before at once.
pub(crate) fn start(settled: &Settled) -> Result<Ready> {
    let mut slots = settled.slots()?;
    let mut start = slots.start(MOST_STARTS)?;
    loop {
        match examine(settled, &slots, &start) {
            Ok(ready) => return Ok(ready),
            Err(error) if start.on_trial && slots.fail()? => {
                eprintln!("dynamaxd: slot {}: {error:#}; going back to the one before", start.slot);
                start = Start { rolled_back: true, ..slots.start(MOST_STARTS)? };
            }
            Err(error) => return Err(error.context(format!("slot {}", start.slot))),
        }
    }
}

/// What would start, without counting it.
pub(crate) fn look(settled: &Settled) -> Result<Ready> {
    let slots = Slots::new(Directory::at(&settled.config.model.slots));
    let state = slots.state()?;
    let slot = state.active.ok_or(dynamax_slots::SlotError::Empty)?;
    let image = state.active_image().ok_or(dynamax_slots::SlotError::Empty)?;
    let (floor, on_trial) = (state.floor, state.trial.is_some());
    let start = Start { slot, image, floor, on_trial, rolled_back: false };
    examine(settled, &slots, &start).with_context(|| format!("slot {slot}"))
}

fn examine(settled: &Settled, slots: &Slots<Directory>, start: &Start) -> Result<Ready> {
    let source = Source::open(&slots.disk().path(start.slot.file()))?;
    let least = if settled.config.trust.refuses_older() { start.floor } else { 0 };
    let (signature, planned_bytes) = admit(settled, &source, least)?;
    let found = source.bundle()?.hash();
    ensure!(
        found == start.image.hash,
        "{}: another bundle than was flashed; flash it again",
        source.path().display()
    );
    let &Start { slot, on_trial, rolled_back, .. } = start;
    Ok(Ready { source, slot, on_trial, rolled_back, signature, planned_bytes })
}

/// Checks who vouches for a bundle, that it is what was vouched for, and that it fits: its signature and the bytes
/// that it needs.
pub(crate) fn admit(
    settled: &Settled,
    source: &Source,
    least: u64,
) -> Result<(Option<Signature>, u64)> {
    let path = || source.path().display().to_string();
    let bundle = source.bundle()?;
    let signature = if settled.config.trust.require_signature {
        Some(check_trust(&bundle, &settled.keys, least).with_context(path)?)
    } else {
        bundle.signature().copied()
    };
    // Before a large file is hashed: this is read from its header alone.
    let planned_bytes = settled.options().planned_bytes(&bundle).with_context(|| {
        let limit = show_bytes(settled.memory_bytes.unwrap_or(u64::MAX));
        format!("{}: does not fit into [device] memory, {limit}", path())
    })?;
    source.verified()?;
    Ok((signature, planned_bytes))
}

/// Where the configuration is, by default.
pub(crate) fn default_config() -> PathBuf {
    "/etc/dynamax/device.toml".into()
}
