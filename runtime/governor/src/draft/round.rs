//! Rounds of drafts: what they are expected to cost, and what became of them.

/// What a round consists of by the cost model, in any one unit of cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RoundCost {
    /// A token through the segments up to the draft's exit, with the head.
    pub draft: f32,
    /// One row through the rest.
    pub rest: f32,
    /// Each further row through the rest, with a head.
    pub more: f32,
    /// Each further row through all layers, with a head.
    pub row: f32,
}

impl RoundCost {
    /// A token that is not drafted.
    pub(super) fn token(&self) -> f32 {
        self.draft + self.rest
    }
}

/// Where drafts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// None were made.
    Nobody,
    /// Exits, even if none left.
    Exits,
    /// What followed a match of this many tokens when it was said before.
    Lookup {
        /// Tokens that match.
        matched: usize,
    },
}

/// What became of a token that was not drafted, or of a round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoundSeen {
    /// Where its drafts came from.
    pub from: Origin,
    /// Drafts.
    pub drafts: u32,
    /// Those of them that were right.
    pub agreed: u32,
    /// Tokens that it yielded.
    pub tokens: u32,
    /// What it cost.
    pub cost: f32,
}
