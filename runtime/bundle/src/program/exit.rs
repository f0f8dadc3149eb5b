//! Where a token may leave before the last layer.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use super::TensorId;

/// What decides at an exit (Nogales, Gambella & Roveri 2025, arXiv 2504.20922). All read the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Classifier {
    /// One layer, as in CALM (Schuster et al. 2022).
    Calm,
    /// A feed-forward block of a transformer.
    Ffn,
    /// A narrow Mamba block with a small projection out; has a state of its own along the sequence.
    Mamba,
}

impl Classifier {
    /// The name used on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Ffn => "ffn",
            Self::Mamba => "mamba",
        }
    }
}

/// What happens to the state of the layers that a token did not reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StateMode {
    /// Attention: keys and values of the block before are copied; Mamba: the state is left as it is (arXiv 2504.20922).
    Copy,
    /// The residual row at the exit goes through the projections that feed the state, and nothing else (CALM).
    Propagate,
    /// Skipped layers never hear of the token.
    Skip,
    /// The residual row waits until a later token goes deeper, or there is no more room; then all that wait run
    /// together. The state is that of full depth, bit for bit.
    #[default]
    Deferred,
}

impl StateMode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Copy, Self::Propagate, Self::Skip, Self::Deferred];

    /// The name used on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Propagate => "propagate",
            Self::Skip => "skip",
            Self::Deferred => "deferred",
        }
    }
}

/// A place where a token may leave: a probe that decides, and a head that speaks if it does.
///
/// ```text
/// residual ─ probe ─▶ score: two logits, go on and exit
///          └ Select ─ (adapter) ─ norm ─ Linear ─▶ logits
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The segment at whose end it stands; not the last.
    pub segment: u16,
    /// What decides.
    pub classifier: Classifier,
    /// Index of the probe's first operator.
    pub first_op: u16,
    /// One past the probe's last operator: where the exit's head starts.
    pub probe_end: u16,
    /// One past the last operator of the exit's head.
    pub end_op: u16,
    /// `[1, 2]`, written by the probe's last operator: logits of going on and of leaving.
    pub score: TensorId,
    /// `[1, vocab_size]`, written by the last operator of the exit's head.
    pub logits: TensorId,
}

impl Exit {
    /// Fills storage before a Program is decoded into it.
    pub const EMPTY: Self = Self {
        segment: 0,
        classifier: Classifier::Calm,
        first_op: 0,
        probe_end: 0,
        end_op: 0,
        score: TensorId(0),
        logits: TensorId(0),
    };

    /// The operators that decide.
    #[must_use]
    pub fn probe(self) -> Range<usize> {
        usize::from(self.first_op)..usize::from(self.probe_end)
    }

    /// The operators that lead to the logits of a token that leaves.
    #[must_use]
    pub fn head(self) -> Range<usize> {
        usize::from(self.probe_end)..usize::from(self.end_op)
    }
}

impl Default for Exit {
    fn default() -> Self {
        Self::EMPTY
    }
}
