//! Rotary positions (Su et al. 2021), first half of a head against its second half.

use burn::tensor::{Device, Tensor, TensorData};

use crate::config::{RopeScaling, TransformerConfig};

/// How far each pair of channels turns per token, `[head_dim / 2]`: `theta^(-2i / head_dim)`, stretched as the config
/// says.
///
/// Computed in f64 and rounded once, so that every device gets the same numbers.
#[must_use]
pub fn inv_freq(config: &TransformerConfig) -> Vec<f32> {
    let half = config.head_dim / 2;
    let freq = |i: usize| config.rope.theta.powf(-(i as f64) / half as f64);
    (0..half).map(|i| stretch(config.rope.scaling, freq(i)) as f32).collect()
}

/// Stretches one frequency; the formula for Llama 3.1 is that of its release, with wavelength = 2π / frequency.
fn stretch(scaling: RopeScaling, freq: f64) -> f64 {
    match scaling {
        RopeScaling::None => freq,
        RopeScaling::Linear { factor } => freq / factor,
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            let waves = original_context * freq / core::f64::consts::TAU;
            if waves < low_freq_factor {
                freq / factor
            } else if waves > high_freq_factor {
                freq
            } else {
                let kept = (waves - low_freq_factor) / (high_freq_factor - low_freq_factor);
                (1.0 - kept) * freq / factor + kept * freq
            }
        }
    }
}

/// Cosines and sines of the angles of positions `0..seq`.
#[derive(Clone, Debug)]
pub(super) struct Angles {
    /// `[1, seq, 1, head_dim / 2]`.
    cos: Tensor<4>,
    /// `[1, seq, 1, head_dim / 2]`.
    sin: Tensor<4>,
}

impl Angles {
    /// Computes the angles on the host, once for all layers. The product is f32, as the deployed operator has it.
    pub(super) fn new(inv_freq: &[f32], seq: usize, device: &Device) -> Self {
        let angles: Vec<f64> = (0..seq)
            .flat_map(|position| inv_freq.iter().map(move |freq| f64::from(position as f32 * freq)))
            .collect();
        let table = |map: fn(f64) -> f64| {
            let numbers: Vec<f32> = angles.iter().map(|angle| map(*angle) as f32).collect();
            Tensor::from_data(TensorData::new(numbers, [1, seq, 1, inv_freq.len()]), device)
        };
        Self { cos: table(f64::cos), sin: table(f64::sin) }
    }

    /// Turns every head of every token.
    ///
    /// # Shapes
    ///
    /// - `x`, and returned: `[batch, seq, heads, head_dim]`
    pub(super) fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        let half = x.dims()[3] / 2;
        let (low, high) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
        let turned_low = low.clone() * self.cos.clone() - high.clone() * self.sin.clone();
        let turned_high = high * self.cos.clone() + low * self.sin.clone();
        Tensor::cat(vec![turned_low, turned_high], 3)
    }
}
