//! A number that workers wait for: they spin first, as most waits are far shorter than a system call, and then sleep.
//!
//! Spinning for ever would starve the worker that is waited for, where there are more threads than cores. Without an
//! operating system there is nobody to starve, and no sleep.

use core::sync::atomic::{AtomicUsize, Ordering};

/// Rounds of spinning before a wait within a step becomes a sleep: tens of microseconds, as long as waking up takes.
pub(crate) const STEP_SPINS: u32 = 1 << 12;

/// The number, on cache lines of its own: 128 bytes, as some machines fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Signal {
    number: AtomicUsize,
    #[cfg(feature = "std")]
    sleepers: Sleepers,
}

#[cfg(feature = "std")]
#[derive(Debug, Default)]
struct Sleepers {
    count: AtomicUsize,
    lock: std::sync::Mutex<()>,
    wake: std::sync::Condvar,
}

impl Signal {
    /// Sets the number, for those who will look later: nobody may be waiting.
    #[cfg(feature = "std")]
    pub(crate) fn set(&self, number: usize) {
        self.number.store(number, Ordering::Relaxed);
    }

    /// Adds one and returns the number before, without waking anybody: nobody may wait for just this.
    pub(crate) fn count(&self) -> usize {
        self.number.fetch_add(1, Ordering::AcqRel)
    }

    /// Sets the number and wakes those who sleep: who sees it sees what was written until now.
    pub(crate) fn announce(&self, number: usize) {
        // In one order with the loads in `sleep`: either this sees the sleeper, or the sleeper sees the number.
        self.number.swap(number, Ordering::SeqCst);
        self.wake();
    }

    /// Adds one and wakes those who sleep: who sees it sees what was written until now.
    #[cfg(feature = "std")]
    pub(crate) fn raise(&self) {
        self.number.fetch_add(1, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        #[cfg(feature = "std")]
        if self.sleepers.count.load(Ordering::SeqCst) > 0 {
            // Whoever has counted itself holds the lock until it sleeps, and so hears of this.
            drop(self.sleepers.lock.lock());
            self.sleepers.wake.notify_all();
        }
    }

    /// The number: who sees it sees what was written before it was raised.
    pub(crate) fn number(&self) -> usize {
        self.number.load(Ordering::Acquire)
    }

    /// Waits until the number `is` what is waited for, and returns it.
    pub(crate) fn wait(&self, spins: u32, is: impl Fn(usize) -> bool) -> usize {
        for _ in 0..spins {
            let number = self.number();
            if is(number) {
                return number;
            }
            core::hint::spin_loop();
        }
        self.sleep(is)
    }

    #[cfg(feature = "std")]
    fn sleep(&self, is: impl Fn(usize) -> bool) -> usize {
        use std::sync::PoisonError;
        let mut lock = self.sleepers.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.count.fetch_add(1, Ordering::SeqCst);
        loop {
            let number = self.number.load(Ordering::SeqCst);
            if is(number) {
                self.sleepers.count.fetch_sub(1, Ordering::SeqCst);
                return number;
            }
            lock = self.sleepers.wake.wait(lock).unwrap_or_else(PoisonError::into_inner);
        }
    }

    #[cfg(not(feature = "std"))]
    fn sleep(&self, is: impl Fn(usize) -> bool) -> usize {
        loop {
            let number = self.number();
            if is(number) {
                return number;
            }
            core::hint::spin_loop();
        }
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn who_sleeps_is_woken() {
        let signal = Signal::default();
        thread::scope(|scope| {
            for _ in 0..3 {
                // Without spinning, every wait is a sleep.
                scope.spawn(|| assert_eq!(signal.wait(0, |number| number == 2000), 2000));
            }
            for _ in 0..2000 {
                signal.raise();
            }
        });
        assert_eq!(signal.sleepers.count.load(Ordering::SeqCst), 0, "nobody sleeps any more");
    }

    #[test]
    fn two_that_wait_for_each_other_lose_no_wake() {
        let (ping, pong) = (Signal::default(), Signal::default());
        thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..2000 {
                    ping.wait(round as u32 % 3, |number| number > round);
                    pong.raise();
                }
            });
            for round in 0..2000 {
                ping.raise();
                pong.wait(0, |number| number > round);
            }
        });
    }
}
