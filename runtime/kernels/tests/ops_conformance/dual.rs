use std::ops::Range;

use dynamax_kernels::Isa;
use dynamax_kernels::ops::{Span, SsdShape, StateSpaceDual};
use proptest::prelude::*;

use super::drafts::{Recurrence, check_drafts};
use super::support::{Case, Cuts, Matrix, Random, check};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Dual {
    pub(crate) rows: usize,
    pub(crate) n_groups: usize,
    pub(crate) heads_per_group: usize,
    pub(crate) d_state: usize,
    pub(crate) head_dim: usize,
    pub(crate) seed: u64,
}

struct Operands {
    xbc: Matrix,
    dt: Matrix,
    state: Matrix,
    /// `dt_bias`, `a`, `d`.
    per_head: [Vec<f32>; 3],
    shape: SsdShape,
}

impl Dual {
    fn operands(&self) -> Operands {
        let mut random = Random::new(self.seed);
        let &Self { n_groups, d_state, head_dim, .. } = self;
        let n_heads = n_groups * self.heads_per_group;
        let a = random.numbers(n_heads, 4.0).iter().map(|a| -a.abs()).collect();
        // Some steps are clamped on either side.
        let dt_max = if self.seed.is_multiple_of(2) { 3.0 } else { f32::INFINITY };
        Operands {
            xbc: random.matrix(self.rows, n_heads * head_dim + 2 * n_groups * d_state, 1.0),
            dt: random.matrix(self.rows, n_heads, 5.0),
            state: random.matrix(n_heads * d_state, head_dim, 1.0),
            per_head: [random.numbers(n_heads, 1.0), a, random.numbers(n_heads, 1.0)],
            shape: SsdShape { n_heads, n_groups, d_state, head_dim, dt_min: 0.05, dt_max },
        }
    }
}

impl Case for Dual {
    const TOLERANCE: f64 = 1e-5;

    fn run(&self, isa: Isa, cuts: Cuts) -> Vec<f32> {
        self.in_chunks(isa, cuts)
    }

    fn textbook(&self) -> Vec<f64> {
        let Operands { xbc, dt, state, per_head: [dt_bias, a, d], shape } = self.operands();
        let SsdShape { n_heads, n_groups, d_state, head_dim, dt_min, dt_max } = shape;
        let mut h: Vec<f64> = state.numbers().map(f64::from).collect();
        let mut out = Vec::new();
        for t in 0..self.rows {
            for head in 0..n_heads {
                let b = n_heads * head_dim + head / self.heads_per_group * d_state;
                let c = b + n_groups * d_state;
                let delta = (dt.at(t, head) + f64::from(dt_bias[head])).exp().ln_1p();
                let delta = delta.clamp(f64::from(dt_min), f64::from(dt_max));
                for p in 0..head_dim {
                    let x = xbc.at(t, head * head_dim + p);
                    let mut y = f64::from(d[head]) * x;
                    for n in 0..d_state {
                        let h = &mut h[(head * d_state + n) * head_dim + p];
                        *h = (delta * f64::from(a[head])).exp() * *h + delta * x * xbc.at(t, b + n);
                        y += *h * xbc.at(t, c + n);
                    }
                    out.push(y);
                }
            }
        }
        out.extend(h);
        out
    }
}

impl Recurrence for Dual {
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
        let Operands { xbc, dt, per_head: [dt_bias, a, d], shape, .. } = self.operands();
        let SsdShape { n_heads, d_state, head_dim, .. } = shape;
        let answers = span.answered(rows.len());
        let mut out = Matrix::nan(answers, n_heads * head_dim);
        let op = StateSpaceDual {
            xbc: xbc.view(rows.clone()),
            dt: dt.view(rows),
            dt_bias: &dt_bias,
            a: &a,
            d: &d,
            shape,
        };
        for heads in parts.split(n_heads) {
            let mut state = state.part_mut(heads.start * d_state..heads.end * d_state, 0..head_dim);
            let columns = heads.start * head_dim..heads.end * head_dim;
            let mut out = out.part_mut(0..answers, columns);
            isa.state_space_dual_span(&op, span, heads, &mut state, &mut out);
        }
        out
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn dual_scans_agree(
        (rows, n_groups, heads_per_group) in (1..8_usize, 1..3_usize, 1..4_usize),
        (d_state, head_dim) in (1..20_usize, 1..100_usize),
        seed: u64,
    ) {
        let case = Dual { rows, n_groups, heads_per_group, d_state, head_dim, seed };
        check(&case);
        check_drafts(&case, seed);
    }
}
