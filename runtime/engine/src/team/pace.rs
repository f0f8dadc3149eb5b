//! Whether a team is faster than one of its threads: on a small model or a busy machine it need not be.
//!
//! A barrier waits for the slowest worker, and a worker that has lost its core to another program comes back milliseconds
//! later. Answers do not depend on the number of workers, so every step may choose anew.

/// Trying the other way may cost this share of the time: one part in so many.
const PARTS: f32 = 50.0;

/// Steps between two tries at least.
const LEAST_STEPS: f32 = 32.0;

/// How much faster the other way must be to be taken.
const CLEARLY: f32 = 0.9;

/// How much of a mean is its newest value, of the way that is taken and of the one that is tried now and then.
const NEWEST: [f32; 2] = [1.0 / 32.0, 1.0 / 4.0];

/// First steps that count for nothing: weights come from the file, and threads from their sleep.
const COLD_STEPS: u32 = 8;

/// Times of one kind of step, both ways, and which way is taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// Mean nanoseconds of a row, alone and together; `None` until it was tried.
    means: [Option<f32>; 2],
    /// The faster way until now.
    alone: bool,
    /// Nanoseconds until the other way is tried.
    until_try: f32,
    /// Cold steps that are over.
    warm: u32,
}

impl Pace {
    /// True if the next step should be run alone.
    pub(super) fn is_alone(&self) -> bool {
        let tries = self.warm >= COLD_STEPS && self.until_try <= 0.0;
        self.alone != tries
    }

    /// A step took so many nanoseconds a row.
    pub(super) fn took(&mut self, alone: bool, ns: f32) {
        if self.warm < COLD_STEPS {
            self.warm += 1;
            self.until_try = LEAST_STEPS * ns;
            return;
        }
        let tried = alone != self.alone;
        let mean = self.means[usize::from(alone)].get_or_insert(ns);
        *mean += NEWEST[usize::from(tried)] * (ns - *mean);
        self.until_try = if tried { self.next_try(ns) } else { self.until_try - ns };
        if let [Some(together), Some(one)] = self.means {
            let [taken, other] = if self.alone { [one, together] } else { [together, one] };
            if other < CLEARLY * taken {
                self.alone = !self.alone;
                self.until_try = LEAST_STEPS * other;
            }
        }
    }

    /// How long to wait after a try that took so long.
    fn next_try(&self, ns: f32) -> f32 {
        let usual = self.means[usize::from(self.alone)].unwrap_or(ns);
        (PARTS * (ns - usual)).max(LEAST_STEPS * usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs steps that take so long together and alone; returns the time, and the share that ran alone.
    fn run(pace: &mut Pace, steps: usize, together: f32, alone: f32) -> (f32, f32) {
        let (mut time, mut count) = (0.0, 0);
        for _ in 0..steps {
            let is_alone = pace.is_alone();
            let ns = if is_alone { alone } else { together };
            pace.took(is_alone, ns);
            time += ns;
            count += usize::from(is_alone);
        }
        (time, count as f32 / steps as f32)
    }

    #[test]
    fn a_team_that_is_faster_works_together() {
        let mut pace = Pace::default();
        let (time, share) = run(&mut pace, 20_000, 100.0, 400.0);
        assert!(share < 0.01, "{share} alone");
        assert!(time < 1.03 * 20_000.0 * 100.0, "tries cost little: {time}");
    }

    #[test]
    fn one_thread_works_where_the_team_waits() {
        let mut pace = Pace::default();
        // A token of 70 us; 4 ms where a worker has lost its core.
        let (time, _) = run(&mut pace, 20_000, 4e6, 7e4);
        assert!(time < 1.15 * 20_000.0 * 7e4, "little is lost: {time}");
    }

    #[test]
    fn the_team_comes_back() {
        let mut pace = Pace::default();
        run(&mut pace, 2_000, 4e6, 7e4);
        let (_, share) = run(&mut pace, 20_000, 4e4, 7e4);
        assert!(share < 0.5, "{share} alone after the machine is free");
    }
}
