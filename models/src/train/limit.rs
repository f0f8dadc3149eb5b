//! When a run is over.

/// When a run is over: at the first limit it meets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limit {
    /// Steps, from the start of the run.
    pub steps: Option<u64>,
    /// Times that all text is seen.
    pub epochs: Option<f64>,
    /// Minutes, from the start of the run; those before an interruption count.
    pub minutes: Option<f64>,
}

impl Limit {
    /// The share of a run that is done, by the limit that will end it.
    #[must_use]
    pub fn progress(&self, step: u64, seconds: f64, steps_per_epoch: u64) -> f64 {
        let by_steps =
            self.last_step(steps_per_epoch).map(|steps| step as f64 / steps.max(1) as f64);
        let by_minutes = self.minutes.map(|minutes| seconds / (minutes * 60.0));
        by_steps.into_iter().chain(by_minutes).fold(0.0, f64::max).min(1.0)
    }

    /// The step that ends a run, where a number of steps or epochs does.
    fn last_step(&self, steps_per_epoch: u64) -> Option<u64> {
        let by_epochs = self.epochs.map(|epochs| (epochs * steps_per_epoch as f64).ceil() as u64);
        self.steps.into_iter().chain(by_epochs).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_limit_that_is_met_ends_a_run() {
        let limit = Limit { steps: Some(100), epochs: Some(0.5), minutes: Some(2.0) };
        // Half of the steps, a quarter of the minutes; half an epoch of 400 steps is 200.
        assert!((limit.progress(50, 30.0, 400) - 0.5).abs() < 1e-9, "by steps");
        assert!((limit.progress(10, 90.0, 400) - 0.75).abs() < 1e-9, "by minutes");
        assert!((limit.progress(10, 0.0, 40) - 0.5).abs() < 1e-9, "by epochs: 20 steps");
        assert!((limit.progress(500, 0.0, 40) - 1.0).abs() < 1e-9, "never more than all");
        assert!(
            Limit::default().progress(9, 9.0, 1).abs() < 1e-9,
            "without a limit there is no end"
        );
    }
}
