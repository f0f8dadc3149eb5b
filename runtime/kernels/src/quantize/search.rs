//! The best scale of a block, by least squares.
//!
//! For `w` and integers `q` the best scale is `Σwq / Σq²`; as the error is a parabola around it, the best f16 is the nearest.
//! For a scale the best integers are `round(w / scale)`. Alternating the two only finds a minimum near where it starts, so it
//! starts from a grid of scales around the one that just holds the largest weight: clipping that weight is often worth it.

use half::f16;

use super::rows::{ROUND, halves, largest_magnitude, narrow};
use crate::f16::f16_to_f32;
use crate::format::BLOCK;
use crate::lanes::Lanes;
use crate::view::LANES;

/// A block as integers and a scale.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// As f16.
    pub(super) scale: u16,
    pub(super) quants: [i8; BLOCK],
}

/// Quantizes to −127..=127.
#[inline(always)]
pub(super) fn search_q8(w: &[f32; BLOCK]) -> Block {
    let w = halves(w);
    let largest = largest_magnitude(w);
    let mut search = Search::new(w, -127.0, 127.0);
    for step in 0..12_u8 {
        search.start(largest / (129.0 - 0.5 * f32::from(step)));
    }
    search.finish()
}

/// Quantizes to −8..=7, with a scale of either sign: −8 is for the largest weight, whatever its sign.
#[inline(always)]
pub(super) fn search_q4(w: &[f32; BLOCK]) -> Block {
    let w = halves(w);
    let largest = largest_magnitude(w);
    let mut search = Search::new(w, -8.0, 7.0);
    for step in 0..34_u8 {
        let steps = 5.5 + 0.25 * f32::from(step / 2);
        search.start(largest / if step % 2 == 0 { steps } else { -steps });
    }
    search.finish()
}

struct Search {
    w: [Lanes; 2],
    low: f32,
    high: f32,
    scale: u16,
    quants: [Lanes; 2],
    squared_error: f32,
}

impl Search {
    /// Starts with a block of zeros.
    #[inline(always)]
    fn new(w: [Lanes; 2], low: f32, high: f32) -> Self {
        Self { w, low, high, scale: 0, quants: [Lanes::ZERO; 2], squared_error: dot(w, w) }
    }

    /// Tries the integers that belong to a scale, with the scale that belongs to them.
    #[inline(always)]
    fn start(&mut self, scale: f32) {
        let inverse = 1.0 / scale;
        if !inverse.is_finite() {
            return;
        }
        let quants = [self.round(self.w[0], inverse), self.round(self.w[1], inverse)];
        let squares = dot(quants, quants);
        if squares == 0.0 {
            return;
        }
        let scale = f16::from_f32(dot(self.w, quants) / squares).to_bits();
        let step = -f16_to_f32(scale);
        let errors = [quants[0].scale_add(step, self.w[0]), quants[1].scale_add(step, self.w[1])];
        let squared_error = dot(errors, errors);
        if squared_error < self.squared_error {
            (self.scale, self.quants, self.squared_error) = (scale, quants, squared_error);
        }
    }

    /// Alternates between scale and integers while that helps.
    #[inline(always)]
    fn finish(mut self) -> Block {
        loop {
            let before = self.squared_error;
            self.start(f16_to_f32(self.scale));
            if self.squared_error >= before {
                break;
            }
        }
        Block { scale: self.scale, quants: narrow(self.quants) }
    }

    /// The best integers for a scale.
    #[inline(always)]
    fn round(&self, w: Lanes, inverse: f32) -> Lanes {
        let mut out = w.scale(inverse).0;
        for lane in 0..LANES {
            let quant = if out[lane] < self.low { self.low } else { out[lane] };
            let quant = if quant > self.high { self.high } else { quant };
            out[lane] = (quant + ROUND) - ROUND;
        }
        Lanes(out)
    }
}

/// `Σ a·b` in 16 lanes.
#[inline(always)]
fn dot(a: [Lanes; 2], b: [Lanes; 2]) -> f32 {
    a[1].fma(b[1], a[0].fma(b[0], Lanes::ZERO)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_are_exact_stay_exact() {
        // Every integer of the range appears, times a scale that is an f16.
        let w4: [f32; BLOCK] = core::array::from_fn(|i| (i % 16) as f32 * 0.25 - 2.0);
        let block = search_q4(&w4);
        let scale = f16_to_f32(block.scale);
        assert_eq!(
            block.quants.map(|q| (f32::from(q) * scale).to_bits()),
            w4.map(f32::to_bits),
            "q4"
        );
        let w8: [f32; BLOCK] = core::array::from_fn(|i| (i as f32 * 8.0 - 121.0) * 0.5);
        let block = search_q8(&w8);
        let scale = f16_to_f32(block.scale);
        assert_eq!(
            block.quants.map(|q| (f32::from(q) * scale).to_bits()),
            w8.map(f32::to_bits),
            "q8"
        );
    }

    #[test]
    fn the_largest_weight_of_either_sign_can_be_minus_eight() {
        for sign in [1.0, -1.0] {
            let mut w = [sign; BLOCK];
            w[7] = -8.0 * sign;
            let block = search_q4(&w);
            assert_eq!(block.quants[7], -8, "sign {sign}");
            assert_eq!(
                f16_to_f32(block.scale).to_bits(),
                sign.to_bits(),
                "scale has the sign {sign}"
            );
        }
    }

    #[test]
    fn zeros_have_no_scale() {
        let block = search_q4(&[0.0; BLOCK]);
        assert_eq!((block.scale, block.quants), (0, [0; BLOCK]), "q4");
        let block = search_q8(&[-0.0; BLOCK]);
        assert_eq!((block.scale, block.quants), (0, [0; BLOCK]), "q8");
    }

    #[test]
    fn weights_below_every_scale_are_zero() {
        let block = search_q4(&[1e-12; BLOCK]);
        assert_eq!((block.scale, block.quants), (0, [0; BLOCK]), "too small for f16");
    }
}
