//! The one block of memory that a step works in, and the views of it that workers take.
//!
//! Several workers write one block at the same time, each its own part of an operator's output. The borrow checker
//! cannot see that; what makes it sound is proven before the first step and recalled at each view:
//!
//! 1. the planner's verifier held: buffers that are live at the same time do not overlap;
//! 2. the bundle's check held: an operator's output and states are not among its inputs;
//! 3. shares of workers are disjoint, and a barrier lies between an operator that writes and one that reads
//!    (see [`crate::schedule`]).
#![expect(unsafe_code, reason = "workers share one planned block of memory")]

#[cfg(feature = "alloc")]
use alloc::{vec, vec::Vec};
use core::marker::PhantomData;
use core::ops::Range;

use dynamax_kernels::view::{ColumnsMut, Rows};

use crate::sample::Candidate;

/// A cache line: planned memory comes in these, so that its alignment is a matter of type.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Line([u8; 64]);

impl Line {
    /// All bytes zero.
    pub const ZERO: Self = Self([0; 64]);
    /// Bytes in a line.
    pub const BYTES: usize = 64;
}

/// Bytes of some lines.
pub(crate) fn bytes_mut(lines: &mut [Line]) -> &mut [u8] {
    let len = size_of_val(lines);
    // SAFETY: a `Line` is 64 initialised bytes without padding, and the borrow of the lines passes to the bytes.
    unsafe { core::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), len) }
}

/// The block as workers see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arena<'a> {
    start: *mut u8,
    len: usize,
    owner: PhantomData<&'a mut [Line]>,
}

// SAFETY: workers only touch disjoint parts at a time (module documentation, point 3).
unsafe impl Send for Arena<'_> {}
// SAFETY: as above.
unsafe impl Sync for Arena<'_> {}

impl<'a> Arena<'a> {
    /// Takes the block for `'a`.
    pub(crate) fn new(lines: &'a mut [Line]) -> Self {
        Self { len: size_of_val(lines), start: lines.as_mut_ptr().cast(), owner: PhantomData }
    }

    /// A pointer to `len` numbers of type `T` at a byte offset.
    fn at<T>(&self, offset: usize, len: usize) -> *mut T {
        assert!(offset.is_multiple_of(align_of::<T>()), "planned offsets are aligned");
        assert!(offset + len * size_of::<T>() <= self.len, "planned buffers lie within the block");
        // SAFETY: in bounds, as just asserted.
        unsafe { self.start.add(offset).cast() }
    }

    /// Numbers that nobody writes now.
    ///
    /// # Safety
    ///
    /// No worker may write them while the view lives.
    pub(crate) unsafe fn slice<T: Plain>(&self, offset: usize, len: usize) -> &'a [T] {
        // SAFETY: in bounds and aligned; any bytes are a `T`; not written now, as the caller promises.
        unsafe { core::slice::from_raw_parts(self.at(offset, len), len) }
    }

    /// Numbers that this worker alone uses now.
    ///
    /// # Safety
    ///
    /// No other view may touch them while this one lives.
    pub(crate) unsafe fn slice_mut<T: Plain>(&self, offset: usize, len: usize) -> &'a mut [T] {
        // SAFETY: in bounds and aligned; any bytes are a `T`; used through this view alone, as the caller promises.
        unsafe { core::slice::from_raw_parts_mut(self.at(offset, len), len) }
    }

    /// Rows that nobody writes now.
    ///
    /// # Safety
    ///
    /// As [`Self::slice`].
    pub(crate) unsafe fn rows(&self, at: Grid, rows: usize) -> Rows<'a> {
        // SAFETY: passed on to the caller.
        let data = unsafe { self.slice(at.offset, rows * at.stride) };
        Rows::new(data, rows, at.width, at.stride)
    }

    /// Some columns of some rows that this worker alone uses now.
    ///
    /// # Safety
    ///
    /// As [`Self::slice_mut`], for these columns.
    pub(crate) unsafe fn columns_mut(
        &self,
        at: Grid,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> ColumnsMut<'a> {
        assert!(columns.start <= columns.end && columns.end <= at.width, "columns within the row");
        let first: *mut f32 = self.at(at.offset, rows.end * at.stride);
        // SAFETY: the first row lies within the buffer whose end was just checked.
        let first = unsafe { first.add(rows.start * at.stride + columns.start) };
        // SAFETY: every row lies within that buffer; used through this view alone, as the caller promises.
        unsafe { ColumnsMut::from_raw(first, rows.len(), columns.len(), at.stride) }
    }
}

/// Types for which any bytes are a value.
pub(crate) trait Plain {}
impl Plain for u8 {}
impl Plain for u16 {}
impl Plain for f32 {}

/// Where the rows of a tensor lie in the block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    /// First byte.
    pub(crate) offset: usize,
    /// Numbers in a row.
    pub(crate) width: usize,
    /// Numbers from one row to the next.
    pub(crate) stride: usize,
}

/// Splits the sampler's memory into candidates and "seen" bytes.
pub(crate) fn candidate_views(
    memory: &mut [Line],
    vocab_size: usize,
) -> (&mut [Candidate], &mut [u8]) {
    let candidate_bytes = vocab_size * size_of::<Candidate>();
    let (candidates, rest) = bytes_mut(memory).split_at_mut(candidate_bytes);
    // SAFETY: lines are aligned to more than a candidate is, `vocab_size` of them fill these bytes exactly, and any
    // bytes are a candidate.
    let candidates =
        unsafe { core::slice::from_raw_parts_mut(candidates.as_mut_ptr().cast(), vocab_size) };
    (candidates, &mut rest[..vocab_size])
}

#[cfg(feature = "alloc")]
impl Line {
    /// Copies bytes to an aligned place, as a mapped file would have them.
    #[must_use]
    pub fn copy_from(bytes: &[u8]) -> Vec<Self> {
        let mut lines = vec![Self::ZERO; bytes.len().div_ceil(Self::BYTES)];
        bytes_mut(&mut lines)[..bytes.len()].copy_from_slice(bytes);
        lines
    }
}

impl Line {
    /// The first `len` bytes of some lines.
    ///
    /// # Panics
    ///
    /// Panics if there are fewer.
    #[must_use]
    pub fn as_bytes(lines: &[Self], len: usize) -> &[u8] {
        assert!(len <= size_of_val(lines), "as many bytes as there are");
        // SAFETY: a `Line` is 64 initialised bytes without padding, and the borrow of the lines passes to the bytes.
        unsafe { core::slice::from_raw_parts(lines.as_ptr().cast(), len) }
    }
}
