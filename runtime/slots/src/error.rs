//! What can go wrong with slots.

use crate::state::Slot;

/// What can go wrong with slots. Each says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the sentences say what each field is")]
pub enum SlotError {
    /// The disk.
    #[error("{name}: cannot be {what}")]
    Disk { name: String, what: &'static str, source: std::io::Error },
    /// A state file that does not match its own hash, or of another version.
    #[error("state: {what}; flash a bundle again with --reset, which forgets what was there")]
    State { what: &'static str },
    /// No bundle was ever flashed.
    #[error("no bundle is there; flash one with `dynamax flash`")]
    Empty,
    /// Nothing to go back to.
    #[error("slot {slot} is the only one with a bundle; flash another before going back")]
    NoOther { slot: Slot },
    /// Not enough room.
    #[error(
        "the bundle needs {need} bytes and {have} are free: {missing} are missing; remove other files, or build a smaller \
         bundle"
    )]
    Space { need: u64, have: u64, missing: u64 },
    /// More or fewer bytes than were offered.
    #[error(
        "{found} bytes arrived and {expected} were offered; send the bundle again, it goes on from there"
    )]
    Length { found: u64, expected: u64 },
    /// Another transfer has begun since.
    #[error("another bundle was offered since this transfer began; offer it again")]
    Superseded,
    /// Someone else is writing.
    #[error("another transfer is under way; wait for it to end")]
    Busy,
    /// A newer bundle has proved itself here.
    #[error(
        "the bundle is version {found}, and version {least} has run here; sign a newer one with --counter {least} or more, or \
         let an older one replace it (--allow-downgrade, or `allow_downgrade` in the device's device.toml)"
    )]
    Older { found: u64, least: u64 },
    /// What arrived was refused.
    #[error("the bundle that arrived is refused: {reason}")]
    Refused { reason: String },
}

impl SlotError {
    /// True where nothing is broken and the answer is just "no".
    #[must_use]
    pub fn is_no(&self) -> bool {
        matches!(
            self,
            Self::Empty
                | Self::NoOther { .. }
                | Self::Space { .. }
                | Self::Older { .. }
                | Self::Refused { .. }
        )
    }

    pub(crate) fn disk(name: &str, what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let name = name.to_owned();
        move |source| Self::Disk { name, what, source }
    }
}
