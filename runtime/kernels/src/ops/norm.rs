//! Root mean square normalisation, plain and gated.

use crate::fma::sqrt;
use crate::isa::Isa;
use crate::lanes::sum_of_squares;
use crate::math::silu;

impl Isa {
    /// Normalises groups of neighbours: `out = (x · 1/√(mean(x²) + eps)) · weight`.
    ///
    /// Source: Zhang & Sennrich 2019, equation 4. The sum of squares is taken in the canonical order.
    ///
    /// # Shapes
    ///
    /// - `x`: `[width]` f32, read
    /// - `weight`: f32, read: as wide as `x`, or less, and then repeated (query/key norm per head)
    /// - `out`: `[width]` f32, overwritten
    ///
    /// # Panics
    ///
    /// Panics if the group does not divide the weight, or the weight the row.
    pub fn rms_norm(self, x: &[f32], weight: &[f32], group: usize, eps: f32, out: &mut [f32]) {
        assert_eq!(x.len(), out.len(), "x");
        check(weight, group, out);
        self.run(
            #[inline(always)]
            || {
                let weights = weight.chunks_exact(group).cycle();
                for ((x, out), weight) in
                    x.chunks_exact(group).zip(out.chunks_exact_mut(group)).zip(weights)
                {
                    let inv = inverse_rms(x, eps);
                    for ((out, &x), &weight) in out.iter_mut().zip(x).zip(weight) {
                        *out = (x * inv) * weight;
                    }
                }
            },
        );
    }

    /// Gates, then normalises (Mamba-2's norm before the projection): `out = rms_norm(x ⊙ silu(gate))`.
    ///
    /// # Shapes
    ///
    /// - `x`, `gate`: `[width]` f32, read
    /// - `weight`: f32, read: as wide as `x`, or less, and then repeated
    /// - `out`: `[width]` f32, overwritten
    ///
    /// # Panics
    ///
    /// Panics if the group does not divide the weight, or the weight the row.
    pub fn gated_rms_norm(
        self,
        x: &[f32],
        gate: &[f32],
        weight: &[f32],
        group: usize,
        eps: f32,
        out: &mut [f32],
    ) {
        assert_eq!(x.len(), out.len(), "x");
        assert_eq!(gate.len(), out.len(), "gate");
        check(weight, group, out);
        self.run(
            #[inline(always)]
            || {
                for ((out, &x), &gate) in out.iter_mut().zip(x).zip(gate) {
                    *out = x * silu(gate);
                }
                for (out, weight) in
                    out.chunks_exact_mut(group).zip(weight.chunks_exact(group).cycle())
                {
                    let inv = inverse_rms(out, eps);
                    for (out, &weight) in out.iter_mut().zip(weight) {
                        *out = (*out * inv) * weight;
                    }
                }
            },
        );
    }
}

fn check(weight: &[f32], group: usize, out: &[f32]) {
    assert!(group > 0 && !weight.is_empty(), "group and weight must not be empty");
    assert_eq!(weight.len() % group, 0, "group must divide the weight");
    assert_eq!(out.len() % weight.len(), 0, "weight must divide the row");
}

#[inline(always)]
fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    let mean = sum_of_squares(x) / x.len() as f32;
    1.0 / sqrt(mean + eps)
}
