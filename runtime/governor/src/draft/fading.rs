//! What is learned from rounds: means and lines in which the past fades.

/// How much of what was seen is kept with each round.
const KEPT: f32 = 1.0 - 1.0 / 48.0;

/// A mean in which the past fades.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Fading {
    pub(super) sum: f32,
    pub(super) weight: f32,
}

impl Fading {
    pub(super) const NONE: Self = Self { sum: 0.0, weight: 0.0 };

    pub(super) fn add(&mut self, value: f32, weight: f32) {
        self.sum = self.sum * KEPT + value;
        self.weight = self.weight * KEPT + weight;
    }

    pub(super) fn mean(&self) -> f32 {
        self.sum / self.weight.max(f32::MIN_POSITIVE)
    }
}

/// What rounds cost, as a line over the number of their drafts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Line {
    weight: f32,
    d: f32,
    dd: f32,
    cost: f32,
    d_cost: f32,
}

impl Line {
    pub(super) const NONE: Self = Self { weight: 0.0, d: 0.0, dd: 0.0, cost: 0.0, d_cost: 0.0 };

    pub(super) fn add(&mut self, drafts: f32, cost: f32) {
        self.fade(KEPT);
        self.put(drafts, cost, 1.0);
    }

    /// Keeps this share of what was seen.
    pub(super) fn fade(&mut self, kept: f32) {
        for sum in [&mut self.weight, &mut self.d, &mut self.dd, &mut self.cost, &mut self.d_cost] {
            *sum *= kept;
        }
    }

    /// True once a round was seen, and not all but forgotten.
    pub(super) fn is_known(&self) -> bool {
        self.weight > 0.5
    }

    /// Adds something known beforehand, as if so many rounds had been seen.
    pub(super) fn put(&mut self, drafts: f32, cost: f32, rounds: f32) {
        self.weight += rounds;
        self.d += rounds * drafts;
        self.dd += rounds * drafts * drafts;
        self.cost += rounds * cost;
        self.d_cost += rounds * drafts * cost;
    }

    /// Rounds that were seen, as far as they are remembered.
    pub(super) fn weight(&self) -> f32 {
        self.weight
    }

    /// Variance of the numbers of drafts, if rounds were seen.
    pub(super) fn variance(&self) -> Option<f32> {
        let mean = self.d / self.weight;
        self.is_known().then(|| self.dd / self.weight - mean * mean)
    }

    /// Mean drafts and cost of what was seen, if anything was.
    pub(super) fn mean(&self) -> Option<(f32, f32)> {
        self.is_known().then(|| (self.d / self.weight, self.cost / self.weight))
    }

    /// A round without drafts, and each draft.
    pub(super) fn fit(&self) -> (f32, f32) {
        let spread = self.weight * self.dd - self.d * self.d;
        let mean = self.cost / self.weight.max(f32::MIN_POSITIVE);
        if spread <= 1e-3 * self.weight * self.weight {
            return (mean, mean);
        }
        let slope = (self.weight * self.d_cost - self.d * self.cost) / spread;
        let start = (self.cost - slope * self.d) / self.weight;
        (start.max(0.1 * mean), slope.max(0.01 * mean))
    }
}
