//! Hashing what a bundle holds, which reads all of it: at the first start, after a copy, or when in doubt.

use crate::error::BundleError;
use crate::hash::Hash;
use crate::view::Bundle;

impl Bundle<'_> {
    /// Hashes section `index`.
    ///
    /// # Errors
    ///
    /// [`BundleError::SectionHash`] if its bytes are not the ones that the header promised,
    /// [`BundleError::SectionIndex`] if there is no such section.
    pub fn verify_section(&self, index: usize) -> Result<(), BundleError> {
        let expected = self.expected_hash(index)?;
        match Hash::of(self.section(index)) == expected {
            true => Ok(()),
            // An entry was found, so the index fits the type of the format.
            false => Err(BundleError::SectionHash { section: index as u16 }),
        }
    }

    /// Hashes every section.
    ///
    /// # Errors
    ///
    /// [`BundleError::SectionHash`] for the first section that was changed.
    pub fn verify(&self) -> Result<(), BundleError> {
        (0..self.counts().sections).try_for_each(|index| self.verify_section(index))
    }

    /// Hashes every section, on `threads` threads of which this is one.
    ///
    /// A section is never split; the largest go first, so that no thread is left alone with one. The answer does not
    /// depend on the number of threads.
    ///
    /// # Errors
    ///
    /// As [`Bundle::verify`].
    #[cfg(feature = "std")]
    pub fn verify_parallel(&self, threads: usize) -> Result<(), BundleError> {
        use core::sync::atomic::{AtomicUsize, Ordering};

        let mut order: Vec<usize> = (0..self.counts().sections).collect();
        order.sort_by_key(|&index| core::cmp::Reverse(self.section(index).len()));
        let next = AtomicUsize::new(0);
        let first_changed = AtomicUsize::new(usize::MAX);
        let work = || {
            while let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                if self.verify_section(index).is_err() {
                    first_changed.fetch_min(index, Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads.min(order.len()) {
                scope.spawn(work);
            }
            work();
        });
        match first_changed.into_inner() {
            usize::MAX => Ok(()),
            index => self.verify_section(index),
        }
    }
}
