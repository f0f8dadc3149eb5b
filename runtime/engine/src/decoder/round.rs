//! A round of drafts: tokens that left early in a row, until the last layer has been asked about all of them.
//!
//! ```text
//! fed        t₀  d₁  d₂  d₃       t₀ is certain; each draft is what an exit said behind the token before
//! last layer y₁  y₂  y₃  y₄       all rows together, weights read once
//! right      d₁ = y₁, d₂ = y₂, d₃ ≠ y₃: three tokens are known, and the row of d₃ is forgotten
//! ```

use super::{Decoder, PENDING_MAX};

/// Rows since the last token that was certain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    /// Position of its first row.
    pub(super) start: u32,
    /// Rows fed.
    rows: u32,
    /// Rows that are known to be right; the last layer has been asked about none of them if 0.
    right: u32,
    /// What was fed.
    tokens: [u32; PENDING_MAX as usize + 1],
}

impl Round {
    /// A round whose first row comes next.
    pub(super) fn new(start: u32) -> Self {
        Self { start, rows: 0, right: 0, tokens: [0; PENDING_MAX as usize + 1] }
    }

    pub(super) fn push(&mut self, token: u32) {
        self.tokens[self.rows as usize] = token;
        self.rows += 1;
    }

    /// The last layer has been asked: the first row is right whatever it says.
    pub(super) fn verify(&mut self) {
        self.right = 1;
    }

    /// True if the last layer has been asked.
    pub(super) fn is_verified(&self) -> bool {
        self.right > 0
    }

    /// Position behind the rows that are known to be right, or behind all where nothing is known.
    pub(super) fn position(&self) -> u32 {
        self.start + if self.is_verified() { self.right } else { self.rows }
    }
}

impl Decoder<'_> {
    /// Goes on behind a draft that turned out right: true if `token` is what was drafted where the newest logits are.
    ///
    /// With [`ExitSettings::drafts`](crate::ExitSettings::drafts), a step that went through all layers took along the
    /// drafts before it, and [`Self::logits`] are those behind the first of these rows, which are exact. If the token that
    /// they lead to was drafted, its logits are known already, and exact too. If it was not, the drafts are forgotten by
    /// whatever is fed next: no answer depends on them.
    pub fn accept(&mut self, token: u32) -> bool {
        let Some(round) = self.round.as_mut().filter(|round| round.is_verified()) else {
            return false;
        };
        let is_right = round.right < round.rows && round.tokens[round.right as usize] == token;
        if is_right {
            round.right += 1;
            let row = round.right as usize - 1;
            self.say(self.model.program().logits, row);
        }
        is_right
    }

    /// Ends a round: states go over the drafts that were right, and forget the others.
    pub(super) fn settle(&mut self) {
        let Some(round) = self.round.filter(Round::is_verified) else { return };
        self.round = None;
        if round.right > 1 && self.model.sizes().log_bytes > 0 {
            let (crew, right) = (self.crew, round.right as usize);
            let all = round.right == round.rows;
            let went_ahead = all && crew.device().is_none() && self.model.goes_ahead();
            let pass = self.pass(&[]);
            crew.rows(|worker| pass.settle(right, went_ahead, worker));
            self.swapped ^= went_ahead;
        }
        let stages = self.model.program().exits.len() + 1;
        self.progress.rewind(round.position(), stages);
    }
}
