//! Operators that treat each number alone.

use crate::isa::Isa;
use crate::math::silu;

impl Isa {
    /// Adds: `out = a + b`.
    ///
    /// # Shapes
    ///
    /// - `a`, `b`: `[width]` f32, read
    /// - `out`: `[width]` f32, overwritten
    ///
    /// # Panics
    ///
    /// Panics if the widths differ.
    pub fn add(self, a: &[f32], b: &[f32], out: &mut [f32]) {
        self.map(
            a,
            b,
            out,
            #[inline(always)]
            |a, b| a + b,
        );
    }

    /// Gates: `out = silu(gate) ⊙ up` (Shazeer 2020, "GLU variants improve transformer").
    ///
    /// # Shapes
    ///
    /// - `gate`, `up`: `[width]` f32, read
    /// - `out`: `[width]` f32, overwritten
    ///
    /// # Panics
    ///
    /// Panics if the widths differ.
    pub fn swiglu(self, gate: &[f32], up: &[f32], out: &mut [f32]) {
        self.map(
            gate,
            up,
            out,
            #[inline(always)]
            |gate, up| silu(gate) * up,
        );
    }

    /// Activates: `out = x / (1 + e⁻ˣ)`.
    ///
    /// # Shapes
    ///
    /// - `x`: `[width]` f32, read
    /// - `out`: `[width]` f32, overwritten
    ///
    /// # Panics
    ///
    /// Panics if the widths differ.
    pub fn silu(self, x: &[f32], out: &mut [f32]) {
        self.map(
            x,
            x,
            out,
            #[inline(always)]
            |x, _| silu(x),
        );
    }

    #[inline(always)]
    fn map(self, a: &[f32], b: &[f32], out: &mut [f32], f: impl Fn(f32, f32) -> f32) {
        assert_eq!(a.len(), out.len(), "first operand");
        assert_eq!(b.len(), out.len(), "second operand");
        self.run(
            #[inline(always)]
            || {
                for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
                    *out = f(a, b);
                }
            },
        );
    }
}
