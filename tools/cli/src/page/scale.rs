//! From numbers to places, with round ticks.

/// A linear axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scale {
    low: f64,
    high: f64,
    /// Where `low` and `high` lie.
    places: [f64; 2],
    step: f64,
}

impl Scale {
    /// An axis over all `values`, widened to round ends, of about `ticks` ticks.
    pub(crate) fn over(values: impl Iterator<Item = f64>, ticks: usize, places: [f64; 2]) -> Self {
        let (mut low, mut high) = values
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        if !low.is_finite() || !high.is_finite() {
            (low, high) = (0.0, 1.0);
        }
        if high - low < 1e-3 {
            // A single value: room on both sides.
            (low, high) = (low - 0.01, high + 0.01);
        }
        let step = round_step((high - low) / ticks as f64);
        Self { low: (low / step).floor() * step, high: (high / step).ceil() * step, places, step }
    }

    /// An axis from zero to `most`, widened to a round end.
    pub(crate) fn from_zero(most: f64, ticks: usize, places: [f64; 2]) -> Self {
        let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
        let step = round_step(most / ticks as f64);
        Self { low: 0.0, high: (most / step - 1e-9).ceil() * step, places, step }
    }

    /// Where a value lies.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let [from, to] = self.places;
        from + (value - self.low) / (self.high - self.low) * (to - from)
    }

    /// Whether a value lies between the ends.
    pub(crate) fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// Where a value lies; at an end, if it is beyond.
    pub(crate) fn place_within(&self, value: f64) -> f64 {
        self.place(value.clamp(self.low, self.high))
    }

    /// Round values, ends included.
    pub(crate) fn ticks(&self) -> Vec<f64> {
        let count = ((self.high - self.low) / self.step).round() as usize;
        (0..=count).map(|index| self.low + self.step * index as f64).collect()
    }

    /// A tick as a number, with as many digits as the step needs.
    pub(crate) fn plain(&self, tick: f64) -> String {
        let digits = (-self.step.log10() + 1e-9).ceil().max(0.0) as usize;
        format!("{:.digits$}", tick + 0.0)
    }

    /// A tick as a percentage, with as many digits as the step needs.
    pub(crate) fn label(&self, tick: f64) -> String {
        let digits = usize::from(self.step < 0.0099) + usize::from(self.step < 0.00099);
        format!("{:.digits$} %", tick * 100.0 + 0.0)
    }
}

/// The next of 1, 2, 5 times a power of ten.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= step * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_round_and_hold_all_values() {
        let scale = Scale::over([0.013, 0.386].into_iter(), 5, [0.0, 100.0]);
        let labels: Vec<_> = scale.ticks().into_iter().map(|tick| scale.label(tick)).collect();
        assert_eq!(labels, ["0 %", "10 %", "20 %", "30 %", "40 %"], "steps of a tenth");
        assert!((scale.place(0.2) - 50.0).abs() < 1e-9, "the middle");
    }

    #[test]
    fn narrow_ranges_get_digits() {
        let scale = Scale::over([0.981, 0.999].into_iter(), 5, [0.0, 1.0]);
        let labels: Vec<_> = scale.ticks().into_iter().map(|tick| scale.label(tick)).collect();
        assert_eq!(labels, ["98.0 %", "98.5 %", "99.0 %", "99.5 %", "100.0 %"], "half a percent");
    }

    #[test]
    fn quantities_start_at_zero_and_have_the_digits_of_their_steps() {
        let labels = |most| {
            let scale = Scale::from_zero(most, 4, [0.0, 1.0]);
            scale.ticks().into_iter().map(|tick| scale.plain(tick)).collect::<Vec<_>>()
        };
        assert_eq!(labels(1.0), ["0.0", "0.5", "1.0"], "halves");
        assert_eq!(labels(190.0), ["0", "50", "100", "150", "200"], "a round end");
        assert_eq!(labels(0.0), ["0.0", "0.5", "1.0"], "nothing to show");
    }

    #[test]
    fn one_value_lies_in_the_middle() {
        let scale = Scale::over([0.5].into_iter(), 4, [0.0, 100.0]);
        assert!((scale.place(0.5) - 50.0).abs() < 1e-6, "{scale:?}");
        let scale = Scale::over(std::iter::empty(), 4, [0.0, 100.0]);
        assert!(scale.place(0.0).abs() < 1e-6, "{scale:?}: no values, zero to one");
    }
}
