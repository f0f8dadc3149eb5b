//! What a person, or a program, wants to know about the slots of a device.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::disk::Disk;
use crate::error::SlotError;
use crate::slots::Slots;
use crate::state::{Image, Slot};

/// The slots, as told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The slot that starts: `a` or `b`.
    pub active: Option<String>,
    /// Starts of the active bundle so far, if none of them has confirmed it.
    pub trial_starts: Option<u32>,
    /// The oldest version that may start.
    pub floor: u64,
    /// Slot a.
    pub a: Option<Held>,
    /// Slot b.
    pub b: Option<Held>,
    /// A transfer that has begun.
    pub incoming: Option<Arriving>,
    /// Bytes that can still be written.
    pub free_bytes: Option<u64>,
}

/// A bundle in a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The hash in its prelude.
    pub hash: String,
    /// Length of its file.
    pub bytes: u64,
    /// Its version; 0 if it is not signed.
    pub counter: u64,
}

/// A bundle on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arriving {
    /// Where it goes.
    pub slot: String,
    /// What it will be.
    pub image: Held,
    /// Bytes that are there.
    pub arrived_bytes: u64,
}

impl From<Image> for Held {
    fn from(image: Image) -> Self {
        Self { hash: image.hash.to_string(), bytes: image.bytes, counter: image.counter }
    }
}

impl Report {
    /// Looks at the slots.
    ///
    /// # Errors
    ///
    /// A state that was damaged.
    pub fn of<D: Disk>(slots: &Slots<D>) -> Result<Self, SlotError> {
        let state = slots.state()?;
        let arrived = |slot: Slot| {
            let len =
                slots.disk().len(slot.file()).map_err(SlotError::disk(slot.file(), "read"))?;
            Ok::<u64, SlotError>(len.unwrap_or(0))
        };
        let incoming = state.incoming.map(|incoming| {
            Ok::<Arriving, SlotError>(Arriving {
                slot: incoming.slot.to_string(),
                image: incoming.image.into(),
                arrived_bytes: arrived(incoming.slot)?,
            })
        });
        Ok(Self {
            active: state.active.map(|slot| slot.to_string()),
            trial_starts: state.trial,
            floor: state.floor,
            a: state.a.map(Held::from),
            b: state.b.map(Held::from),
            incoming: incoming.transpose()?,
            free_bytes: slots.disk().free_bytes().ok(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, held) in [("a", &self.a), ("b", &self.b)] {
            let starts = if self.active.as_deref() == Some(name) { "starts" } else { "" };
            match held {
                Some(Held { hash, bytes, counter }) => {
                    writeln!(f, "{name} {starts:<7} {hash} · {bytes} bytes · version {counter}")?;
                }
                None => writeln!(f, "{name} {starts:<7} empty")?,
            }
        }
        if let Some(starts) = self.trial_starts {
            writeln!(f, "on trial: started {starts} times, not yet confirmed")?;
        }
        if let Some(Arriving { slot, image, arrived_bytes }) = &self.incoming {
            writeln!(f, "under way to {slot}: {arrived_bytes} of {} bytes", image.bytes)?;
        }
        write!(f, "oldest version that may start: {}", self.floor)
    }
}
