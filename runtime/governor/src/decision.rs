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

    /// Whether the token leaves behind `segment` whatever it scores there, if that is certain before it gets there. A deadline makes
    /// nothing certain: what is not asked is not waited for, and then nobody knows how late it is.
    #[must_use]
    pub fn foregone_behind(&self, segment: usize) -> Option<bool> {
        let next = segment + 1;
        if next > usize::from(self.last_segment) {
            return Some(true);
        }
        let is_at_leisure = self.latest_start_us.get(next) == Some(&u32::MAX);
        let no_score_leaves = self.catch_up_now || self.threshold > 1.0;
        (is_at_leisure && no_score_leaves).then_some(false)
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
    /// Exits whose probes ran: a bit for each segment that one stands behind. Of a round they all do.
    pub asked: u32,
    /// Of a round whose drafts had been said before: the tokens before them that matched; 0 where exits drafted.
    pub matched: u8,
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
    /// A token that left behind `exit_segment` after this time and asked all exits on its way: nothing caught up, revealed or
    /// measured.
    #[must_use]
    pub fn new(exit_segment: u8, elapsed_us: u32) -> Self {
        Self {
            tokens: 1,
            exit_segment,
            catch_up_rows: 0,
            elapsed_us,
            energy: None,
            revealed: None,
            asked: u32::MAX,
            matched: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At full depth of three segments, at leisure.
    const FULL: Decision = Decision {
        stop: false,
        threshold: crate::calibration::NEVER,
        last_segment: 2,
        deadline_us: None,
        latest_start_us: [u32::MAX; MAX_SEGMENTS],
        catch_up_now: false,
        draft_length: 0,
        mode: Mode::Ample,
        events: Events::NONE,
    };

    #[test]
    fn an_exit_is_asked_where_its_score_or_the_time_matters() {
        let mut late = FULL;
        late.latest_start_us[1] = 5000;
        let cases = [
            ("no score is enough", FULL, [Some(false), Some(false)]),
            ("some are", Decision { threshold: 1.0, ..FULL }, [None, None]),
            (
                "rows wait",
                Decision { threshold: 0.5, catch_up_now: true, ..FULL },
                [Some(false), Some(false)],
            ),
            (
                "a segment is too far",
                Decision { last_segment: 1, ..FULL },
                [Some(false), Some(true)],
            ),
            ("it may be late there", late, [None, Some(false)]),
        ];
        for (what, decision, expected) in cases {
            let found = [0, 1].map(|segment| decision.foregone_behind(segment));
            assert_eq!(found, expected, "{what}");
            for (segment, known) in found.into_iter().enumerate() {
                let Some(known) = known else { continue };
                for score in [0.0, 0.5, 1.0] {
                    for elapsed_us in [0, u32::MAX] {
                        let leaves = decision.leaves_behind(segment, score, elapsed_us);
                        assert_eq!(leaves, known, "{what}, behind {segment}");
                    }
                }
            }
        }
    }
}
