//! The optimizer, on plain numbers.
//!
//! Our own, not Burn's: its state is part of a checkpoint that must go on bit by bit, gradients are clipped by the norm
//! of all of them together, and only matrices decay.

use super::parameters::Parameter;

/// Decay of the mean of gradients.
const BETA_MEAN: f32 = 0.9;

/// Decay of the mean of squared gradients.
const BETA_SQUARE: f32 = 0.95;

/// Keeps a quotient finite.
const EPSILON: f32 = 1e-8;

/// The optimizer with decoupled weight decay (Loshchilov & Hutter 2019).
#[derive(Clone, Debug, PartialEq)]
pub struct AdamW {
    /// What is trained.
    pub slots: Vec<Slot>,
}

/// A parameter and what the optimizer remembers of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// The parameter.
    pub parameter: Parameter,
    /// Running mean of its gradient.
    pub mean: Vec<f32>,
    /// Running mean of its squared gradient.
    pub square: Vec<f32>,
}

/// What one update is made with.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// Updates before this one.
    pub step: u64,
    /// Learning rate.
    pub rate: f64,
    /// Share of a matrix that decays, times the rate.
    pub weight_decay: f64,
    /// Largest norm of all gradients together.
    pub clip: f64,
}

impl AdamW {
    /// Starts with an empty memory.
    #[must_use]
    pub fn new(parameters: Vec<Parameter>) -> Self {
        let slot = |parameter: Parameter| {
            let zeros = vec![0.0; parameter.values.len()];
            Slot { parameter, mean: zeros.clone(), square: zeros }
        };
        Self { slots: parameters.into_iter().map(slot).collect() }
    }

    /// The numbers of all parameters.
    #[must_use]
    pub fn values(&self) -> Vec<&[f32]> {
        self.slots.iter().map(|slot| slot.parameter.values.as_slice()).collect()
    }

    /// Updates every parameter, and returns the norm of the gradients before they were clipped; if that is no number,
    /// nothing is updated:
    ///
    /// ```text
    /// g ← g · min(1, clip / |g|)
    /// m ← β₁ m + (1 - β₁) g        v ← β₂ v + (1 - β₂) g²
    /// p ← p - rate · (m / (1 - β₁ᵗ) / (√(v / (1 - β₂ᵗ)) + ε) + decay · p)
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if there is not one gradient for each parameter.
    pub fn update(&mut self, gradients: &[Vec<f32>], update: Update) -> f64 {
        assert_eq!(gradients.len(), self.slots.len(), "one gradient for each parameter");
        let square =
            |gradient: &Vec<f32>| gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
        let norm = gradients.iter().map(square).sum::<f64>().sqrt();
        if !norm.is_finite() {
            return norm;
        }
        let scale = if norm > update.clip { update.clip / norm } else { 1.0 } as f32;
        let time = update.step as f64 + 1.0;
        let unbias_mean = (1.0 - f64::from(BETA_MEAN).powf(time)).recip() as f32;
        let unbias_square = (1.0 - f64::from(BETA_SQUARE).powf(time)).recip() as f32;
        let rate = update.rate as f32;
        for (slot, gradient) in self.slots.iter_mut().zip(gradients) {
            let kept = if decays(&slot.parameter) {
                1.0 - (update.rate * update.weight_decay) as f32
            } else {
                1.0
            };
            let numbers = slot
                .parameter
                .values
                .iter_mut()
                .zip(&mut slot.mean)
                .zip(&mut slot.square)
                .zip(gradient);
            for (((value, mean), square), gradient) in numbers {
                let gradient = gradient * scale;
                *mean = BETA_MEAN * *mean + (1.0 - BETA_MEAN) * gradient;
                *square = BETA_SQUARE * *square + (1.0 - BETA_SQUARE) * gradient * gradient;
                let step = *mean * unbias_mean / ((*square * unbias_square).sqrt() + EPSILON);
                *value = *value * kept - rate * step;
            }
        }
        norm
    }
}

/// Matrices decay; norms, biases, convolutions, and what shapes a recurrence (`a_log`, `d`, `dt_bias`) do not.
fn decays(parameter: &Parameter) -> bool {
    let name = &parameter.name;
    parameter.shape.len() == 2 && !name.contains("conv1d") && !name.ends_with("a_log")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(name: &str, shape: &[usize]) -> Parameter {
        let values = vec![1.0; shape.iter().product()];
        Parameter { name: name.into(), shape: shape.into(), values }
    }

    const UPDATE: Update = Update { step: 0, rate: 0.1, weight_decay: 0.5, clip: 1.0 };

    #[test]
    fn only_matrices_decay() {
        let names = [
            ("out_proj.weight", vec![1, 2]),
            ("norm.weight", vec![2]),
            ("conv1d.weight", vec![1, 2]),
            ("a_log", vec![1, 2]),
        ];
        let mut adamw =
            AdamW::new(names.iter().map(|(name, shape)| parameter(name, shape)).collect());
        adamw.update(&vec![vec![0.0; 2]; 4], UPDATE);
        let first: Vec<f32> = adamw.values().iter().map(|values| values[0]).collect();
        assert_eq!(first, [0.95, 1.0, 1.0, 1.0], "without a gradient, decay is all that happens");
    }

    #[test]
    fn the_first_step_is_the_learning_rate_against_the_gradient() {
        let mut adamw = AdamW::new(vec![parameter("norm.weight", &[2])]);
        adamw.update(&[vec![0.5, -0.5]], UPDATE);
        let values = adamw.values()[0];
        assert!((values[0] - 0.9).abs() < 1e-6 && (values[1] - 1.1).abs() < 1e-6, "{values:?}");
    }

    #[test]
    fn a_gradient_that_is_no_number_changes_nothing() {
        let mut adamw = AdamW::new(vec![parameter("a.weight", &[2])]);
        let before = adamw.clone();
        assert!(adamw.update(&[vec![1.0, f32::NAN]], UPDATE).is_nan(), "it is told");
        assert_eq!(adamw, before, "as it was");
    }

    #[test]
    fn gradients_are_clipped_by_their_common_norm() {
        let parameters = || vec![parameter("a.weight", &[1]), parameter("b.weight", &[1])];
        let (mut clipped, mut small) = (AdamW::new(parameters()), AdamW::new(parameters()));
        let norm = clipped.update(&[vec![30.0], vec![40.0]], UPDATE);
        assert!((norm - 50.0).abs() < 1e-6, "before clipping");
        small.update(&[vec![0.6], vec![0.8]], UPDATE);
        let close = clipped
            .slots
            .iter()
            .zip(&small.slots)
            .all(|(a, b)| (a.mean[0] - b.mean[0]).abs() < 1e-6);
        assert!(close, "as if the gradients had been a fiftieth");
    }
}
