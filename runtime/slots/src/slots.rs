//! What is done with two slots.

use crate::disk::Disk;
use crate::error::SlotError;
use crate::state::{Image, Incoming, STATE_FILE, Slot, State};

/// Name of the state file while it is written.
const NEXT_STATE_FILE: &str = "state.new";
/// Contents are forced to the disk each time this many bytes have arrived: what a transfer that is cut loses at most.
pub const SYNC_BYTES: u64 = 8 << 20;
/// Room that a file system needs for itself, and for the state.
const SPARE_BYTES: u64 = 64 << 10;

/// The slots on a disk.
#[derive(Debug)]
pub struct Slots<D> {
    disk: D,
    sync_bytes: u64,
}

/// A transfer in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    incoming: Incoming,
    at: u64,
}

impl Transfer {
    /// Where it goes.
    #[must_use]
    pub fn slot(&self) -> Slot {
        self.incoming.slot
    }

    /// Bytes that are there: send what follows.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.at
    }
}

/// What a start should run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The slot.
    pub slot: Slot,
    /// What it holds.
    pub image: Image,
    /// The oldest version that may start.
    pub floor: u64,
    /// It waits to be confirmed.
    pub on_trial: bool,
    /// The bundle on trial failed too often, and this is the one before it.
    pub rolled_back: bool,
}

/// How a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The slot that starts from now on.
    pub slot: Slot,
    /// The slot that comes back if it fails.
    pub fallback: Option<Slot>,
}

impl<D: Disk> Slots<D> {
    /// The slots on `disk`.
    pub fn new(disk: D) -> Self {
        Self::with_sync_bytes(disk, SYNC_BYTES)
    }

    /// The slots on `disk`, with contents forced to it each time this many bytes have arrived.
    pub fn with_sync_bytes(disk: D, sync_bytes: u64) -> Self {
        Self { disk, sync_bytes: sync_bytes.max(1) }
    }

    /// The disk.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// What is remembered.
    ///
    /// # Errors
    ///
    /// A state that was damaged.
    pub fn state(&self) -> Result<State, SlotError> {
        let bytes = self.disk.read(STATE_FILE).map_err(SlotError::disk(STATE_FILE, "read"))?;
        bytes.map_or_else(|| Ok(State::default()), |bytes| State::parse(&bytes))
    }

    /// Forgets everything: for a state that was damaged.
    ///
    /// # Errors
    ///
    /// As the disk says.
    pub fn reset(&mut self) -> Result<(), SlotError> {
        let _alone = self.guard()?;
        self.save(&State::default())
    }

    fn guard(&self) -> Result<Option<std::fs::File>, SlotError> {
        self.disk.guard().map_err(SlotError::disk(STATE_FILE, "locked"))
    }

    /// Replaces the state file: contents first, then the name, each forced to the disk.
    fn save(&mut self, state: &State) -> Result<(), SlotError> {
        let written = |slots: &mut Self| {
            // One that a cut has left may be another user's.
            slots.disk.remove(NEXT_STATE_FILE)?;
            slots.disk.truncate(NEXT_STATE_FILE, 0)?;
            slots.disk.append(NEXT_STATE_FILE, state.emit().as_bytes())?;
            slots.disk.sync(NEXT_STATE_FILE)?;
            slots.disk.rename(NEXT_STATE_FILE, STATE_FILE)?;
            slots.disk.sync_names()
        };
        written(self).map_err(SlotError::disk(STATE_FILE, "written"))
    }

    /// Refuses a bundle that is older than one that has proved itself here. One that is not signed is version 0.
    ///
    /// # Errors
    ///
    /// [`SlotError::Older`]; a state that was damaged.
    pub fn admit(&self, counter: u64) -> Result<(), SlotError> {
        let least = self.state()?.floor;
        if counter < least {
            return Err(SlotError::Older { found: counter, least });
        }
        Ok(())
    }

