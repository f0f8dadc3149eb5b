//! Whether a team is faster than one of its threads: on a small model or a busy machine it need not be.
//!
//! A barrier waits for the slowest worker, and a worker that has lost its core to another program comes back milliseconds
//! later. Answers do not depend on the number of workers, so every step may choose anew.

/// First steps that count for nothing: weights come from the file, and threads from their sleep.
const COLD: u32 = 8;

/// Steps that are judged together.
const WINDOW: u32 = 32;

/// Steps of a try, and how many of them count: the first ones wake threads.
const TRY: u32 = 8;
const TRY_COUNTS: u32 = 6;

/// Trying the other way may cost this share of the time: one part in so many.
const PARTS: f32 = 50.0;

/// How much faster the other way must be to be taken.
const CLEARLY: f32 = 0.9;

/// A window that took so many times the best one is a reason to try the other way.
const SLOWED: f32 = 2.0;

/// How fast steps of one row were, and which way they are run. Times are in nanoseconds, as if each went to full depth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The faster way until now.
    alone: bool,
    /// The other way is being tried.
    tries: bool,
    /// Steps of the window or try that is under way, and their time.
    steps: u32,
    sum: f32,
    /// Mean of the last window of the way that is taken, and the least mean since it was taken.
    usual: Option<f32>,
    best: f32,
    /// Time until the other way may be tried again.
    rests: f32,
    /// Steps that are still cold.
    cold: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            alone: false,
            tries: false,
            steps: 0,
            sum: 0.0,
            usual: None,
            best: f32::INFINITY,
            rests: 0.0,
            cold: COLD,
        }
    }
}

impl Pace {
    /// True if the next step should be run alone.
    pub(super) fn is_alone(&self) -> bool {
        self.alone != self.tries
    }

    /// True if steps are run alone when nothing is being tried.
    pub(super) fn is_usually_alone(&self) -> bool {
        self.alone
    }

    /// The step took so long. On a small model the other way is tried without a reason; on a larger one a team is faster as long
    /// as nothing disturbs it, and a token alone could miss its deadline.
    pub(super) fn took(&mut self, ns: f32, is_small: bool) {
        if self.cold > 0 {
            self.cold -= 1;
            return;
        }
        self.steps += 1;
        if self.tries {
            self.took_in_try(ns);
        } else {
            self.took_in_window(ns, is_small);
        }
    }

    fn took_in_window(&mut self, ns: f32, is_small: bool) {
        self.sum += ns;
        self.rests -= ns;
        if self.steps < WINDOW {
            return;
        }
        let mean = self.end_of(WINDOW);
        self.usual = Some(mean);
        self.best = self.best.min(mean);
        let has_reason = self.alone || is_small || mean > SLOWED * self.best;
        self.tries = has_reason && self.rests <= 0.0;
    }

    fn took_in_try(&mut self, ns: f32) {
        if self.steps > TRY - TRY_COUNTS {
            self.sum += ns;
        }
        if self.steps < TRY {
            return;
        }
        let (mean, usual) = (self.end_of(TRY_COUNTS), self.usual.unwrap_or(f32::INFINITY));
        self.tries = false;
        self.rests = (PARTS * TRY as f32 * (mean - usual)).max(0.0);
        if mean < CLEARLY * usual {
            self.alone = !self.alone;
            (self.usual, self.best) = (Some(mean), mean);
        }
    }

    /// Ends a window or a try of so many steps that count, and returns their mean.
    fn end_of(&mut self, count: u32) -> f32 {
        let mean = self.sum / count as f32;
        (self.steps, self.sum) = (0, 0.0);
        mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs steps that take so long together and alone; returns the time, and the share that ran alone.
    fn run(
        pace: &mut Pace,
        steps: usize,
        together: impl Fn(usize) -> f32,
        alone: f32,
    ) -> (f32, f32) {
        let (mut time, mut count) = (0.0, 0);
        for step in 0..steps {
            let is_alone = pace.is_alone();
            let ns = if is_alone { alone } else { together(step) };
            pace.took(ns, alone < 1e6);
            time += ns;
            count += usize::from(is_alone);
        }
        (time, count as f32 / steps as f32)
    }

    #[test]
    fn a_team_that_is_faster_works_together() {
        let mut pace = Pace::default();
        let (time, share) = run(&mut pace, 20_000, |_| 1e5, 4e5);
        assert!(share < 0.01, "{share} alone");
        assert!(time < 1.03 * 20_000.0 * 1e5, "tries cost little: {time}");
    }

    #[test]
    fn a_token_of_a_large_model_is_not_tried_alone() {
        let mut pace = Pace::default();
        // Every eighth catches others up.
        let together = |step: usize| if step.is_multiple_of(8) { 4e7 } else { 1e7 };
        let (_, share) = run(&mut pace, 20_000, together, 4e7);
        assert!(share <= 0.0, "{share} alone, each too late");
    }

    #[test]
    fn a_large_model_on_a_machine_that_becomes_busy_is() {
        let mut pace = Pace::default();
        run(&mut pace, 1_000, |_| 1e7, 4e7);
        let (_, share) = run(&mut pace, 1_000, |_| 2e8, 4e7);
        assert!(share > 0.9, "{share} alone");
    }

    #[test]
    fn one_thread_works_where_the_team_waits() {
        let mut pace = Pace::default();
        // A token of 70 us; mostly 4 ms where a worker has lost its core.
        let together = |step: usize| if step.is_multiple_of(5) { 4e4 } else { 4e6 };
        let (time, _) = run(&mut pace, 20_000, together, 7e4);
        assert!(time < 1.3 * 20_000.0 * 7e4, "little is lost: {time}");
    }

    #[test]
    fn the_team_comes_back_soon() {
        let mut pace = Pace::default();
        run(&mut pace, 2_000, |_| 4e6, 7e4);
        let mut pace = Pace { rests: 0.0, ..pace };
        let (_, share) = run(&mut pace, 1_000, |_| 4e4, 7e4);
        assert!(share < 0.1, "{share} alone after the machine is free");
    }

    #[test]
    fn one_hiccup_costs_little() {
        let mut pace = Pace::default();
        let together = |step: usize| if step == 500 { 4e6 } else { 4e4 };
        let (_, share) = run(&mut pace, 2_000, together, 5e4);
        assert!(share < 0.1, "{share} alone");
    }
}
