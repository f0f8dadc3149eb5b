//! What this machine computes for the GPU: rows of tables, which stay mapped here, and angles, which need exact sines.

use dynamax_bundle::TensorId;
use dynamax_engine::{Job, Model, memory};
use dynamax_kernels::{Isa, Matrix};

use crate::lower::Uploaded;

/// Numbers that some rows have.
pub(crate) fn words(uploaded: Uploaded, model: &Model<'_>, rows: usize) -> usize {
    let width = |id: TensorId| model.program().tensor(id).width as usize;
    match uploaded {
        Uploaded::Nothing => 0,
        Uploaded::Rows { table } => rows * width(table),
        Uploaded::Angles { inv_freq } => rows * 2 * width(inv_freq),
    }
}

/// Computes the rows of a job.
pub(crate) fn push(uploads: &mut Vec<u32>, uploaded: Uploaded, job: &Job<'_>, rows: usize) {
    let width = words(uploaded, &job.model, 1);
    let mut numbers = vec![0.0; width];
    for row in 0..rows {
        match uploaded {
            Uploaded::Nothing => return,
            Uploaded::Rows { table } => {
                matrix(&job.model, table).row_into(job.tokens[row] as usize, &mut numbers);
            }
            Uploaded::Angles { inv_freq } => {
                let frequencies = bytemuck::cast_slice(job.model.weight(inv_freq));
                let position = job.position + row as u32;
                Isa::detect().rope_angles(frequencies, position, &mut numbers);
            }
        }
        uploads.extend(numbers.iter().map(|number| number.to_bits()));
    }
}

fn matrix<'m>(model: &Model<'m>, id: TensorId) -> Matrix<'m> {
    let tensor = model.program().tensor(id);
    let (rows, width) = (model.rows_of(id), tensor.width as usize);
    let matrix = Matrix::new(memory::format(tensor.dtype), rows, width, model.weight(id));
    matrix.unwrap_or_else(|error| unreachable!("the bundle was checked: {error}"))
}
