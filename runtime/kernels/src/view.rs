//! Views of row-major matrices: what kernels read ([`Rows`]) and write ([`ColumnsMut`]).
//!
//! Workers share one operator by splitting the columns of its output, so that a part of a matrix is not one slice of
//! memory but one run per row. [`ColumnsMut`] is the exclusive right to such runs.

use core::marker::PhantomData;
use core::ops::Range;

/// Activations start at multiples of this many numbers (64 bytes).
pub const LANES: usize = 16;

/// Distance between two rows of an activation: `width` rounded up to whole lanes.
#[must_use]
pub const fn stride(width: usize) -> usize {
    width.next_multiple_of(LANES)
}

/// Shared rows of a row-major f32 matrix.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    data: &'a [f32],
    len: usize,
    width: usize,
    stride: usize,
}

impl<'a> Rows<'a> {
    /// Views `len` rows of `width` numbers that start `stride` numbers apart.
    ///
    /// # Panics
    ///
    /// Panics if the rows overlap or do not fit into `data`.
    #[must_use]
    pub fn new(data: &'a [f32], len: usize, width: usize, stride: usize) -> Self {
        assert!(width <= stride, "rows overlap");
        assert!(len == 0 || (len - 1) * stride + width <= data.len(), "rows do not fit");
        Self { data, len, width, stride }
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Numbers in a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// One row.
    ///
    /// # Panics
    ///
    /// Panics if there is no such row.
    #[must_use]
    #[inline]
    pub fn row(&self, index: usize) -> &'a [f32] {
        assert!(index < self.len, "row out of range");
        &self.data[index * self.stride..][..self.width]
    }

    /// The same rows, narrowed to some columns.
    ///
    /// # Panics
    ///
    /// Panics if the columns are not within the rows.
    #[must_use]
    pub fn columns(&self, columns: Range<usize>) -> Self {
        assert!(columns.start <= columns.end && columns.end <= self.width, "columns out of range");
        let width = columns.len();
        Self {
            data: self.data.get(columns.start..).unwrap_or(&[]),
            len: self.len,
            width,
            stride: self.stride,
        }
    }
}

/// Exclusive view of some columns of a row-major f32 matrix.
#[derive(Debug)]
pub struct ColumnsMut<'a> {
    first: *mut f32,
    len: usize,
    width: usize,
    stride: usize,
    owner: PhantomData<&'a mut [f32]>,
}

// SAFETY: it is an exclusive borrow of plain numbers, like the `&mut [f32]` it stands for.
#[expect(unsafe_code, reason = "a part of a matrix that one worker owns is not one slice")]
unsafe impl Send for ColumnsMut<'_> {}

#[expect(unsafe_code, reason = "a part of a matrix that one worker owns is not one slice")]
impl<'a> ColumnsMut<'a> {
    /// Views `len` rows of `width` numbers that start `stride` numbers apart.
    ///
    /// # Panics
    ///
    /// Panics if the rows overlap or do not fit into `data`.
    #[must_use]
    pub fn new(data: &'a mut [f32], len: usize, width: usize, stride: usize) -> Self {
        assert!(width <= stride, "rows overlap");
        assert!(len == 0 || (len - 1) * stride + width <= data.len(), "rows do not fit");
        Self { first: data.as_mut_ptr(), len, width, stride, owner: PhantomData }
    }

    /// Views rows behind a pointer.
    ///
    /// # Safety
    ///
    /// For `'a`, the runs `first + r·stride .. first + r·stride + width` for `r < len` must be valid for reads and
    /// writes, initialised, and used through nothing but this view.
    ///
    /// # Panics
    ///
    /// Panics if the rows overlap.
    #[must_use]
    pub unsafe fn from_raw(first: *mut f32, len: usize, width: usize, stride: usize) -> Self {
        assert!(width <= stride, "rows overlap");
        Self { first, len, width, stride, owner: PhantomData }
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Numbers in a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// One row.
    ///
    /// # Panics
    ///
    /// Panics if there is no such row.
    #[must_use]
    #[inline]
    pub fn row(&self, index: usize) -> &[f32] {
        assert!(index < self.len, "row out of range");
        // SAFETY: the row is one of the runs that this view owns, and it is borrowed as long as the view.
        let first = unsafe { self.first.add(index * self.stride) };
        // SAFETY: as above.
        unsafe { core::slice::from_raw_parts(first, self.width) }
    }

    /// One row, to write.
    ///
    /// # Panics
    ///
    /// Panics if there is no such row.
    #[must_use]
    #[inline]
    pub fn row_mut(&mut self, index: usize) -> &mut [f32] {
        assert!(index < self.len, "row out of range");
        // SAFETY: the row is one of the runs that this view owns, and it is borrowed as long as the view.
        let first = unsafe { self.first.add(index * self.stride) };
        // SAFETY: as above.
        unsafe { core::slice::from_raw_parts_mut(first, self.width) }
    }

    /// The same view, as a value of its own: a compiler knows that nothing else changes where it is.
    #[must_use]
    #[inline(always)]
    pub fn reborrow(&mut self) -> ColumnsMut<'_> {
        let Self { first, len, width, stride, owner } = *self;
        ColumnsMut { first, len, width, stride, owner }
    }

    /// Splits into the columns before `column` and the others.
    ///
    /// # Panics
    ///
    /// Panics if there is no such column.
    #[must_use]
    pub fn split_at(self, column: usize) -> (Self, Self) {
        assert!(column <= self.width, "column out of range");
        let Self { first, len, width, stride, owner } = self;
        // SAFETY: `column` is at most `width`, so this stays within the first row or one past it.
        let second = unsafe { first.add(column) };
        (
            Self { first, len, width: column, stride, owner },
            Self { first: second, len, width: width - column, stride, owner },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_rows_keep_the_stride() {
        let data: [f32; 8] = [0., 1., 2., 3., 4., 5., 6., 7.];
        let rows = Rows::new(&data, 2, 3, 4).columns(1..3);
        assert_eq!(rows.row(0), [1., 2.], "first row");
        assert_eq!(rows.row(1), [5., 6.], "second row");
    }

    #[test]
    fn halves_of_columns_write_their_own_numbers() {
        let mut data = [0.0; 8];
        let (mut left, mut right) = ColumnsMut::new(&mut data, 2, 4, 4).split_at(1);
        left.row_mut(1).fill(1.0);
        right.row_mut(0).fill(2.0);
        assert_eq!(
            data.map(f32::to_bits),
            [0., 2., 2., 2., 1., 0., 0., 0.].map(f32::to_bits),
            "each half its own"
        );
    }

    #[test]
    #[should_panic(expected = "rows do not fit")]
    fn rows_that_do_not_fit_are_refused() {
        let _ = Rows::new(&[0.0; 7], 2, 4, 4);
    }
}
