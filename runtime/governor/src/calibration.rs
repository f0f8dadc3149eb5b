//! What is known of exits before the first token: for each threshold, how often tokens agree with full depth, and where they
//! leave.
//!
//! Level 0 is full depth; the levels behind it are thresholds from strict to lenient. Between two levels everything is
//! interpolated, so that a *position* 0 ≤ y ≤ levels − 1 is the one number the governor turns.

use crate::cost::MAX_SEGMENTS;
use crate::error::GovernorError;

/// Most levels, full depth included.
pub const MAX_LEVELS: usize = 24;

/// A threshold that no score reaches.
pub const NEVER: f32 = 1.001;

/// What a threshold does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// A token leaves where the exit's score reaches this.
    pub threshold: f32,
    /// Share of all tokens that are those of full depth.
    pub agreement: f32,
    /// Share of tokens that leave behind each segment; the last is full depth.
    pub exits: [f32; MAX_SEGMENTS],
}

/// What all thresholds do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    levels: [Level; MAX_LEVELS],
    count: usize,
    segments: usize,
    /// Share of tokens that would be those of full depth if all left behind this segment.
    forced: [f32; MAX_SEGMENTS],
}

impl Calibration {
    /// A calibration from thresholds, strict to lenient, and for each segment the agreement if every token left there.
    ///
    /// # Errors
    ///
    /// Too many levels, or some that are not in order, or not from 0 to 1.
    pub fn new(levels: &[Level], forced: &[f32]) -> Result<Self, GovernorError> {
        let segments = forced.len();
        if !(1..=MAX_SEGMENTS).contains(&segments) {
            return Err(GovernorError::Segments { found: segments });
        }
        if levels.len() >= MAX_LEVELS {
            return Err(GovernorError::Levels { found: levels.len() });
        }
        let mut calibration = Self::none(segments);
        for (index, level) in levels.iter().enumerate() {
            let before = calibration.levels[index];
            let share = |value: f32| (0.0..=1.0).contains(&value);
            if !share(level.threshold) || level.threshold >= before.threshold {
                return Err(GovernorError::Threshold { level: index });
            }
            if !share(level.agreement) || level.agreement > before.agreement {
                return Err(GovernorError::Agreement { level: index });
            }
            let sum: f32 = level.exits[..segments].iter().sum();
            if !level.exits.iter().all(|exit| share(*exit)) || (sum - 1.0).abs() > 1e-3 {
                return Err(GovernorError::Exits { level: index });
            }
            calibration.levels[index + 1] = *level;
            calibration.count += 1;
        }
        for (known, given) in calibration.forced.iter_mut().zip(forced) {
            if !(0.0..=1.0).contains(given) {
                return Err(GovernorError::Agreement { level: levels.len() });
            }
            *known = *given;
        }
        calibration.forced[segments - 1] = 1.0;
        Ok(calibration)
    }

    /// A bundle without a calibration: full depth, and nothing known of exits.
    #[must_use]
    pub fn none(segments: usize) -> Self {
        let mut full = Level { threshold: NEVER, agreement: 1.0, exits: [0.0; MAX_SEGMENTS] };
        let segments = segments.clamp(1, MAX_SEGMENTS);
        full.exits[segments - 1] = 1.0;
        let mut forced = [0.0; MAX_SEGMENTS];
        forced[segments - 1] = 1.0;
        Self { levels: [full; MAX_LEVELS], count: 1, segments, forced }
    }

    /// All levels; the first is full depth.
    #[must_use]
    pub fn levels(&self) -> &[Level] {
        &self.levels[..self.count]
    }

