//! Rotary position embedding (Su et al. 2021), first half of a head against its second half.

use crate::fma::fma;
use crate::isa::Isa;

impl Isa {
    /// Computes the angles of a position, once for all layers: `out = [cos(position · inv_freq), sin(…)]`.
    ///
    /// The product is rounded to f32 before the cosine, as `transformers` does.
    ///
    /// # Shapes
    ///
    /// - `inv_freq`: `[head_dim / 2]` f32, read
    /// - `out`: `[head_dim]` f32, overwritten
    ///
    /// # Panics
    ///
    /// Panics if `out` is not twice as wide as `inv_freq`.
    pub fn rope_angles(self, inv_freq: &[f32], position: u32, out: &mut [f32]) {
        assert_eq!(out.len(), 2 * inv_freq.len(), "head_dim");
        let (cosines, sines) = out.split_at_mut(inv_freq.len());
        for ((cosine, sine), &frequency) in cosines.iter_mut().zip(sines).zip(inv_freq) {
            // Software, one number at a time: 64 numbers per token, the same on every instruction set.
            (*sine, *cosine) = libm::sincosf(position as f32 * frequency);
        }
    }

    /// Rotates each head: `low' = low · cos - high · sin`, `high' = high · cos + low · sin`.
    ///
    /// # Shapes
    ///
    /// - `x`: `[n_heads · head_dim]` f32, read
    /// - `angles`: `[head_dim]` f32, read, from [`rope_angles`](Self::rope_angles)
    /// - `out`: `[n_heads · head_dim]` f32, overwritten
    ///
    /// # Panics
    ///
    /// Panics if `head_dim` is odd or does not divide the row.
    pub fn rope(self, x: &[f32], angles: &[f32], out: &mut [f32]) {
        let head_dim = angles.len();
        assert!(head_dim > 0 && head_dim.is_multiple_of(2), "head_dim must be even");
        assert_eq!(x.len(), out.len(), "x");
        assert_eq!(x.len() % head_dim, 0, "head_dim must divide the row");
        self.run(
            #[inline(always)]
            || {
                let (cosines, sines) = angles.split_at(head_dim / 2);
                for (x, out) in x.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim)) {
                    rotate(x, cosines, sines, out);
                }
            },
        );
    }
}

#[inline(always)]
fn rotate(x: &[f32], cosines: &[f32], sines: &[f32], out: &mut [f32]) {
    let half = cosines.len();
    let (low, high) = x.split_at(half);
    let (out_low, out_high) = out.split_at_mut(half);
    let (high, sines) = (&high[..half], &sines[..half]);
    let out_high = &mut out_high[..half];
    for i in 0..half {
        out_low[i] = fma(-high[i], sines[i], low[i] * cosines[i]);
        out_high[i] = fma(low[i], sines[i], high[i] * cosines[i]);
    }
}
