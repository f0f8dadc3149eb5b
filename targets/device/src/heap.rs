//! The C library's heap. A long prompt is cut into tokens in hundreds of times its own bytes; what is free again must go back to
//! the system, which needs two things that glibc does not do by itself.

#![expect(unsafe_code, reason = "two options of glibc's that no library wraps")]

/// Lets all threads use one heap. One of a thread's own lies in a region that is locked whole, with what locks the bundle,
/// and what is locked is never given back.
pub(crate) fn use_one() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets an option of the allocator's; any thread may, at any time.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives free memory back to the system.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches free memory only, under the allocator's own lock.
    unsafe {
        libc::malloc_trim(0);
    }
}
