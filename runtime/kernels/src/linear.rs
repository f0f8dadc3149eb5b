//! Matrix times rows, the operator that a step spends its time in.
//!
//! A single row is bound by the memory that streams the weights; many rows are bound by arithmetic. So a kernel takes one
//! panel and a few rows: it loads each weight once, and keeps the sums of all its rows in registers.

use core::ops::Range;

use crate::Isa;
use crate::format::PANEL;
use crate::isa::Kind;
use crate::matrix::{Matrix, Q4Panel, Q8Panel};
pub use crate::quantize::{QuantizedBlock, QuantizedRows};
use crate::view::{ColumnsMut, Rows};
use task::Task;

pub(crate) mod float;
mod reference;
mod task;

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
            #[cfg(target_arch = "aarch64")]
            Kind::NeonI8mm(isa) => task.run(isa, out),
        }
    }
}

/// Sums of one row: a lane for each output row of the panel.
pub(crate) type Sums = [f32; PANEL];

/// Blocks of some rows, as many of each as a tile has.
pub(crate) type Blocks<'a, const R: usize> = [&'a [QuantizedBlock]; R];

/// The same blocks of `P` neighbouring panels.
#[derive(Clone, Copy)]
pub(crate) struct Tile<Panel, const P: usize> {
    pub(crate) panels: [Panel; P],
    /// From a panel to the one behind it.
    pub(crate) panel_bytes: usize,
}

/// The kernels of an instruction set: a tile of some panels times `R` rows.
///
/// Those of integers go on from the sums in `acc`.
pub(crate) trait Kernels: Copy {
    /// Quantized rows at once that the registers hold, at most 8.
    const ROWS: usize;

    /// The same where weights are q4, whose unpacking takes registers, too.
    const Q4_ROWS: usize = Self::ROWS;

    /// Rows at once for f32 and f16. More than 4 are slower everywhere: compilers spill them.
    const FLOAT_ROWS: usize = 4;

    fn f32<const R: usize>(self, panel: &[[f32; PANEL]], x: [&[f32]; R]) -> [Sums; R];
    fn f16<const R: usize>(self, panel: &[[u16; PANEL]], x: [&[f32]; R]) -> [Sums; R];
    fn q8<const P: usize, const R: usize>(
        self,
        tile: Tile<Q8Panel<'_>, P>,
        x: Blocks<'_, R>,
        acc: &mut [[Sums; R]; P],
    );
    fn q4<const P: usize, const R: usize>(
        self,
        tile: Tile<Q4Panel<'_>, P>,
        x: Blocks<'_, R>,
        acc: &mut [[Sums; R]; P],
    );
}
