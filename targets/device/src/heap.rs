//! The C library's heap. A long prompt is cut into tokens in hundreds of times its own bytes; what is free again must go back to
//! the system, and what ordinary requests need must not come and go: memory is to stay as it was once a bundle has been loaded.

#![expect(unsafe_code, reason = "options of glibc's that no library wraps")]

use std::sync::atomic::{AtomicU64, Ordering};

use dynamax_session::machine;

/// Free memory that is held, so that ordinary requests need no more of the system: what is free at the heap's end stays.
const RESERVE: usize = 4 << 20;
/// What the reserve is made of: small enough to come from the heap itself.
const BLOCK: usize = 64 << 10;
/// Blocks from this size on are the system's own, and go back to it at once.
const LONG_BYTES: usize = 1 << 20;
/// More than this beyond what was held after the load is worth giving back.
const SURPLUS: u64 = 1 << 20;

/// What was held after the load.
static SETTLED: AtomicU64 = AtomicU64::new(u64::MAX);

/// Lets all threads use one heap, which keeps its reserve. One of a thread's own lies in a region that is locked whole, with
/// what locks the bundle, and what is locked is never given back.
pub(crate) fn use_one() {
    #[cfg(target_env = "gnu")]
    for (option, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_THRESHOLD, LONG_BYTES),
        (libc::M_TRIM_THRESHOLD, 2 * RESERVE),
    ] {
        // SAFETY: sets an option of the allocator's; any thread may, at any time.
        unsafe {
            libc::mallopt(option, value as libc::c_int);
        }
    }
}

/// Touches the reserve. To be called when a bundle has been loaded, before memory is locked.
pub(crate) fn reserve() {
    let blocks: Vec<Vec<u8>> = (0..RESERVE / BLOCK).map(|_| vec![1; BLOCK]).collect();
    drop(std::hint::black_box(blocks));
}

/// Keeps a little beyond the heap's end, so that no free block reaches from what is locked into what comes later. To be called when
/// memory has been locked: glibc gives back such a block whole or not at all, and what is locked cannot be given back.
pub(crate) fn fence() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: asks where the heap ends, and moves nothing.
        let end = unsafe { libc::sbrk(0) } as usize;
        let mut blocks: Vec<Vec<u8>> = Vec::with_capacity(2 * RESERVE / BLOCK);
        while blocks.last().is_none_or(|block| (block.as_ptr() as usize) < end)
            && blocks.len() < blocks.capacity()
        {
            blocks.push(vec![1; BLOCK]);
        }
        if let Some(mut fence) = blocks.pop() {
            fence.truncate(1);
            fence.shrink_to_fit();
            fence.leak();
        }
    }
}

/// What is held from now on is what is held without requests.
pub(crate) fn settle() {
    SETTLED.store(machine::rss_bytes().unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// Called now and then: gives back what long requests have left. What one has freed may lie among what others still need; so this
/// goes on until all is given back.
pub(crate) fn tend() {
    let settled = SETTLED.load(Ordering::Relaxed);
    if machine::rss_bytes().is_some_and(|held| held > settled.saturating_add(SURPLUS)) {
        give_back();
    }
}

/// Gives free memory back to the system; the reserve, too, where it is not locked.
fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches free memory only, under the allocator's own lock.
    unsafe {
        libc::malloc_trim(0);
    }
}
