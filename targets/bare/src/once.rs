//! Statics that are lent out once: how memory is had without an allocator.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

/// A value that can be taken once.
pub(crate) struct Once<T> {
    value: UnsafeCell<T>,
    is_taken: AtomicBool,
}

// SAFETY: `take` gives the value to one caller only.
unsafe impl<T: Send> Sync for Once<T> {}

impl<T> Once<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { value: UnsafeCell::new(value), is_taken: AtomicBool::new(false) }
    }

    /// The value.
    ///
    /// # Panics
    ///
    /// Panics the second time.
    #[expect(clippy::mut_from_ref, reason = "the flag lets one caller through")]
    pub(crate) fn take(&'static self) -> &'static mut T {
        assert!(!self.is_taken.swap(true, Ordering::Relaxed), "taken once");
        // SAFETY: the flag was clear, so that this is the only reference there ever is.
        unsafe { &mut *self.value.get() }
    }
}
