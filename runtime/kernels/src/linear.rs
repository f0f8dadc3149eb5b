//! Matrix times rows, the operator that a step spends its time in.
//!
//! A single row is bound by the memory that streams the weights; many rows are bound by arithmetic. So a kernel takes one
//! panel and a few rows: it loads each weight once, and keeps the sums of all its rows in registers. The panel then is in
//! the cache for the next rows.

use core::array;
use core::ops::Range;

use crate::Isa;
use crate::format::PANEL;
use crate::isa::Kind;
use crate::matrix::{Matrix, Panel, Q4Panel, Q8Panel};
pub use crate::quantize::{QuantizedRow, QuantizedRows};
use crate::view::{ColumnsMut, Rows};

pub(crate) mod float;
mod reference;

/// The rows that a matrix is multiplied with.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// For f32 and f16 matrices.
    F32(Rows<'a>),
    /// For q8 and q4 matrices.
    Quantized(QuantizedRows<'a>),
}

impl Input<'_> {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(rows) => rows.len(),
            Self::Quantized(rows) => rows.len(),
        }
    }

    /// True without rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers in a row.
    #[must_use]
    pub fn width(&self) -> usize {
        match self {
            Self::F32(rows) => rows.width(),
            Self::Quantized(rows) => rows.width(),
        }
    }
}

impl Isa {
    /// Multiplies some panels of a matrix with rows.
    ///
    /// ```text
    /// f32, f16:  out[r, o] = Σ_blocks ( Σ_{i in block} w[o, i] · x[r, i] ) + bias[o]        both sums in order
    /// q8, q4:    out[r, o] = Σ_blocks ( Σ_{i in block} w_int · x_int ) · (w_scale · x_scale) + bias[o]
    /// ```
    ///
    /// Products are fused with the sum they go into; the integer sum is exact.
    ///
    /// # Shapes
    ///
    /// - `weight`: `[d_out, d_in]`
    /// - `x`: `[rows, d_in]`, quantized exactly if the weight is
    /// - `bias`: `[d_out]` f32
    /// - `out`: `[rows, width]` f32, overwritten: the output rows that `panels` hold
    ///
    /// # Panics
    ///
    /// Panics if a shape is another.
    pub fn linear(
        self,
        weight: Matrix<'_>,
        x: Input<'_>,
        bias: Option<&[f32]>,
        panels: Range<usize>,
        out: &mut ColumnsMut<'_>,
    ) {
        let (first, end) = (panels.start * PANEL, (panels.end * PANEL).min(weight.d_out()));
        assert!(
            panels.start <= panels.end && panels.end <= weight.panels(),
            "panels {panels:?} of {weight:?}"
        );
        assert_eq!(x.width(), weight.d_in(), "width of x for {weight:?}");
        assert_eq!(
            out.width(),
            end.saturating_sub(first),
            "width of out for panels {panels:?} of {weight:?}"
        );
        assert_eq!(out.len(), x.len(), "rows of out");
        let quantized = matches!(x, Input::Quantized(_));
        assert_eq!(
            quantized,
            weight.format().is_quantized(),
            "x is quantized if and only if {weight:?} is"
        );
        if let Some(bias) = bias {
            assert_eq!(bias.len(), weight.d_out(), "bias for {weight:?}");
        }
        let bias = bias.map(|bias| &bias[first.min(end)..end]);
        let task = Task { weight, x, bias, panels };
        match self.0 {
            Kind::Reference => task.run(reference::Reference, out),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(isa) => task.run(isa, out),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni(isa) => task.run(isa, out),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(isa) => task.run(isa, out),
            #[cfg(target_arch = "aarch64")]
            Kind::NeonDotprod(isa) => task.run(isa, out),
        }
    }
}

/// Sums of one row: a lane for each output row of the panel.
pub(crate) type Sums = [f32; PANEL];

/// The kernels of an instruction set: one panel times `R` rows.
pub(crate) trait Kernels: Copy {
    /// Rows at once that the registers hold: 1, 2, 4 or 8.
    const ROWS: usize;

