//! What the cases share: numbers, cuts, and the checks.

use std::fmt::Debug;

use dynamax_kernels::Isa;
use dynamax_kernels::view::{ColumnsMut, Rows, stride};

/// How the work is cut into calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cuts {
    /// Rows in a call, at most.
    pub(crate) rows: usize,
    /// Heads, or blocks of channels, are split in so many parts.
    pub(crate) parts: usize,
}

impl Cuts {
    pub(crate) const WHOLE: Self = Self { rows: usize::MAX, parts: 1 };
    const SOME: [Self; 4] = [
        Self::WHOLE,
        Self { rows: 1, parts: 1 },
        Self { rows: 3, parts: 2 },
        Self { rows: usize::MAX, parts: 3 },
    ];

    /// Row ranges.
    pub(crate) fn chunks(self, rows: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
        let step = self.rows.min(rows).max(1);
        (0..rows).step_by(step).map(move |first| first..rows.min(first + step))
    }

    /// Ranges of heads or channels, some of them possibly empty.
    pub(crate) fn split(self, count: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
        (0..self.parts).map(move |i| count * i / self.parts..count * (i + 1) / self.parts)
    }
}

/// An operator with its operands.
pub(crate) trait Case: Debug {
    /// Difference from the textbook that is allowed, as a part of the larger of the value and 1.
    const TOLERANCE: f64;

    /// Runs the operator: the output, then states.
    fn run(&self, isa: Isa, cuts: Cuts) -> Vec<f32>;

    /// The same in f64, written from the formula alone.
    fn textbook(&self) -> Vec<f64>;
}

/// Holds the reference against the textbook, and all else against the reference.
pub(crate) fn check<C: Case>(case: &C) {
    let reference = case.run(Isa::reference(), Cuts::WHOLE);
    let textbook = case.textbook();
    assert_eq!(reference.len(), textbook.len(), "{case:?}");
    for (i, (&got, &want)) in reference.iter().zip(&textbook).enumerate() {
        let allowed = C::TOLERANCE * want.abs().max(1.0);
        assert!((f64::from(got) - want).abs() <= allowed, "{case:?}: [{i}] is {got}, not {want}");
    }
    for isa in isas() {
        for cuts in Cuts::SOME {
            let got = case.run(isa, cuts);
            assert_eq!(bits(&got), bits(&reference), "{isa:?} {cuts:?} {case:?}");
        }
    }
}

/// The instruction sets to test; fails if one that this machine has is not among them.
pub(crate) fn isas() -> Vec<Isa> {
    let isas: Vec<Isa> = Isa::available().collect();
    for name in required() {
        assert!(isas.iter().any(|isa| isa.name() == name), "{name} did not run");
    }
    isas
}

/// The names of what this machine has, asked independently of the crate.
#[cfg(target_arch = "x86_64")]
fn required() -> Vec<&'static str> {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c");
    let avx512 = is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vnni");
    let names = [(true, "reference"), (avx2, "avx2"), (avx512, "avx512-vnni")];
    names.into_iter().filter(|(has, _)| *has).map(|(_, name)| name).collect()
}

/// The names of what this machine has, asked independently of the crate.
#[cfg(target_arch = "aarch64")]
fn required() -> Vec<&'static str> {
    let dotprod = std::arch::is_aarch64_feature_detected!("dotprod");
    let i8mm = dotprod && std::arch::is_aarch64_feature_detected!("i8mm");
    let names =
        [(true, "reference"), (true, "neon"), (dotprod, "neon-dotprod"), (i8mm, "neon-i8mm")];
    names.into_iter().filter(|(has, _)| *has).map(|(_, name)| name).collect()
}

#[test]
fn every_isa_of_this_machine_runs() {
    println!("instruction sets: {:?}", isas());
}

pub(crate) fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Numbers from a seed (xorshift).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number in `[-1, 1)`.
    pub(crate) fn number(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / 8_388_608.0 - 1.0
    }

    pub(crate) fn numbers(&mut self, len: usize, scale: f32) -> Vec<f32> {
        (0..len).map(|_| self.number() * scale).collect()
    }

    pub(crate) fn matrix(&mut self, rows: usize, width: usize, scale: f32) -> Matrix {
        let mut matrix = Matrix::nan(rows, width);
        for row in 0..rows {
            matrix.row_mut(row).copy_from_slice(&self.numbers(width, scale));
        }
        matrix
    }
}

/// Rows as activations lie in memory, with NaN behind the width: what is read from there is found out.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    data: Vec<f32>,
    pub(crate) rows: usize,
    pub(crate) width: usize,
}

impl Matrix {
    pub(crate) fn nan(rows: usize, width: usize) -> Self {
        Self { data: vec![f32::NAN; rows * stride(width)], rows, width }
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.data[row * stride(self.width)..][..self.width]
    }

    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.data[row * stride(self.width)..][..self.width]
    }

    pub(crate) fn at(&self, row: usize, column: usize) -> f64 {
        f64::from(self.row(row)[column])
    }

    /// Some of the rows.
    pub(crate) fn view(&self, rows: std::ops::Range<usize>) -> Rows<'_> {
        let step = stride(self.width);
        Rows::new(&self.data[rows.start * step..rows.end * step], rows.len(), self.width, step)
    }

    /// Some columns of some of the rows.
    pub(crate) fn part_mut(
        &mut self,
        rows: std::ops::Range<usize>,
        columns: std::ops::Range<usize>,
    ) -> ColumnsMut<'_> {
        let step = stride(self.width);
        let data = &mut self.data[rows.start * step..rows.end * step];
        let all = ColumnsMut::new(data, rows.len(), self.width, step);
        all.split_at(columns.end).0.split_at(columns.start).1
    }

    /// All numbers.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = f32> {
        (0..self.rows).flat_map(|row| self.row(row).iter().copied())
    }
}
