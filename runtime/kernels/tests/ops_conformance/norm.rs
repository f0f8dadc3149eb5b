use dynamax_kernels::Isa;
use proptest::prelude::*;

use super::support::{Case, Cuts, Random, check};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Norm {
    pub(crate) gated: bool,
    pub(crate) group: usize,
    /// Groups in the weight.
    pub(crate) groups: usize,
    /// Times that the weight repeats.
    pub(crate) repeats: usize,
    pub(crate) seed: u64,
}

const EPS: f32 = 1e-5;

impl Norm {
    /// `x`, gate, weight.
    fn operands(&self) -> [Vec<f32>; 3] {
        let mut random = Random::new(self.seed);
        let weight = self.group * self.groups;
        [weight * self.repeats, weight * self.repeats, weight].map(|len| random.numbers(len, 3.0))
    }
}

impl Case for Norm {
    const TOLERANCE: f64 = 4e-6;

    fn run(&self, isa: Isa, cuts: Cuts) -> Vec<f32> {
        let [x, gate, weight] = self.operands();
        let mut out = vec![f32::NAN; x.len()];
        // Repeats of the weight are what can be cut.
        for part in cuts.split(self.repeats) {
            let part = part.start * weight.len()..part.end * weight.len();
            let (x, gate, out) = (&x[part.clone()], &gate[part.clone()], &mut out[part]);
            if self.gated {
                isa.gated_rms_norm(x, gate, &weight, self.group, EPS, out);
            } else {
                isa.rms_norm(x, &weight, self.group, EPS, out);
            }
        }
        out
    }

    fn textbook(&self) -> Vec<f64> {
        let [x, gate, weight] = self.operands().map(|x| x.into_iter().map(f64::from).collect());
        let x: Vec<f64> = x;
        let gated = x.iter().zip(&gate).map(|(x, gate)| x * gate / (1.0 + (-gate).exp()));
        let x: Vec<f64> = if self.gated { gated.collect() } else { x };
        let mut out = Vec::new();
        for group in x.chunks(self.group) {
            let mean = group.iter().map(|x| x * x).sum::<f64>() / group.len() as f64;
            out.extend(group.iter().map(|x| x / (mean + f64::from(EPS)).sqrt()));
        }
        out.iter().zip(weight.iter().cycle()).map(|(x, weight)| x * weight).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn norms_agree(gated: bool, group in 1..70_usize, groups in 1..4_usize, repeats in 1..5_usize, seed: u64) {
        check(&Norm { gated, group, groups, repeats, seed });
    }
}
