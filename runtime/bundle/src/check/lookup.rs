//! Finding the operands of one operator, and saying what is wrong with them.

use super::{OpAt, ProgramError};
use crate::program::{DType, Kind, Layout, Program, Rows, Tensor, TensorId};

/// An operand: the name of its place, and its tensor.
pub(super) type Slot = (&'static str, TensorId);

/// The operator that is checked.
#[derive(Clone, Copy)]
pub(super) struct Lookup<'a> {
    pub(super) program: &'a Program<'a>,
    pub(super) op: OpAt,
}

impl Lookup<'_> {
    fn tensor(&self, (slot, id): Slot) -> Result<Tensor, ProgramError> {
        let tensors = self.program.tensors.len() as u64;
        let missing = ProgramError::NoSuchTensor { op: self.op, slot, tensor: id.0, tensors };
        self.program.tensors.get(id.index()).copied().ok_or(missing)
    }

    fn operand(&self, (slot, id): Slot, expected: &'static str) -> ProgramError {
        ProgramError::Operand { op: self.op, slot, tensor: id.0, expected }
    }

    /// The width of an activation.
    pub(super) fn activation(&self, slot: Slot) -> Result<u32, ProgramError> {
        let tensor = self.tensor(slot)?;
        match tensor.kind {
            Kind::Activation => Ok(tensor.width),
            _ => Err(self.operand(slot, "an activation")),
        }
    }

    /// An activation of `expected` width.
    pub(super) fn activation_of(&self, slot: Slot, expected: u64) -> Result<(), ProgramError> {
        let found = self.activation(slot)?;
        self.same_width(slot, found, expected)
    }

    /// `[rows, width]` of a tiled matrix.
    pub(super) fn matrix(&self, slot: Slot) -> Result<(u32, u32), ProgramError> {
        let tensor = self.tensor(slot)?;
        match (tensor.kind, tensor.rows) {
            (Kind::Weight { layout: Layout::Tiled, .. }, Rows::Fixed(rows)) => {
                Ok((rows, tensor.width))
            }
            _ => Err(self.operand(slot, "a tiled weight")),
        }
    }

    /// `[rows, width]` of a plain f32 weight.
    pub(super) fn plain(&self, slot: Slot) -> Result<(u32, u32), ProgramError> {
        let tensor = self.tensor(slot)?;
        match (tensor.kind, tensor.rows, tensor.dtype) {
            (Kind::Weight { layout: Layout::Plain, .. }, Rows::Fixed(rows), DType::F32) => {
                Ok((rows, tensor.width))
            }
            _ => Err(self.operand(slot, "a plain f32 weight")),
        }
    }

    /// A plain f32 weight of `rows` and `width`.
    pub(super) fn plain_of(&self, slot: Slot, rows: u64, width: u64) -> Result<(), ProgramError> {
        let found = self.plain(slot)?;
        self.same_rows(slot, found.0, rows)?;
        self.same_width(slot, found.1, width)
    }

    /// The width of a plain f32 weight of one row.
    pub(super) fn vector(&self, slot: Slot) -> Result<u32, ProgramError> {
        let (rows, width) = self.plain(slot)?;
        self.same_rows(slot, rows, 1)?;
        Ok(width)
    }

    /// An f32 state of `rows` and `width`.
    pub(super) fn state_of(&self, slot: Slot, rows: u64, width: u64) -> Result<(), ProgramError> {
        let tensor = self.tensor(slot)?;
        let (Kind::State, Rows::Fixed(found), DType::F32) =
            (tensor.kind, tensor.rows, tensor.dtype)
        else {
            return Err(self.operand(slot, "an f32 state of fixed rows"));
        };
        self.same_rows(slot, found, rows)?;
        self.same_width(slot, tensor.width, width)
    }

    /// Window and dtype of a cache of `width`.
    pub(super) fn cache_of(&self, slot: Slot, width: u64) -> Result<(u32, DType), ProgramError> {
        let tensor = self.tensor(slot)?;
        let (Kind::State, Rows::Cache { window }, DType::F32 | DType::F16) =
            (tensor.kind, tensor.rows, tensor.dtype)
        else {
            return Err(self.operand(slot, "an f32 or f16 cache"));
        };
        self.same_width(slot, tensor.width, width)?;
        Ok((window, tensor.dtype))
    }

    pub(super) fn same_width(
        &self,
        (slot, id): Slot,
        found: u32,
        expected: u64,
    ) -> Result<(), ProgramError> {
        match u64::from(found) == expected {
            true => Ok(()),
            false => Err(ProgramError::Width { op: self.op, slot, tensor: id.0, found, expected }),
        }
    }

    fn same_rows(&self, (slot, id): Slot, found: u32, expected: u64) -> Result<(), ProgramError> {
        match u64::from(found) == expected {
            true => Ok(()),
            false => {
                Err(ProgramError::RowCount { op: self.op, slot, tensor: id.0, found, expected })
            }
        }
    }

    /// `width / divisor`, which leaves no rest.
    pub(super) fn divide(
        &self,
        constant: &'static str,
        divisor: u32,
        width: u32,
    ) -> Result<u32, ProgramError> {
        let error = ProgramError::NotDivisor { op: self.op, constant, found: divisor, width };
        match width.checked_rem(divisor) {
            Some(0) => width.checked_div(divisor).ok_or(error),
            _ => Err(error),
        }
    }

    /// A constant that must be in range.
    pub(super) fn constant(
        &self,
        constant: &'static str,
        fits: bool,
        expected: &'static str,
    ) -> Result<(), ProgramError> {
        match fits {
            true => Ok(()),
            false => Err(ProgramError::Constant { op: self.op, constant, expected }),
        }
    }
}
