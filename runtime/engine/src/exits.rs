//! How exits are used: what happens to skipped layers, and what a token's way through the model was.

use dynamax_bundle::check::MAX_EXITS;
use dynamax_bundle::{Op, Program, StateMode};

use crate::error::ExitError;
use crate::model::Model;

/// Most rows that may wait at exits, all exits together.
pub const PENDING_MAX: u32 = 63;

/// How a decoder uses exits. Chosen at the start of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitSettings {
    /// What happens to the state of skipped layers.
    pub state: StateMode,
    /// Rows that may wait before a token takes them along, for [`StateMode::Deferred`]; 0 takes as many as were planned.
    pub pending_max: u32,
    /// Compare what waiting tokens said with what the last layer says when they are caught up.
    pub reveals: bool,
    /// Tokens behind one that left early are drafts, until the last layer has been asked: see
    /// [`Decoder::accept`](crate::Decoder::accept).
    pub drafts: bool,
}

impl Default for ExitSettings {
    fn default() -> Self {
        Self { state: StateMode::Deferred, pending_max: 0, reveals: false, drafts: false }
    }
}

impl ExitSettings {
    /// Checks the settings against a Program, and resolves `pending_max`.
    pub(crate) fn resolve(self, model: &Model<'_>) -> Result<Self, ExitError> {
        let (program, settings) = (model.program(), model.settings());
        // Drafts may come from elsewhere.
        if program.exits.is_empty() && !self.drafts {
            return Err(ExitError::NoExits);
        }
        if self.state == StateMode::Copy {
            copyable(program)?;
        }
        if self.drafts && (self.state != StateMode::Deferred || !model.can_draft()) {
            return Err(ExitError::Drafts);
        }
        let most = match self.drafts {
            true => settings.drafts,
            false => PENDING_MAX.min(settings.max_rows.saturating_sub(1)),
        };
        match (self.state, self.pending_max) {
            (StateMode::Deferred, found) if found > most || most == 0 => {
                Err(ExitError::Pending { found, most })
            }
            (_, 0) => Ok(Self { pending_max: most, ..self }),
            _ => Ok(self),
        }
    }
}

/// Every attention layer behind an exit can take what the last one before it has.
fn copyable(program: &Program<'_>) -> Result<(), ExitError> {
    let shape = |op: &Op| match *op {
        Op::Attention { k_cache, n_kv_heads, .. } => {
            Some((program.tensor(k_cache).width, n_kv_heads))
        }
        _ => None,
    };
    let first_exit = program.exits.first().map_or(0, |exit| usize::from(exit.segment));
    let mut last = None;
    for (index, segment) in program.segments.iter().enumerate() {
        for found in program.ops[segment.ops()].iter().filter_map(shape) {
            if index > first_exit && last != Some(found) {
                return Err(ExitError::Copy);
            }
            last = Some(found);
        }
    }
    Ok(())
}

/// Why the probes of a token were asked: which exit, what it scored, where the sequence is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probed {
    /// Index of the exit.
    pub exit: usize,
    /// Probability that the token is settled, 0..=1.
    pub score: f32,
    /// Position of the token.
    pub position: u32,
}

/// Decides where a token leaves.
pub trait Decide: Sync {
    /// What is decided at an exit whatever it scores, if that is certain: it is not asked then, so that nobody computes its score
    /// or waits for it. Throughout a token every thread is told the same.
    fn foregone(&self, exit: usize) -> Option<bool> {
        let _ = exit;
        None
    }

    /// Leaves here?
    fn leaves(&self, probed: Probed) -> bool;
}

/// Decides by a closure, which every exit asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByScore<F>(pub(crate) F);

impl<F: Fn(Probed) -> bool + Sync> Decide for ByScore<F> {
    fn leaves(&self, probed: Probed) -> bool {
        (self.0)(probed)
    }
}

