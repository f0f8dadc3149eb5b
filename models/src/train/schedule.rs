//! How the learning rate goes up and down again.

use std::f64::consts::PI;

/// A linear warm-up, then half a cosine down to a tenth of the peak.
///
/// ```text
/// lr ┤   ╭──╮
///    ┤  ╱    ╲
///    ┤ ╱      ╲___  peak / 10
///    └─┴────────┴── progress
///      warm-up
/// ```
///
/// The cosine follows *progress*, which is 0 at the start and 1 at the end of the run, because a run may be limited by
/// steps or by minutes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Largest learning rate.
    pub peak: f64,
    /// Steps of the warm-up.
    pub warmup: u64,
}

/// The learning rate at the end, as a share of the peak.
const FLOOR: f64 = 0.1;

impl Schedule {
    /// The learning rate of step `step`, counted from 0, at `progress` in 0..=1.
    #[must_use]
    pub fn rate(&self, step: u64, progress: f64) -> f64 {
        let warm = if step < self.warmup { (step + 1) as f64 / self.warmup as f64 } else { 1.0 };
        let cosine = 0.5 * (1.0 + (PI * progress.clamp(0.0, 1.0)).cos());
        self.peak * warm * (FLOOR + (1.0 - FLOOR) * cosine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_then_falls_to_a_tenth() {
        let schedule = Schedule { peak: 1.0, warmup: 10 };
        assert!((schedule.rate(0, 0.0) - 0.1).abs() < 1e-9, "the first step is not lost");
        assert!((schedule.rate(9, 0.0) - 1.0).abs() < 1e-9, "the warm-up ends at the peak");
        assert!((schedule.rate(500, 0.5) - 0.55).abs() < 1e-9, "half way");
        assert!((schedule.rate(999, 1.0) - 0.1).abs() < 1e-9, "the end");
    }

    #[test]
    fn no_warm_up_starts_at_the_peak() {
        let schedule = Schedule { peak: 2.0, warmup: 0 };
        assert!((schedule.rate(0, 0.0) - 2.0).abs() < 1e-9, "no division by zero");
    }
}
