//! Writes the bytes of each weight.

use std::io::Write;
use std::ops::Range;
use std::path::Path;

use dynamax_bundle::{DType, Hash, Hasher, SectionKind, SectionSpec, Tensor};
use dynamax_kernels::format::{BLOCK, Format, PANEL};
use dynamax_kernels::quantize::{PackError, PackReport, block_bytes, pack_panel, tile_panel};
use half::f16;

use super::{BuildError, Numbers};
use crate::capture::{Captured, Store, WeightSpec};
use crate::checkpoint::CheckpointError;

/// Numbers quantized together: enough work for every core, little memory.
const BATCH_NUMBERS: usize = 1 << 22;

/// How well matrices survived quantization.
#[derive(Clone, Debug, Default)]
pub struct Quality {
    /// One entry for each quantized matrix.
    pub weights: Vec<WeightQuality>,
}

/// Error of one quantized matrix.
#[derive(Clone, Debug)]
pub struct WeightQuality {
    /// Parameter path.
    pub param: String,
    /// `10 · log10(Σ w² / Σ (w - ŵ)²)`; infinite without error.
    pub snr_db: f64,
}

/// One section for each weight, in the order of the weights.
pub(super) fn weight_sections(captured: &Captured) -> Vec<SectionSpec> {
    let section = |weight: &WeightSpec| SectionSpec {
        name: weight.param.clone(),
        kind: SectionKind::Weight,
        len: captured.program.tensors[weight.tensor.index()].stored_bytes().unwrap_or(u64::MAX),
    };
    captured.weights.iter().map(section).collect()
}

/// Writes and hashes one section.
pub(super) struct Sink<'s, W> {
    file: &'s mut W,
    hasher: Hasher,
    written: u64,
    progress: &'s mut dyn FnMut(u64),
}

impl<'s, W: Write> Sink<'s, W> {
    pub(super) fn new(file: &'s mut W, progress: &'s mut dyn FnMut(u64)) -> Self {
        Self { file, hasher: Hasher::new(), written: 0, progress }
    }

    /// Bytes so far.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        (self.progress)(bytes.len() as u64);
        Ok(())
    }

    pub(super) fn finish(self) -> Hash {
        self.hasher.finish()
    }
}

/// Why a weight was not written.
pub(super) enum WeightError {
    Read(CheckpointError),
    NotStorable { tensor: String, row: usize, column: usize, found: f32, dtype: DType },
    Write(std::io::Error),
}

impl WeightError {
    /// The error of a whole build to `path`.
    pub(super) fn at(self, path: &Path) -> BuildError {
        match self {
            Self::Read(error) => error.into(),
            Self::NotStorable { tensor, row, column, found, dtype } => {
                BuildError::NotStorable { tensor, row, column, found, dtype: dtype.name() }
            }
            Self::Write(error) => BuildError::Write { path: path.into(), error },
        }
    }
}

/// Reads a weight from the checkpoint, and writes it as the Program wants it.
pub(super) fn write_weight<W: Write>(
    from: &Numbers,
    weight: &WeightSpec,
    tensor: &Tensor,
    sink: &mut Sink<'_, W>,
    quality: &mut Quality,
) -> Result<(), WeightError> {
    match &weight.store {
        Store::Matrix if from.are_blocks_of(&weight.param, tensor.dtype) => {
            write_blocks(from, weight, tensor, sink)
        }
        Store::Matrix => write_matrix(from, weight, tensor, sink, quality),
        Store::Plain => write_plain(weight, sink, |rows, out| from.read(&weight.param, rows, out)),
        Store::NegExp => {
            write_plain(weight, sink, |rows, out| from.read_neg_exp(&weight.param, rows, out))
        }
        Store::Computed(numbers) => {
            sink.write(bytemuck::cast_slice(numbers)).map_err(WeightError::Write)
        }
    }
}

fn write_plain<W: Write>(
    weight: &WeightSpec,
    sink: &mut Sink<'_, W>,
    read: impl Fn(Range<usize>, &mut Vec<f32>) -> Result<(), CheckpointError>,
) -> Result<(), WeightError> {
    let (rows, columns) = weight.matrix_shape();
    let mut numbers = Vec::new();
    read(0..rows, &mut numbers).map_err(WeightError::Read)?;
    if let Some(index) = numbers.iter().position(|number| !number.is_finite()) {
        let (row, column) = (index / columns, index % columns);
        let (tensor, found) = (weight.param.clone(), numbers[index]);
        return Err(WeightError::NotStorable { tensor, row, column, found, dtype: DType::F32 });
    }
    sink.write(bytemuck::cast_slice(&numbers)).map_err(WeightError::Write)
}

