//! What a decision costs: less than two microseconds, and nothing on the heap.

mod largest;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::time::Instant;

/// The system's allocator, counting.
struct Counting;

thread_local! {
    /// Calls of this thread: the one that runs tests has its own affairs.
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "an allocator is unsafe by its trait")]
// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Tokens that are timed together.
const BATCH: u32 = 100;

#[test]
fn a_decision_takes_less_than_two_microseconds_and_no_heap() {
    let mut governor = largest::largest().expect("the largest there can be");
    let calls = CALLS.get();
    let mut fastest_us = f64::INFINITY;
    for batch in 0..200 {
        let start = Instant::now();
        for token in batch * BATCH..(batch + 1) * BATCH {
            black_box(governor.decide(token));
            governor.observe(black_box(largest::token(token)));
        }
        // Of many batches, the one that the machine disturbed least.
        fastest_us = fastest_us.min(start.elapsed().as_secs_f64() * 1e6 / f64::from(BATCH));
    }
    assert_eq!(CALLS.get(), calls, "calls of the allocator");
    // Emulated, time says nothing; without optimizations it says little.
    if cfg!(not(any(debug_assertions, target_arch = "aarch64"))) {
        assert!(fastest_us < 2.0, "deciding and learning take {fastest_us} us");
    }
}