/// What became of one token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Index of the last segment whose residual it was answered from.
    pub segment: u16,
    /// Index of the last segment that ran in this step: behind `segment` where rows were caught up.
    pub reach: u16,
    /// Rows that had waited and ran through the last segment now.
    pub caught_up: u32,
    /// Of these, how many were compared with what they had said.
    pub revealed: u32,
    /// Of these, how many had said what the last layer says.
    pub agreed: u32,
    /// Exits whose score was asked for: a bit for each segment that one stands behind.
    pub asked: u32,
    /// Drafts that went through all layers with the token, in the same pass.
    pub drafts: u32,
}

/// What an exit says about a token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Said {
    /// Probability that the token is settled, 0..=1.
    pub score: f32,
    /// The token with the largest logit there.
    pub token: u32,
}

/// Thresholds on scores: leaves at the first exit that scores enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// One for each exit; a score of at least this leaves. Above 1: never.
    pub exits: [f32; MAX_EXITS],
    /// CALM's decay (Schuster et al. 2022, section 3.3): position `t` behind the prompt has the threshold
    /// `λ · (0.9 + 0.1 · exp(-τ · t / n))`.
    pub decay: Option<Decay>,
}

/// How thresholds fall along an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decay {
    /// `τ`.
    pub rate: f32,
    /// Position of the first token of the answer.
    pub start: u32,
    /// Tokens of the answer, `n`.
    pub length: u32,
}

impl Thresholds {
    /// The same threshold at every exit.
    #[must_use]
    pub const fn all(threshold: f32) -> Self {
        Self { exits: [threshold; MAX_EXITS], decay: None }
    }

    /// Leaves here?
    #[must_use]
    pub fn leave(&self, probed: Probed) -> bool {
        let factor = self.decay.map_or(1.0, |decay| decay.factor(probed.position));
        probed.score >= self.exits[probed.exit] * factor
    }
}

impl Decide for Thresholds {
    fn foregone(&self, exit: usize) -> Option<bool> {
        // Thresholds fall to nine tenths at most.
        let least = self.decay.map_or(1.0, |_| 0.9);
        (self.exits[exit] * least > 1.0).then_some(false)
    }

    fn leaves(&self, probed: Probed) -> bool {
        self.leave(probed)
    }
}

impl Decay {
    fn factor(&self, position: u32) -> f32 {
        let t = position.saturating_sub(self.start) as f32 / self.length.max(1) as f32;
        0.9 + 0.1 * dynamax_kernels::math::exp(-self.rate * t)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_leaves_from_the_threshold_on() {
        let thresholds = Thresholds::all(0.5);
        let probed = |score| Probed { exit: 3, score, position: 0 };
        assert!(thresholds.leave(probed(0.5)), "as much as asked");
        assert!(!thresholds.leave(probed(0.499)), "less");
        assert!(!Thresholds::all(1.5).leave(probed(1.0)), "never");
    }

    #[test]
    fn what_no_score_reaches_is_not_asked() {
        let decay = Some(Decay { rate: 4.0, start: 0, length: 8 });
        let asked = |threshold, decay| {
            let thresholds = Thresholds { decay, ..Thresholds::all(threshold) };
            thresholds.foregone(0)
        };
        assert_eq!(asked(1.0, None), None, "a score of 1 would do");
        assert_eq!(asked(1.001, None), Some(false), "none would");
        // 1.001 falls to 0.9009.
        assert_eq!(asked(1.001, decay), None, "later in the answer one would");
        assert_eq!(asked(1.2, decay), Some(false), "nor there");
    }

    #[test]
    fn thresholds_fall_by_a_tenth_along_an_answer() {
        let decay = Some(Decay { rate: 4.0, start: 10, length: 8 });
        let thresholds = Thresholds { decay, ..Thresholds::all(1.0) };
        let leave = |score, position| thresholds.leave(Probed { exit: 0, score, position });
        assert!(!leave(0.999, 10) && leave(1.0, 10), "1 at the start");
        // 0.9 + 0.1 · exp(-4 · 4 / 8) = 0.9135.
        assert!(!leave(0.9134, 14) && leave(0.9136, 14), "in the middle");
        assert!(leave(0.91, 100), "0.9 in the end");
    }
}
