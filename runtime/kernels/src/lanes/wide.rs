//! Sixteen numbers in the registers of an instruction set, for loops over many of them that a compiler does not see through.
//!
//! Each operation is the one of [`Lanes`] with the same name, bit for bit.

use crate::view::LANES;

use super::Lanes;

/// For each lane all bits or none.
pub(crate) type Mask = [u32; LANES];

/// Registers. A value of it is the proof that the machine has them.
pub(crate) trait Wide: Copy {
    /// Sixteen numbers.
    type Sixteen: Copy;

    fn load(self, from: &Lanes) -> Self::Sixteen;
    fn store(self, x: Self::Sixteen, to: &mut Lanes);
    fn add(self, a: Self::Sixteen, b: Self::Sixteen) -> Self::Sixteen;
    fn multiply(self, a: Self::Sixteen, b: Self::Sixteen) -> Self::Sixteen;
    fn divide(self, a: Self::Sixteen, b: Self::Sixteen) -> Self::Sixteen;

    /// `a · b + c`, rounded once.
    fn multiply_add(self, a: Self::Sixteen, b: Self::Sixteen, c: Self::Sixteen) -> Self::Sixteen;

    /// `by · x + c`, rounded once.
    fn scale_add(self, by: f32, x: Self::Sixteen, c: Self::Sixteen) -> Self::Sixteen;

    /// `a` where the mask has bits, `b` elsewhere.
    fn choose(self, mask: &Mask, a: Self::Sixteen, b: Self::Sixteen) -> Self::Sixteen;
}

/// Registers whose lanes are summed for eight numbers together.
pub(crate) trait Sums: Wide {
    /// Sums of sixteen lanes that stay in registers beside what a loop needs: 4 or 16.
    const HELD: usize;

    /// Lane `j` takes up lane `j + 8`, the first step of [`Lanes::sum`].
    fn fold(self, x: Self::Sixteen) -> [f32; 8];

    /// The other steps, for eight numbers.
    fn sum_eights(self, eights: &[[f32; 8]; 8]) -> [f32; 8];
}

#[cfg(test)]
pub(crate) fn assert_sums_are_as_lanes(wide: impl Sums) {
    let lanes: [Lanes; 8] = core::array::from_fn(|i| {
        Lanes(core::array::from_fn(|j| {
            let number = 16 * i + j;
            ((number * 7919) % 1009) as f32 * 1.0e-3 + (number % 13) as f32 * 1.0e3
        }))
    });
    let eights = lanes.map(|lanes| wide.fold(wide.load(&lanes)));
    let sums = wide.sum_eights(&eights);
    assert_eq!(sums.map(f32::to_bits), lanes.map(|lanes| lanes.sum().to_bits()), "sums");
}

#[cfg(test)]
pub(crate) fn assert_is_as_lanes<W: Wide>(wide: W) {
    let [a, b, c] = [0.3_f32, -1.7, 2.9].map(|start| {
        Lanes(core::array::from_fn(|i| {
            (start + i as f32 * 0.37).sin() * 1e3_f32.powi(i as i32 % 5)
        }))
    });
    let mask: Mask = core::array::from_fn(|i| if i % 3 == 0 { u32::MAX } else { 0 });
    let check = |x: W::Sixteen, want: [f32; LANES], name: &str| {
        let mut got = Lanes::ZERO;
        wide.store(x, &mut got);
        assert_eq!(got.0.map(f32::to_bits), want.map(f32::to_bits), "{name}");
    };
    let [wide_a, wide_b, wide_c] = [&a, &b, &c].map(|x| wide.load(x));
    let by_lane = |f: &dyn Fn(usize) -> f32| core::array::from_fn::<f32, LANES, _>(f);
    check(wide_a, a.0, "loaded and stored");
    check(wide.add(wide_a, wide_b), by_lane(&|i| a.0[i] + b.0[i]), "sum");
    check(wide.multiply(wide_a, wide_b), by_lane(&|i| a.0[i] * b.0[i]), "product");
    check(wide.divide(wide_a, wide_b), by_lane(&|i| a.0[i] / b.0[i]), "quotient");
    check(wide.multiply_add(wide_a, wide_b, wide_c), a.fma(b, c).0, "fused, by lane");
    check(wide.scale_add(0.7, wide_a, wide_c), a.scale_add(0.7, c).0, "fused");
    let chosen = by_lane(&|i| if i % 3 == 0 { a.0[i] } else { b.0[i] });
    check(wide.choose(&mask, wide_a, wide_b), chosen, "chosen");
}
