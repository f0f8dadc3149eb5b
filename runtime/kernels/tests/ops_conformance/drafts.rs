//! Recurrences over drafts: rows that are answered before it is known whether they stay.

use std::ops::Range;

use dynamax_kernels::Isa;
use dynamax_kernels::ops::Span;

use super::support::{Case, Cuts, Matrix, Random, bits, isas};

/// An operator with a state.
pub(crate) trait Recurrence: Case {
    fn rows(&self) -> usize;

    /// The state before the first row.
    fn state(&self) -> Matrix;

    /// Goes over some rows, in parts: the answers.
    fn go(
        &self,
        isa: Isa,
        parts: Cuts,
        rows: Range<usize>,
        span: Span,
        state: &mut Matrix,
    ) -> Matrix;

    /// Goes over all rows, in chunks: the answers, then the state.
    fn in_chunks(&self, isa: Isa, cuts: Cuts) -> Vec<f32> {
        let (mut state, mut found) = (self.state(), Vec::new());
        for rows in cuts.chunks(self.rows()) {
            let span = Span::all(rows.len());
            found.extend(self.go(isa, cuts, rows, span, &mut state).numbers());
        }
        found.extend(state.numbers());
        found
    }
}

/// Rounds of drafts of which some are kept give the bits of rows that are all kept.
pub(crate) fn check_drafts<R: Recurrence>(case: &R, seed: u64) {
    let expected = bits(&case.in_chunks(Isa::reference(), Cuts::WHOLE));
    for isa in isas() {
        for parts in [1, 2] {
            let parts = Cuts { parts, ..Cuts::WHOLE };
            let found = in_rounds(case, isa, parts, &mut Random::new(seed));
            assert_eq!(bits(&found), expected, "{isa:?} {parts:?} {case:?}");
        }
    }
}

/// A round has a row that stays and some drafts, of which some stay.
fn in_rounds<R: Recurrence>(case: &R, isa: Isa, parts: Cuts, random: &mut Random) -> Vec<f32> {
    let (mut state, mut found) = (case.state(), Vec::new());
    let mut below = |end: usize| ((random.number() + 1.0) / 2.0 * end as f32) as usize;
    let mut start = 0;
    while start < case.rows() {
        let rows = 1 + below(case.rows() - start);
        let right = 1 + below(rows);
        let mut answers = Vec::new();
        if below(2) == 0 {
            let span = Span { replayed: 0, kept: 1 };
            answers.extend(case.go(isa, parts, start..start + rows, span, &mut state).numbers());
        } else {
            answers
                .extend(case.go(isa, parts, start..start + 1, Span::all(1), &mut state).numbers());
            for draft in 1..rows {
                let span = Span { replayed: draft - 1, kept: 0 };
                let rows = start + 1..start + 1 + draft;
                answers.extend(case.go(isa, parts, rows, span, &mut state).numbers());
            }
        }
        found.extend(&answers[..answers.len() / rows * right]);
        let span = Span { replayed: right - 1, kept: right - 1 };
        let _ = case.go(isa, parts, start + 1..start + right, span, &mut state);
        start += right;
    }
    found.extend(state.numbers());
    found
}
