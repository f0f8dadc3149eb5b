use std::ops::Range;

use dynamax_kernels::Isa;
use dynamax_kernels::ops::{SelectiveScan, Span};
use proptest::prelude::*;

use super::drafts::{Recurrence, check_drafts};
use super::support::{Case, Cuts, Matrix, Random, check};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Scan {
    pub(crate) rows: usize,
    pub(crate) channels: usize,
    pub(crate) d_state: usize,
    pub(crate) seed: u64,
}

struct Operands {
    x: Matrix,
    dt: Matrix,
    bc: Matrix,
    a: Matrix,
    state: Matrix,
    d: Vec<f32>,
}

impl Scan {
    fn operands(&self) -> Operands {
        let mut random = Random::new(self.seed);
        let mut a = random.matrix(self.d_state, self.channels, 4.0);
        for n in 0..self.d_state {
            a.row_mut(n).iter_mut().for_each(|a| *a = -a.abs());
        }
        Operands {
            x: random.matrix(self.rows, self.channels, 2.0),
            dt: random.matrix(self.rows, self.channels, 5.0),
            bc: random.matrix(self.rows, 2 * self.d_state, 1.0),
            a,
            state: random.matrix(self.d_state, self.channels, 1.0),
            d: random.numbers(self.channels, 1.0),
        }
    }
}

impl Case for Scan {
    const TOLERANCE: f64 = 1e-5;

    fn run(&self, isa: Isa, cuts: Cuts) -> Vec<f32> {
        self.in_chunks(isa, cuts)
    }

    fn textbook(&self) -> Vec<f64> {
        let Operands { x, dt, bc, a, state, d } = self.operands();
        let mut h: Vec<f64> = state.numbers().map(f64::from).collect();
        let mut out = Vec::new();
        for t in 0..self.rows {
            for ch in 0..self.channels {
                let delta = dt.at(t, ch).exp().ln_1p();
                let mut y = f64::from(d[ch]) * x.at(t, ch);
                for n in 0..self.d_state {
                    let h = &mut h[n * self.channels + ch];
                    *h = (delta * a.at(n, ch)).exp() * *h + delta * x.at(t, ch) * bc.at(t, n);
                    y += *h * bc.at(t, self.d_state + n);
                }
                out.push(y);
            }
        }
        out.extend(h);
        out
    }
}

impl Recurrence for Scan {
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
        let Operands { x, dt, bc, a, d, .. } = self.operands();
        let answers = span.answered(rows.len());
        let mut out = Matrix::nan(answers, self.channels);
        for columns in parts.split(self.channels) {
            let op = SelectiveScan {
                x: x.view(rows.clone()).columns(columns.clone()),
                dt: dt.view(rows.clone()).columns(columns.clone()),
                bc: bc.view(rows.clone()),
                a: a.view(0..self.d_state).columns(columns.clone()),
                d: &d[columns.clone()],
            };
            let mut state = state.part_mut(0..self.d_state, columns.clone());
            let mut out = out.part_mut(0..answers, columns);
            isa.selective_scan_span(&op, span, &mut state, &mut out);
        }
        out
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn scans_agree(rows in 1..8_usize, channels in 1..150_usize, d_state in 1..18_usize, seed: u64) {
        let case = Scan { rows, channels, d_state, seed };
        check(&case);
        check_drafts(&case, seed);
    }
}