/// Writes a matrix that is quantized already: its blocks are put in order, and no weight changes.
fn write_blocks<W: Write>(
    from: &Numbers,
    weight: &WeightSpec,
    tensor: &Tensor,
    sink: &mut Sink<'_, W>,
) -> Result<(), WeightError> {
    let (rows, d_in) = weight.matrix_shape();
    let format = format(tensor.dtype);
    let mut panel = vec![0; format.panel_bytes(d_in).unwrap_or(0)];
    let mut blocks = Vec::new();
    for start in (0..rows).step_by(PANEL) {
        let end = rows.min(start + PANEL);
        from.read_blocks(&weight.param, start..end, tensor.dtype, &mut blocks)
            .map_err(WeightError::Read)?;
        tile_panel(format, &blocks, d_in, &mut panel).map_err(|error| {
            let (row, column) = place(error);
            let first = (row * d_in + column) / BLOCK * block_bytes(format).unwrap_or(0);
            let found = f16::from_le_bytes([blocks[first], blocks[first + 1]]).to_f32();
            let (tensor, dtype) = (weight.param.clone(), tensor.dtype);
            WeightError::NotStorable { tensor, row: start + row, column, found, dtype }
        })?;
        sink.write(&panel).map_err(WeightError::Write)?;
    }
    Ok(())
}

fn write_matrix<W: Write>(
    from: &Numbers,
    weight: &WeightSpec,
    tensor: &Tensor,
    sink: &mut Sink<'_, W>,
    quality: &mut Quality,
) -> Result<(), WeightError> {
    let (rows, d_in) = weight.matrix_shape();
    let format = format(tensor.dtype);
    let batch_rows = (BATCH_NUMBERS / d_in).max(1).next_multiple_of(PANEL);
    let (mut numbers, mut packed) = (Vec::new(), Vec::new());
    let mut report = PackReport::default();
    for start in (0..rows).step_by(batch_rows) {
        let end = rows.min(start + batch_rows);
        numbers.clear();
        from.read(&weight.param, start..end, &mut numbers).map_err(WeightError::Read)?;
        let packing = Packing { format, d_in, numbers: &numbers };
        let batch = packing.pack(&mut packed).map_err(|(panel, error)| {
            let (in_panel, column) = place(error);
            let row = start + panel * PANEL + in_panel;
            let found = numbers[(panel * PANEL + in_panel) * d_in + column];
            WeightError::NotStorable {
                tensor: weight.param.clone(),
                row,
                column,
                found,
                dtype: tensor.dtype,
            }
        })?;
        report = report.merge(batch);
        sink.write(&packed).map_err(WeightError::Write)?;
    }
    if matches!(tensor.dtype, DType::Q4 | DType::Q8) {
        quality
            .weights
            .push(WeightQuality { param: weight.param.clone(), snr_db: report.snr_db() });
    }
    Ok(())
}

/// Row within the panel, and column, of the number that could not be packed.
fn place(error: PackError) -> (usize, usize) {
    match error {
        PackError::NotFinite { row, column } | PackError::TooLarge { row, column } => (row, column),
        _ => (0, 0),
    }
}

/// The kernels' name for a stored type.
fn format(dtype: DType) -> Format {
    match dtype {
        DType::F32 => Format::F32,
        DType::F16 => Format::F16,
        DType::Q8 => Format::Q8,
        DType::Q4 => Format::Q4,
    }
}

/// Some rows of a matrix on their way into panels.
struct Packing<'n> {
    format: Format,
    d_in: usize,
    /// `[rows, d_in]`.
    numbers: &'n [f32],
}

impl Packing<'_> {
    /// Packs all rows, on every core; the result does not depend on their number.
    fn pack(&self, packed: &mut Vec<u8>) -> Result<PackReport, (usize, PackError)> {
        let panel_bytes = self.format.panel_bytes(self.d_in).unwrap_or(0);
        let panels = self.numbers.len().div_ceil(self.d_in * PANEL);
        packed.clear();
        packed.resize(panels * panel_bytes, 0);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = panels.div_ceil(threads).max(1);
        let parts: Vec<_> = std::thread::scope(|scope| {
            let parts = packed.chunks_mut(share * panel_bytes).enumerate().map(|(part, out)| {
                scope.spawn(move || self.pack_panels(part * share, panel_bytes, out))
            });
            let parts: Vec<_> = parts.collect();
            parts
                .into_iter()
                .map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        parts.into_iter().try_fold(PackReport::default(), |sum, part| Ok(sum.merge(part?)))
    }

    fn pack_panels(
        &self,
        first: usize,
        panel_bytes: usize,
        out: &mut [u8],
    ) -> Result<PackReport, (usize, PackError)> {
        let mut report = PackReport::default();
        for (index, out) in out.chunks_mut(panel_bytes).enumerate() {
            let panel = first + index;
            let rows = &self.numbers[panel * PANEL * self.d_in..];
            let rows = &rows[..rows.len().min(PANEL * self.d_in)];
            let packed =
                pack_panel(self.format, rows, self.d_in, out).map_err(|error| (panel, error))?;
            report = report.merge(packed);
        }
        Ok(report)
    }
}
