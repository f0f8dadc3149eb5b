use dynamax_kernels::Isa;
use proptest::prelude::*;

use super::support::{Case, Cuts, Random, check};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rope {
    pub(crate) n_heads: usize,
    /// Half of `head_dim`.
    pub(crate) half: usize,
    pub(crate) position: u32,
    pub(crate) seed: u64,
}

impl Rope {
    fn inv_freq(&self) -> Vec<f32> {
        // Not a power, which each system computes with other bits.
        (0..self.half).map(|i| 1.0 / (1.0 + 3.0 * i as f32)).collect()
    }

    fn x(&self) -> Vec<f32> {
        Random::new(self.seed).numbers(self.n_heads * 2 * self.half, 2.0)
    }
}

impl Case for Rope {
    const TOLERANCE: f64 = 4e-7;

    fn run(&self, isa: Isa, cuts: Cuts) -> Vec<f32> {
        let head_dim = 2 * self.half;
        let mut angles = vec![f32::NAN; head_dim];
        isa.rope_angles(&self.inv_freq(), self.position, &mut angles);
        let x = self.x();
        let mut out = vec![f32::NAN; x.len()];
        for part in cuts.split(self.n_heads) {
            let part = part.start * head_dim..part.end * head_dim;
            isa.rope(&x[part.clone()], &angles, &mut out[part]);
        }
        angles.extend(out);
        angles
    }

    fn textbook(&self) -> Vec<f64> {
        // The product is an f32 by definition.
        let angles: Vec<f64> =
            self.inv_freq().iter().map(|f| f64::from(self.position as f32 * f)).collect();
        let mut out: Vec<f64> = angles.iter().map(|a| a.cos()).collect();
        out.extend(angles.iter().map(|a| a.sin()));
        for head in self.x().chunks(2 * self.half) {
            let pair = |i: usize| (f64::from(head[i]), f64::from(head[i + self.half]));
            out.extend(
                (0..self.half).map(|i| pair(i).0 * angles[i].cos() - pair(i).1 * angles[i].sin()),
            );
            out.extend(
                (0..self.half).map(|i| pair(i).1 * angles[i].cos() + pair(i).0 * angles[i].sin()),
            );
        }
        out
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rotations_agree(n_heads in 1..5_usize, half in 1..40_usize, position in 0..100_000_u32, seed: u64) {
        check(&Rope { n_heads, half, position, seed });
    }
}