    /// Number of segments.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.segments
    }

    /// The most lenient position.
    #[must_use]
    pub fn last(&self) -> f32 {
        (self.count - 1) as f32
    }

    /// The threshold at a position.
    #[must_use]
    pub fn threshold(&self, position: f32) -> f32 {
        self.between(position, |level| level.threshold)
    }

    /// Share of all tokens that agree at a position.
    #[must_use]
    pub fn agreement(&self, position: f32) -> f32 {
        self.between(position, |level| level.agreement)
    }

    /// Share of tokens that leave before the end at a position.
    #[must_use]
    pub fn early(&self, position: f32) -> f32 {
        self.between(position, |level| 1.0 - level.exits[self.segments - 1])
    }

    /// Share of tokens that leave behind `segment` at a position.
    #[must_use]
    pub fn exit_share(&self, position: f32, segment: usize) -> f32 {
        self.between(position, |level| level.exits[segment])
    }

    /// Share of tokens that agree if every token leaves behind `segment` at the latest, and before it as at `position`.
    ///
    /// At least what the two kinds of exits cost one by one: `forced − (1 − agreement)`.
    #[must_use]
    pub fn agreement_capped(&self, position: f32, segment: usize) -> f32 {
        if segment + 1 >= self.segments {
            return self.agreement(position);
        }
        (self.forced[segment] - (1.0 - self.agreement(position))).max(0.0)
    }

    /// Share of tokens that would agree if all left behind `segment`.
    #[must_use]
    pub fn forced(&self, segment: usize) -> f32 {
        self.forced[segment.min(self.segments - 1)]
    }

    /// The most lenient position whose agreement is at least `floor`, if disagreements are `factor` times those expected.
    #[must_use]
    pub fn most_lenient(&self, floor: f32, factor: f32) -> f32 {
        let is_kept = |level: &Level| (1.0 - level.agreement) * factor <= 1.0 - floor + 1e-6;
        let Some(broken) = self.levels().iter().position(|level| !is_kept(level)) else {
            return self.last();
        };
        let Some(kept) = broken.checked_sub(1) else { return 0.0 };
        let (a, b) = (1.0 - self.levels[kept].agreement, 1.0 - self.levels[broken].agreement);
        kept as f32 + (((1.0 - floor) / factor - a) / (b - a)).clamp(0.0, 1.0)
    }

    fn between(&self, position: f32, of: impl Fn(&Level) -> f32) -> f32 {
        let position = position.clamp(0.0, self.last());
        let below = (position as usize).min(self.count.saturating_sub(2));
        let share = position - below as f32;
        let next = (below + 1).min(self.count - 1);
        of(&self.levels[below]) * (1.0 - share) + of(&self.levels[next]) * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(threshold: f32, agreement: f32, first: f32) -> Level {
        let mut exits = [0.0; MAX_SEGMENTS];
        (exits[0], exits[1]) = (first, 1.0 - first);
        Level { threshold, agreement, exits }
    }

    #[test]
    fn positions_interpolate_between_levels() {
        let levels = [level(0.9, 0.99, 0.2), level(0.5, 0.95, 0.6)];
        let calibration = Calibration::new(&levels, &[0.8, 1.0]).unwrap();
        assert!((calibration.threshold(0.0) - NEVER).abs() < 1e-6, "full depth");
        assert!((calibration.threshold(1.5) - 0.7).abs() < 1e-6, "half way");
        assert!((calibration.threshold(9.0) - 0.5).abs() < 1e-6, "the last");
        assert!((calibration.early(0.5) - 0.1).abs() < 1e-6, "half of the first level's");
        assert!((calibration.agreement_capped(1.0, 0) - 0.79).abs() < 1e-6, "0.8 - 0.01");
        assert!((calibration.agreement_capped(1.0, 1) - 0.99).abs() < 1e-6, "no cap");
    }

    #[test]
    fn the_most_lenient_position_keeps_the_floor() {
        let levels = [level(0.9, 0.99, 0.2), level(0.5, 0.95, 0.6)];
        let calibration = Calibration::new(&levels, &[0.8, 1.0]).unwrap();
        let at = |floor, factor| calibration.most_lenient(floor, factor);
        assert!((at(0.97, 1.0) - 1.5).abs() < 1e-4, "half way between 0.99 and 0.95");
        assert!((at(0.97, 3.0) - 1.0).abs() < 1e-4, "three times as wrong as expected");
        assert!(
            (at(0.97, 5.0) - 0.6).abs() < 1e-4,
            "five times as wrong: even the first level is too lenient"
        );
        assert!((at(1.0, 1.0)).abs() < 1e-4, "no disagreement allowed");
        assert!((at(0.5, 1.0) - 2.0).abs() < 1e-4, "anything goes");
    }

    #[test]
    fn what_is_out_of_order_is_refused() {
        let good = level(0.9, 0.99, 0.2);
        let forced = [0.8, 1.0];
        let refused = |levels: &[Level]| Calibration::new(levels, &forced).unwrap_err();
        assert_eq!(refused(&[good, good]), GovernorError::Threshold { level: 1 }, "twice");
        assert_eq!(
            refused(&[level(f32::NAN, 0.9, 0.1)]),
            GovernorError::Threshold { level: 0 },
            "NaN"
        );
        assert_eq!(
            refused(&[good, level(0.5, 0.995, 0.1)]),
            GovernorError::Agreement { level: 1 },
            "better"
        );
        let mut half = good;
        half.exits[1] = 0.0;
        assert_eq!(refused(&[half]), GovernorError::Exits { level: 0 }, "a fifth of the tokens");
        assert_eq!(
            refused(&[good; MAX_LEVELS]),
            GovernorError::Levels { found: MAX_LEVELS },
            "too many"
        );
        assert_eq!(
            Calibration::new(&[], &[]),
            Err(GovernorError::Segments { found: 0 }),
            "no segments"
        );
    }

    #[test]
    fn a_bundle_without_calibration_knows_full_depth_only() {
        let none = Calibration::none(4);
        assert!((none.last()).abs() < 1e-6, "one position");
        assert!(none.threshold(0.0) > 1.0, "never");
        assert!((none.agreement_capped(0.0, 2)).abs() < 1e-6, "nothing is promised of an exit");
    }
}