    /// Prepares a slot for `image`: the one that does not run, or the one on trial, which is given up for it. Goes on
    /// where a transfer of the same bundle broke off.
    ///
    /// # Errors
    ///
    /// Too little room; nothing is touched then.
    pub fn offer(&mut self, image: Image) -> Result<Transfer, SlotError> {
        let _alone = self.guard()?;
        let mut state = self.state()?;
        if let Some(incoming) = state.incoming
            && incoming.image == image
        {
            let at = self.safe_len(incoming.slot, image.bytes)?;
            self.check_space(incoming.slot, image.bytes)?;
            return self.resume(incoming, at);
        }
        give_up_trial(&mut state);
        let slot = state.active.map_or(Slot::A, Slot::other);
        self.check_space(slot, image.bytes)?;
        let incoming = Incoming { slot, image };
        // The state says that the slot is empty, then it is, then something comes: were it told in one, a cut would
        // leave the bundle that was there to be taken for the start of the new one.
        (*state.image_mut(slot), state.incoming) = (None, None);
        self.save(&state)?;
        self.disk.remove(slot.file()).map_err(SlotError::disk(slot.file(), "removed"))?;
        self.disk.sync_names().map_err(SlotError::disk(slot.file(), "removed"))?;
        state.incoming = Some(incoming);
        self.save(&state)?;
        self.resume(incoming, 0)
    }

    fn resume(&mut self, incoming: Incoming, at: u64) -> Result<Transfer, SlotError> {
        let file = incoming.slot.file();
        self.disk.truncate(file, at).map_err(SlotError::disk(file, "made"))?;
        // The name must last before the contents that are forced to the disk under it.
        self.disk.sync_names().map_err(SlotError::disk(file, "made"))?;
        Ok(Transfer { incoming, at })
    }

    /// Bytes of a broken transfer that are surely there. What follows a multiple of `sync_bytes` was written after
    /// what precedes it was forced to the disk; the last part may be anything.
    fn safe_len(&self, slot: Slot, bytes: u64) -> Result<u64, SlotError> {
        let len = self.disk.len(slot.file()).map_err(SlotError::disk(slot.file(), "read"))?;
        let len = len.unwrap_or(0).min(bytes);
        Ok(len.saturating_sub(1) / self.sync_bytes * self.sync_bytes)
    }

    /// There is room for `bytes` in place of what the slot holds.
    fn check_space(&self, slot: Slot, bytes: u64) -> Result<(), SlotError> {
        let file = slot.file();
        let free = self.disk.free_bytes().map_err(SlotError::disk(file, "measured"))?;
        let held = self.disk.len(file).map_err(SlotError::disk(file, "read"))?.unwrap_or(0);
        let (need, have) = (bytes.saturating_add(SPARE_BYTES), free.saturating_add(held));
        if need > have {
            return Err(SlotError::Space { need, have, missing: need - have });
        }
        Ok(())
    }

