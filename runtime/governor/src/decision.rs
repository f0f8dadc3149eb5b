//! What the governor tells the decode loop before a token, and what the loop tells it after.

use crate::cost::MAX_SEGMENTS;
use crate::event::Events;
use crate::mode::Mode;
use crate::units::Microjoules;

/// What the next token may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// No token may be started: the meter is broken, and the user wants to stop then.
    pub stop: bool,
    /// The token leaves where an exit's score reaches this; more than 1: nowhere. Of a round of drafts, the product of their scores
    /// must reach it.
    pub threshold: f32,
    /// The deepest segment that may be started.
    pub last_segment: u8,
    /// Microseconds from the token's start to its deadline.
    pub deadline_us: Option<u32>,
    /// Latest time from the token's start at which each segment may be started, so that it and the head are in time.
    pub latest_start_us: [u32; MAX_SEGMENTS],
    /// Too many rows wait: this token runs to the end, whatever its scores.
    pub catch_up_now: bool,
    /// Tokens to draft before they are verified; 0: none.
    pub draft_length: u8,
    /// What the governor is busy with.
    pub mode: Mode,
    /// What happened since the last decision.
    pub events: Events,
}

impl Decision {
    /// Whether the token leaves behind `segment`, given the exit's score and the time since the token's start.
    #[must_use]
    pub fn leaves_behind(&self, segment: usize, score: f32, elapsed_us: u32) -> bool {
        !self.may_start(segment + 1, elapsed_us) || (!self.catch_up_now && score >= self.threshold)
    }

    /// Whether `segment` may be started so long after the token's start.
    #[must_use]
    pub fn may_start(&self, segment: usize, elapsed_us: u32) -> bool {
        let latest = self.latest_start_us.get(segment).copied().unwrap_or(0);
        segment == 0 || (segment <= usize::from(self.last_segment) && elapsed_us <= latest)
    }
}

/// What became of a token, or of a round of drafts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Tokens that it yielded: 1, but for a round of drafts.
    pub tokens: u8,
    /// The segment behind which the token left; of a round, behind which its drafts did, and the last if there were none.
    pub exit_segment: u8,
    /// Rows that waited and were computed along; 0: they wait on, or none did.
    pub catch_up_rows: u16,
    /// Time that it took.
    pub elapsed_us: u32,
    /// Energy that it took, if a meter said so.
    pub energy: Option<Microjoules>,
    /// What a catch-up revealed; of a round, all its drafts.
    pub revealed: Option<Revealed>,
}

/// Rows whose answer at full depth has become known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revealed {
    /// Those whose early answer was the same.
    pub agreed: u16,
    /// All of them.
    pub of: u16,
}

impl Sample {
    /// A token that left behind `exit_segment` after this time: nothing caught up, revealed or measured.
    #[must_use]
    pub fn new(exit_segment: u8, elapsed_us: u32) -> Self {
        Self { tokens: 1, exit_segment, catch_up_rows: 0, elapsed_us, energy: None, revealed: None }
    }
}
