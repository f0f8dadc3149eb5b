//! Each entry of the tensor table alone.

use super::{MAX_ELEMENTS, MAX_EXITS, MAX_WIDTH, ProgramError};
use crate::program::{DType, Kind, Program, Rows, Tensor};

/// Checks kinds, dtypes and sizes.
pub(super) fn check(program: &Program<'_>) -> Result<(), ProgramError> {
    let countable = usize::from(u16::MAX);
    let lists = [
        ("tensors", program.tensors.len(), countable),
        ("operators", program.ops.len(), countable),
        ("segments", program.segments.len(), countable),
        ("exits", program.exits.len(), MAX_EXITS),
    ];
    for (what, found, most) in lists {
        if found > most {
            let (found, most) = (found as u64, most as u64);
            return Err(ProgramError::TooMany { what, found, most });
        }
    }
    let mut entries = (0_u16..).zip(program.tensors);
    entries.try_for_each(|(tensor, entry)| check_entry(tensor, entry))
}

fn check_entry(tensor: u16, entry: &Tensor) -> Result<(), ProgramError> {
    let unless = |fits: bool, expected| match fits {
        true => Ok(()),
        false => Err(ProgramError::Entry { tensor, expected }),
    };
    let size = |what, found: u64, most: u64| match (1..=most).contains(&found) {
        true => Ok(()),
        false => Err(ProgramError::Size { tensor, what, found, most }),
    };
    size("columns", entry.width.into(), MAX_WIDTH.into())?;
    if let Rows::Fixed(rows) = entry.rows {
        size("rows", rows.into(), MAX_WIDTH.into())?;
        let elements = u64::from(rows).saturating_mul(entry.width.into());
        size("numbers", elements, MAX_ELEMENTS)?;
    }
    match (entry.kind, entry.rows) {
        (Kind::Weight { .. }, _) => {
            unless(entry.stored_bytes().is_some(), "fixed rows, and f32 where plain, of a weight")
        }
        (Kind::State, Rows::Fixed(_)) => {
            unless(entry.dtype == DType::F32, "f32 of a state that is not a cache")
        }
        (Kind::State, Rows::Cache { .. }) => {
            unless(matches!(entry.dtype, DType::F32 | DType::F16), "f32 or f16 of a cache")
        }
        (Kind::State, Rows::Many) => unless(false, "fixed or cached rows of a state"),
        (Kind::Activation, Rows::Many | Rows::Fixed(1)) => {
            unless(entry.dtype == DType::F32, "f32 of an activation")
        }
        (Kind::Activation, _) => unless(false, "one row, or one for each token, of an activation"),
    }
}