    /// Writes the next bytes of a transfer.
    ///
    /// # Errors
    ///
    /// More bytes than were offered; as the disk says.
    pub fn write(&mut self, transfer: &mut Transfer, mut bytes: &[u8]) -> Result<(), SlotError> {
        let (file, expected) = (transfer.incoming.slot.file(), transfer.incoming.image.bytes);
        let found = transfer.at.saturating_add(bytes.len() as u64);
        if found > expected {
            return Err(SlotError::Length { found, expected });
        }
        while !bytes.is_empty() {
            let room = self.sync_bytes - transfer.at % self.sync_bytes;
            let (now, rest) = bytes.split_at(bytes.len().min(room as usize));
            self.disk.append(file, now).map_err(SlotError::disk(file, "written"))?;
            transfer.at += now.len() as u64;
            if transfer.at.is_multiple_of(self.sync_bytes) {
                self.disk.sync(file).map_err(SlotError::disk(file, "forced to the disk"))?;
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Ends a transfer: forces it to the disk, lets `check` look at the file, and switches to it.
    ///
    /// What `check` refuses is forgotten, and the transfer starts anew.
    ///
    /// # Errors
    ///
    /// Bytes that are missing; what `check` says.
    pub fn finish(
        &mut self,
        transfer: Transfer,
        check: impl FnOnce(&D, &'static str) -> Result<(), String>,
    ) -> Result<Finished, SlotError> {
        let Transfer { incoming, at: found } = transfer;
        let Incoming { slot, image } = incoming;
        if found != image.bytes {
            return Err(SlotError::Length { found, expected: image.bytes });
        }
        let file = slot.file();
        self.disk.sync(file).map_err(SlotError::disk(file, "forced to the disk"))?;
        let checked = check(&self.disk, file);
        let _alone = self.guard()?;
        // Read anew: the device may have started, and counted it, since the transfer began.
        let mut state = self.state()?;
        if state.incoming != Some(incoming) {
            return Err(SlotError::Superseded);
        }
        state.incoming = None;
        if let Err(reason) = checked {
            self.save(&state)?;
            self.disk.remove(file).map_err(SlotError::disk(file, "removed"))?;
            return Err(SlotError::Refused { reason });
        }
        let fallback = state.active;
        *state.image_mut(slot) = Some(image);
        (state.active, state.trial) = (Some(slot), Some(0));
        self.save(&state)?;
        Ok(Finished { slot, fallback })
    }

    /// Says what to run now, and counts the start if it is one on trial. After `most_starts` of these the bundle before
    /// comes back.
    ///
    /// # Errors
    ///
    /// No bundle at all.
    pub fn start(&mut self, most_starts: u32) -> Result<Start, SlotError> {
        let _alone = self.guard()?;
        let mut state = self.state()?;
        let mut rolled_back = false;
        if let Some(starts) = state.trial {
            rolled_back = starts >= most_starts && give_up_trial(&mut state);
            if !rolled_back {
                // Without another bundle there is nothing to do but to try again.
                state.trial = Some(starts.saturating_add(1).min(most_starts));
            }
            self.save(&state)?;
        }
        let slot = state.active.ok_or(SlotError::Empty)?;
        let image = state.image(slot).ok_or(SlotError::Empty)?;
        let (floor, on_trial) = (state.floor, state.trial.is_some());
        Ok(Start { slot, image, floor, on_trial, rolled_back })
    }

    /// The bundle on trial cannot start at all: the one before comes back at once. False if none is on trial, or there
    /// is nothing to come back to.
    ///
    /// # Errors
    ///
    /// As the disk says.
    pub fn fail(&mut self) -> Result<bool, SlotError> {
        let _alone = self.guard()?;
        let mut state = self.state()?;
        let gave_up = give_up_trial(&mut state);
        if gave_up {
            self.save(&state)?;
        }
        Ok(gave_up)
    }

    /// The bundle that runs has proved itself: it is no longer on trial, and older ones may not start from now on.
    ///
    /// # Errors
    ///
    /// As the disk says.
    pub fn confirm(&mut self) -> Result<(), SlotError> {
        let _alone = self.guard()?;
        let mut state = self.state()?;
        let counter = state.active_image().ok_or(SlotError::Empty)?.counter;
        if state.trial.is_none() && state.floor >= counter {
            return Ok(());
        }
        (state.trial, state.floor) = (None, state.floor.max(counter));
        self.save(&state)
    }

    /// Goes back to the other bundle, on purpose: it may start although it is older.
    ///
    /// # Errors
    ///
    /// There is no other bundle.
    pub fn rollback(&mut self) -> Result<Slot, SlotError> {
        let _alone = self.guard()?;
        let mut state = self.state()?;
        let slot = state.active.ok_or(SlotError::Empty)?;
        let other = state.image(slot.other()).ok_or(SlotError::NoOther { slot })?;
        (state.active, state.trial) = (Some(slot.other()), None);
        state.floor = state.floor.min(other.counter);
        self.save(&state)?;
        Ok(slot.other())
    }
}

/// Goes back from a bundle on trial to the one before; false if there is none.
fn give_up_trial(state: &mut State) -> bool {
    let before = state.active.map(Slot::other);
    let held = before.is_some_and(|slot| state.image(slot).is_some());
    if state.trial.is_some() && held {
        (state.active, state.trial) = (before, None);
        return true;
    }
    false
}