    /// The same for f32 and f16. More than 4 are slower everywhere: compilers spill them.
    const FLOAT_ROWS: usize = 4;

    fn f32<const R: usize>(self, panel: &[[f32; PANEL]], x: [&[f32]; R]) -> [Sums; R];
    fn f16<const R: usize>(self, panel: &[[u16; PANEL]], x: [&[f32]; R]) -> [Sums; R];
    fn q8<const R: usize>(self, panel: Q8Panel<'_>, x: [Blocks<'_>; R]) -> [Sums; R];
    fn q4<const R: usize>(self, panel: Q4Panel<'_>, x: [Blocks<'_>; R]) -> [Sums; R];
}

/// A [`QuantizedRow`], by blocks.
#[derive(Clone, Copy)]
pub(crate) struct Blocks<'a> {
    /// Eight groups of 4 integers.
    pub(crate) words: &'a [[i32; 8]],
    pub(crate) scales: &'a [f32],
    pub(crate) sums: &'a [i32],
}

impl<'a> Blocks<'a> {
    fn new(row: QuantizedRow<'a>) -> Self {
        Self { words: bytemuck::cast_slice(row.quants), scales: row.scales, sums: row.sums }
    }

    /// Exactly `blocks` blocks, so that one check serves all indices.
    #[inline(always)]
    pub(crate) fn cut(self, blocks: usize) -> Self {
        Self {
            words: &self.words[..blocks],
            scales: &self.scales[..blocks],
            sums: &self.sums[..blocks],
        }
    }
}

struct Task<'a> {
    weight: Matrix<'a>,
    x: Input<'a>,
    /// Of the first panel and what follows.
    bias: Option<&'a [f32]>,
    panels: Range<usize>,
}

impl Task<'_> {
    fn run<K: Kernels>(&self, kernels: K, out: &mut ColumnsMut<'_>) {
        let rows = if self.weight.format().is_quantized() { K::ROWS } else { K::FLOAT_ROWS };
        for (index, panel) in self.panels.clone().enumerate() {
            let panel = self.weight.panel(panel);
            let mut row = 0;
            while row < self.x.len() {
                let group = rows.min(self.x.len() - row);
                row += match group {
                    8.. => self.rows::<K, 8>(kernels, panel, index, row, out),
                    4.. => self.rows::<K, 4>(kernels, panel, index, row, out),
                    2.. => self.rows::<K, 2>(kernels, panel, index, row, out),
                    _ => self.rows::<K, 1>(kernels, panel, index, row, out),
                };
            }
        }
    }

    /// Multiplies a panel with `R` rows, and returns `R`.
    #[inline]
    fn rows<K: Kernels, const R: usize>(
        &self,
        kernels: K,
        panel: Panel<'_>,
        index: usize,
        row: usize,
        out: &mut ColumnsMut<'_>,
    ) -> usize {
        let sums = match (self.x, panel) {
            (Input::F32(x), Panel::F32(panel)) => {
                kernels.f32::<R>(panel, array::from_fn(|r| x.row(row + r)))
            }
            (Input::F32(x), Panel::F16(panel)) => {
                kernels.f16::<R>(panel, array::from_fn(|r| x.row(row + r)))
            }
            (Input::Quantized(x), Panel::Q8(panel)) => {
                kernels.q8::<R>(panel, array::from_fn(|r| Blocks::new(x.row(row + r))))
            }
            (Input::Quantized(x), Panel::Q4(panel)) => {
                kernels.q4::<R>(panel, array::from_fn(|r| Blocks::new(x.row(row + r))))
            }
            _ => unreachable!("checked at the entry"),
        };
        for r in 0..R {
            let out = out.row_mut(row + r);
            let columns = index * PANEL..out.len().min(index * PANEL + PANEL);
            let width = columns.len();
            let out = &mut out[columns.clone()];
            out.copy_from_slice(&sums[r][..width]);
            if let Some(bias) = self.bias {
                out.iter_mut().zip(&bias[columns]).for_each(|(out, bias)| *out += bias);
            }
        }
        R
    }
}
