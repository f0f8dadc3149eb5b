use std::ops::Range;

use dynamax_kernels::Isa;
use dynamax_kernels::ops::{CausalConv, ConvActivation, Span};
use proptest::prelude::*;

use super::drafts::{Recurrence, check_drafts};
use super::support::{Case, Cuts, Matrix, Random, check};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Conv {
    pub(crate) rows: usize,
    pub(crate) channels: usize,
    pub(crate) d_conv: usize,
    pub(crate) bias: bool,
    pub(crate) silu: bool,
    pub(crate) seed: u64,
}

struct Operands {
    x: Matrix,
    weight: Matrix,
    state: Matrix,
    bias: Vec<f32>,
}

impl Conv {
    fn operands(&self) -> Operands {
        let mut random = Random::new(self.seed);
        Operands {
            x: random.matrix(self.rows, self.channels, 2.0),
            weight: random.matrix(self.d_conv, self.channels, 1.0),
            state: random.matrix(self.d_conv - 1, self.channels, 2.0),
            bias: random.numbers(self.channels, 1.0),
        }
    }
}

impl Case for Conv {
    const TOLERANCE: f64 = 2e-6;

    fn run(&self, isa: Isa, cuts: Cuts) -> Vec<f32> {
        self.in_chunks(isa, cuts)
    }

    fn textbook(&self) -> Vec<f64> {
        let Operands { x, weight, state, bias } = self.operands();
        let before = self.d_conv - 1;
        let input = |t: usize, ch: usize| {
            if t < before { state.at(t, ch) } else { x.at(t - before, ch) }
        };
        let mut out = Vec::new();
        for t in 0..self.rows {
            for ch in 0..self.channels {
                let start = if self.bias { f64::from(bias[ch]) } else { 0.0 };
                let sum = start
                    + (0..self.d_conv).map(|k| weight.at(k, ch) * input(t + k, ch)).sum::<f64>();
                out.push(if self.silu { sum / (1.0 + (-sum).exp()) } else { sum });
            }
        }
        for t in self.rows..self.rows + before {
            out.extend((0..self.channels).map(|ch| input(t, ch)));
        }
        out
    }
}

impl Recurrence for Conv {
    fn rows(&self) -> usize {
        self.rows
    }

    fn state(&self) -> Matrix {
        self.operands().state
    }

    fn go(
        &self,
        isa: Isa,
        parts: Cuts,
        rows: Range<usize>,
        span: Span,
        state: &mut Matrix,
    ) -> Matrix {
        let Operands { x, weight, bias, .. } = self.operands();
        let answers = span.answered(rows.len());
        let mut out = Matrix::nan(answers, self.channels);
        for columns in parts.split(self.channels) {
            let op = CausalConv {
                x: x.view(rows.clone()).columns(columns.clone()),
                weight: weight.view(0..self.d_conv).columns(columns.clone()),
                bias: self.bias.then_some(&bias[columns.clone()]),
                activation: if self.silu { ConvActivation::Silu } else { ConvActivation::Identity },
            };
            let mut state = state.part_mut(0..self.d_conv - 1, columns.clone());
            let mut out = out.part_mut(0..answers, columns);
            isa.causal_conv_span(&op, span, &mut state, &mut out);
        }
        out
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn convolutions_agree(
        (rows, channels, d_conv) in (1..12_usize, 1..150_usize, 1..6_usize),
        (bias, silu, seed) in any::<(bool, bool, u64)>(),
    ) {
        let case = Conv { rows, channels, d_conv, bias, silu, seed };
        check(&case);
        check_drafts(&case, seed);
    }
}
