use dynamax_kernels::Isa;
use proptest::prelude::*;

use super::support::{Case, Cuts, Random, check, isas};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Which {
    Add,
    SwiGlu,
    Silu,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Elementwise {
    pub(crate) which: Which,
    pub(crate) width: usize,
    pub(crate) seed: u64,
}

impl Elementwise {
    fn operands(&self) -> [Vec<f32>; 2] {
        let mut random = Random::new(self.seed);
        [random.numbers(self.width, 20.0), random.numbers(self.width, 3.0)]
    }
}

impl Case for Elementwise {
    const TOLERANCE: f64 = 5e-7;

    fn run(&self, isa: Isa, cuts: Cuts) -> Vec<f32> {
        let [a, b] = self.operands();
        let mut out = vec![f32::NAN; self.width];
        for part in cuts.split(self.width) {
            let (a, b, out) = (&a[part.clone()], &b[part.clone()], &mut out[part]);
            match self.which {
                Which::Add => isa.add(a, b, out),
                Which::SwiGlu => isa.swiglu(a, b, out),
                Which::Silu => isa.silu(a, out),
            }
        }
        out
    }

    fn textbook(&self) -> Vec<f64> {
        let [a, b] = self.operands();
        let silu = |x: f64| x / (1.0 + (-x).exp());
        let pairs = a.iter().zip(&b).map(|(&a, &b)| (f64::from(a), f64::from(b)));
        pairs
            .map(|(a, b)| match self.which {
                Which::Add => a + b,
                Which::SwiGlu => silu(a) * b,
                Which::Silu => silu(a),
            })
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn sums_and_gates_agree(width in 0..200_usize, seed: u64) {
        for which in [Which::Add, Which::SwiGlu, Which::Silu] {
            check(&Elementwise { which, width, seed });
        }
    }

    #[test]
    fn argmax_is_the_first_of_the_largest(len in 1..200_usize, levels in 1..9_u8, seed: u64) {
        let level = f32::from(levels);
        let x: Vec<f32> =
            Random::new(seed).numbers(len, level).into_iter().map(f32::round).collect();
        let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let want = x.iter().position(|&x| x >= largest);
        for isa in isas() {
            prop_assert_eq!(Some(isa.argmax(&x)), want, "{:?} {:?}", isa, x);
        }
    }
}
