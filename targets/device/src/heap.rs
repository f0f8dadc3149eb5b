//! The C library's heap. A long prompt is cut into tokens in hundreds of times its own bytes; what is free again must go back to
//! the system, which needs two things that glibc does not do by itself.

#![expect(unsafe_code, reason = "two options of glibc's that no library wraps")]

use std::sync::atomic::{AtomicU8, Ordering};

/// A request beyond this leaves so much free memory behind that it is worth giving back: megabytes.
const LONG_BYTES: usize = 32 << 10;

/// Lets all threads use one heap. One of a thread's own lies in a region that is locked whole, with what locks the bundle,
/// and what is locked is never given back.
pub(crate) fn use_one() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets an option of the allocator's; any thread may, at any time.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Looks at which memory is given back, after the last long request.
const LOOKS: u8 = 5;

/// Looks that are left.
static LEFT: AtomicU8 = AtomicU8::new(0);

/// A request of so many bytes has come or is answered: what it is turned into will soon be free again.
pub(crate) fn expect_surplus_of(bytes: usize) {
    if bytes > LONG_BYTES {
        LEFT.store(LOOKS, Ordering::Relaxed);
    }
}

/// Called now and then: gives back what long requests have left. Several of them may overlap, and what one has freed may lie
/// among what others still need; so it is done more than once.
pub(crate) fn tend() {
    let one_less = |left: u8| left.checked_sub(1);
    if LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
        give_back();
    }
}

/// Gives free memory back to the system.
fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches free memory only, under the allocator's own lock.
    unsafe {
        libc::malloc_trim(0);
    }
}
