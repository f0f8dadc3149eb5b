//! The state file: a few lines of text, with their hash in the last one.
//!
//! ```text
//! dynamax slots 1
//! active b
//! trial 1
//! floor 7
//! a 5d41402abc4b2a76b9719d911017c592… 4096 7
//! b 7d793037a0760186574b0282f2f435e7… 4096 9
//! check 9b74c9897bac770ffc029102a200c5de…
//! ```

use core::fmt;

use dynamax_bundle::Hash;

use crate::error::SlotError;

/// Name of the state file.
pub const STATE_FILE: &str = "state";
/// Its first line.
const TITLE: &str = "dynamax slots 1";

/// One of two places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Name of its file.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::A => "a.dmx",
            Self::B => "b.dmx",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "a" => Some(Self::A),
            "b" => Some(Self::B),
            _ => None,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "a",
            Self::B => "b",
        })
    }
}

/// A bundle, as a slot remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// The hash in its prelude.
    pub hash: Hash,
    /// Length of its file.
    pub bytes: u64,
    /// Its version; 0 if it is not signed.
    pub counter: u64,
}

/// A transfer that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Where it goes.
    pub slot: Slot,
    /// What it will be.
    pub image: Image,
}

/// All that is remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The slot that starts.
    pub active: Option<Slot>,
    /// Starts of the active bundle so far, if none of them has confirmed it.
    pub trial: Option<u32>,
    /// The oldest version that may start.
    pub floor: u64,
    /// Slot a.
    pub a: Option<Image>,
    /// Slot b.
    pub b: Option<Image>,
    /// A transfer that has begun.
    pub incoming: Option<Incoming>,
}

impl State {
    /// What a slot holds.
    #[must_use]
    pub fn image(&self, slot: Slot) -> Option<Image> {
        match slot {
            Slot::A => self.a,
            Slot::B => self.b,
        }
    }

    pub(crate) fn image_mut(&mut self, slot: Slot) -> &mut Option<Image> {
        match slot {
            Slot::A => &mut self.a,
            Slot::B => &mut self.b,
        }
    }

    /// The bundle that starts.
    #[must_use]
    pub fn active_image(&self) -> Option<Image> {
        self.active.and_then(|slot| self.image(slot))
    }

    /// The text of the file.
    #[must_use]
    pub fn emit(&self) -> String {
        let mut text = format!("{TITLE}\n");
        let mut line = |name: &str, value: String| text.push_str(&format!("{name} {value}\n"));
        let image = |image: Image| format!("{} {} {}", image.hash, image.bytes, image.counter);
        if let Some(slot) = self.active {
            line("active", slot.to_string());
        }
        if let Some(starts) = self.trial {
            line("trial", starts.to_string());
        }
        line("floor", self.floor.to_string());
        for slot in [Slot::A, Slot::B] {
            if let Some(held) = self.image(slot) {
                line(&slot.to_string(), image(held));
            }
        }
        if let Some(Incoming { slot, image: held }) = self.incoming {
            line("incoming", format!("{slot} {}", image(held)));
        }
        let check = Hash::of(text.as_bytes());
        text + &format!("check {check}\n")
    }

    /// Reads the text of the file.
    ///
    /// # Errors
    ///
    /// A file that was changed, or is of another version.
    pub fn parse(bytes: &[u8]) -> Result<Self, SlotError> {
        let refused = |what| SlotError::State { what };
        let text = std::str::from_utf8(bytes).map_err(|_| refused("is no text"))?;
        let checked = text.strip_suffix('\n').and_then(|text| text.rsplit_once("check "));
        let (lines, check) = checked.ok_or(refused("has no hash in its last line"))?;
        if Hash::from_hex(check) != Some(Hash::of(lines.as_bytes())) {
            return Err(refused("does not match its hash"));
        }
        let rest = lines.strip_prefix(TITLE).ok_or(refused("is of another version"))?;
        let mut state = Self::default();
        for line in rest.lines().filter(|line| !line.is_empty()) {
            state.read_line(line).ok_or(refused("has a line of another version"))?;
        }
        Ok(state)
    }

    fn read_line(&mut self, line: &str) -> Option<()> {
        let (name, value) = line.split_once(' ')?;
        match name {
            "active" => self.active = Some(Slot::parse(value)?),
            "trial" => self.trial = Some(value.parse().ok()?),
            "floor" => self.floor = value.parse().ok()?,
            "a" | "b" => *self.image_mut(Slot::parse(name)?) = Some(parse_image(value)?),
            "incoming" => {
                let (slot, image) = value.split_once(' ')?;
                self.incoming =
                    Some(Incoming { slot: Slot::parse(slot)?, image: parse_image(image)? });
            }
            _ => return None,
        }
        Some(())
    }
}

fn parse_image(text: &str) -> Option<Image> {
    let mut parts = text.split(' ');
    let hash = Hash::from_hex(parts.next()?)?;
    let (bytes, counter) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(Image { hash, bytes, counter })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> State {
        let image = |seed: u8| Image { hash: Hash([seed; 32]), bytes: 4096, counter: 7 };
        State {
            active: Some(Slot::B),
            trial: Some(1),
            floor: 7,
            a: Some(image(0xa5)),
            b: Some(image(2)),
            incoming: Some(Incoming { slot: Slot::A, image: image(3) }),
        }
    }

    #[test]
    fn a_state_is_read_as_it_was_written() {
        for state in [State::default(), full(), State { trial: None, b: None, ..full() }] {
            assert_eq!(State::parse(state.emit().as_bytes()).unwrap(), state, "{}", state.emit());
        }
    }

    #[test]
    fn any_flipped_bit_is_refused() {
        let mut text = full().emit().into_bytes();
        for bit in 0..text.len() * 8 {
            text[bit / 8] ^= 1 << (bit % 8);
            // Hex digits of the hash may be written in capitals.
            let same = State::parse(&text).is_ok_and(|state| state == full());
            assert!(same || State::parse(&text).is_err(), "bit {bit}");
            text[bit / 8] ^= 1 << (bit % 8);
        }
        for len in 0..text.len() {
            assert!(State::parse(&text[..len]).is_err(), "{len} bytes");
        }
    }
}
