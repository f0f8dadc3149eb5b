//! Two places for a bundle on a device, and a switch between them that no power cut can break.
//!
//! ```text
//! a.dmx   the bundle that runs              ┌ offer ─▶ write … write ─▶ finish ┐
//! b.dmx   the one before, or the next  ◀────┘   (resumes where it broke off)    │ one rename
//! state   which one starts, and whether it has proved itself  ◀─────────────────┘
//! ```
//!
//! A new bundle is written over the slot that does not run, forced to the disk, and checked there. Then one rename
//! replaces `state`: before it the old bundle starts, after it the new one. The new one is on trial until a start
//! confirms it; after some starts that did not, the old one comes back by itself.
//!
//! All of it is told in operations of a small [`Disk`], so that a test can cut the power at every one of them. What it
//! refuses to do: know what makes a bundle good. Who calls [`Slots::finish`] says so.

mod disk;
mod error;
mod report;
mod slots;
mod state;

pub use disk::{Directory, Disk};
pub use error::SlotError;
pub use report::{Arriving, Held, Report};
pub use slots::{Finished, SYNC_BYTES, Slots, Start, Transfer};
pub use state::{Image, Incoming, STATE_FILE, Slot, State};
