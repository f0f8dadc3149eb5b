//! A team of threads that runs steps: it spins for the next one briefly, then sleeps.

use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use super::pace::Pace;
use crate::crew::signal::{STEP_SPINS, Signal};
use crate::crew::{Barrier, Observer, Worker};

/// Rounds of spinning before an idle worker sleeps: about as long as sampling a token takes.
const IDLE_SPINS: u32 = 1 << 14;

/// Work given to the crew: a closure behind a thin pointer.
type Work<'w> = &'w (dyn Fn(Worker<'_>) + Sync);

/// What the threads share.
#[derive(Debug, Default)]
struct Shared {
    /// Goes up with each piece of work; a worker that saw an older number has work to do.
    epoch: Signal,
    /// Workers (other than the caller) that finished the current piece.
    finished: Signal,
    /// The current piece: points at a [`Work`] on the caller's stack.
    work: AtomicPtr<()>,
    /// The team is being dropped.
    ends: AtomicBool,
    /// A worker's closure panicked.
    panicked: AtomicBool,
    barrier: Barrier,
}

/// Threads that do steps together; the caller's thread is one of them.
#[derive(Debug)]
pub struct Team {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// One piece of work at a time; and how fast steps of one row were.
    busy: Mutex<Pace>,
    observer: Option<Arc<dyn Observer>>,
}

impl Team {
    /// Starts `threads - 1` threads beside the caller's.
    ///
    /// # Errors
    ///
    /// Returns the system's error if a thread cannot be started.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let count = threads.max(1);
        let mut team = Self { shared, threads: Vec::new(), busy: Mutex::default(), observer: None };
        for index in 1..count {
            let shared = Arc::clone(&team.shared);
            let name = format!("dynamax-{index}");
            let body = move || attend(&shared, index, count);
            team.threads.push(std::thread::Builder::new().name(name).spawn(body)?);
        }
        // A thread allocates as it starts: after this, all have.
        team.run(|_| ());
        Ok(team)
    }

    /// Shows all later work to an observer.
    pub fn show(&mut self, observer: Arc<dyn Observer>) {
        self.observer = Some(observer);
    }

    /// Threads in the team, the caller's included.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// Runs a token: on every worker, or on the caller's thread alone where that has been faster for tokens of one row.
    /// `is_small`: one thread could well be, and may be tried. `share`: of a token of one row at full depth, how much this one was; none
    /// if several rows went together, which tells nothing of tokens.
    ///
    /// # Panics
    ///
    /// Panics if `work` panicked on any worker.
    pub fn token(
        &self,
        is_small: bool,
        work: impl Fn(Worker<'_>) + Sync,
        share: impl FnOnce() -> Option<f32>,
    ) {
        let mut pace = self.busy.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let alone = self.threads.is_empty() || pace.is_alone();
        let start = Instant::now();
        if alone {
            work(Worker::ALONE.seen_by(self.observer.as_deref()));
        } else {
            self.together(work);
        }
        let took = start.elapsed().as_nanos() as f32;
        if let Some(share) = share() {
            pace.took(took / share, is_small);
        }
    }

    /// Runs a token and its drafts: on every worker, or alone where that is how tokens of one row are usually run. While it is only being tried,
    /// rows go together: with more to do between meetings a team is faster, and their time would not tell how the try went.
    ///
    /// # Panics
    ///
    /// As [`Self::token`].
    pub fn rows(&self, work: impl Fn(Worker<'_>) + Sync) {
        let pace = self.busy.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.threads.is_empty() || pace.is_usually_alone() {
            work(Worker::ALONE.seen_by(self.observer.as_deref()));
        } else {
            self.together(work);
        }
    }

    /// Runs `work` once on every worker, and returns when all are done.
    ///
    /// # Panics
    ///
    /// Panics if `work` panicked on any worker.
    pub fn run(&self, work: impl Fn(Worker<'_>) + Sync) {
        let _one_at_a_time = self.busy.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.together(work);
    }

    fn together(&self, work: impl Fn(Worker<'_>) + Sync) {
        let observer = self.observer.as_deref();
        let work = |worker: Worker<'_>| work(worker.seen_by(observer));
        if self.threads.is_empty() {
            return work(Worker::ALONE);
        }
        let work: Work<'_> = &work;
        self.shared.work.store((&raw const work).cast_mut().cast(), Ordering::Relaxed);
        self.shared.finished.set(0);
        self.shared.epoch.raise();
        let waits = WaitForAll { shared: &self.shared, others: self.threads.len() };
        work(Worker::new(0, self.threads(), &self.shared.barrier));
        drop(waits);
        assert!(!self.shared.panicked.load(Ordering::Acquire), "a worker panicked");
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Release);
        self.shared.epoch.raise();
        for thread in self.threads.drain(..) {
            // A worker that panicked has already been reported by `run`.
            let _ = thread.join();
        }
    }
}

/// Keeps the work alive until every worker is done with it, also when the caller's own share panics.
struct WaitForAll<'s> {
    shared: &'s Shared,
    others: usize,
}

impl Drop for WaitForAll<'_> {
    fn drop(&mut self) {
        self.shared.finished.wait(STEP_SPINS, |finished| finished == self.others);
    }
}

/// A worker thread: waits for work, does its share, reports.
fn attend(shared: &Shared, index: usize, count: usize) {
    let mut seen = 0;
    loop {
        seen = shared.epoch.wait(IDLE_SPINS, |epoch| epoch != seen);
        if shared.ends.load(Ordering::Acquire) {
            return;
        }
        let work: *const Work<'_> = shared.work.load(Ordering::Relaxed).cast_const().cast();
        #[expect(
            unsafe_code,
            reason = "the work lives on the caller's stack until all have finished"
        )]
        // SAFETY: `Team::run` stored a pointer to its live `work` before it raised the epoch, and does not return
        // before this worker adds itself to `finished`.
        let work: Work<'_> = unsafe { *work };
        let share = || work(Worker::new(index, count, &shared.barrier));
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(share)).is_err() {
            shared.panicked.store(true, Ordering::Release);
        }
        shared.finished.raise();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn every_worker_runs_each_piece_once() {
        for threads in [1, 2, 5] {
            let team = Team::new(threads).unwrap();
            let counter = AtomicUsize::new(0);
            for _ in 0..200 {
                team.run(|_| {
                    counter.fetch_add(1, Ordering::Relaxed);
                });
            }
            assert_eq!(counter.into_inner(), 200 * threads, "{threads} threads");
        }
    }

    #[test]
    fn the_barrier_separates_writes_from_reads() {
        let team = Team::new(3).unwrap();
        let cells: [AtomicUsize; 3] = Default::default();
        for round in 1..500 {
            team.run(|worker| {
                for cell in worker.share(3) {
                    cells[cell].store(round, Ordering::Relaxed);
                }
                worker.wait();
                for cell in &cells {
                    assert_eq!(cell.load(Ordering::Relaxed), round, "written before the barrier");
                }
                worker.wait();
            });
        }
    }

    #[test]
    fn rows_go_together_while_a_token_is_tried_alone() {
        let team = Team::new(2).unwrap();
        let counter = AtomicUsize::new(0);
        let workers = |runs: &dyn Fn(&AtomicUsize)| {
            counter.store(0, Ordering::Relaxed);
            runs(&counter);
            counter.load(Ordering::Relaxed)
        };
        let token = |counter: &AtomicUsize| {
            let work = |_: Worker<'_>| _ = counter.fetch_add(1, Ordering::Relaxed);
            team.token(true, work, || Some(1.0));
        };
        let rows = |counter: &AtomicUsize| {
            team.rows(|_| _ = counter.fetch_add(1, Ordering::Relaxed));
        };
        let tried = (0..100).find(|_| workers(&token) == 1);
        assert!(tried.is_some(), "a small token is tried alone");
        assert_eq!(workers(&rows), 2, "rows meanwhile");
        assert_eq!(workers(&token), 1, "the try goes on");
    }

    #[derive(Debug, Default)]
    struct Counts([AtomicUsize; 2]);

    impl Observer for Counts {
        fn starts(&self, worker: usize, ops: core::ops::Range<usize>) {
            self.0[worker].fetch_add(ops.len(), Ordering::Relaxed);
        }

        fn ends(&self, worker: usize) {
            self.0[worker].fetch_add(100, Ordering::Relaxed);
        }
    }

    #[test]
    fn an_observer_sees_every_worker_start_and_end() {
        let (mut team, counts) = (Team::new(2).unwrap(), Arc::new(Counts::default()));
        team.show(Arc::<Counts>::clone(&counts));
        team.run(|worker| worker.work(3..5, || ()));
        let seen = counts.0.each_ref().map(|count| count.load(Ordering::Relaxed));
        assert_eq!(seen, [102, 102], "two operators and one end each");
    }

    #[test]
    #[should_panic(expected = "a worker panicked")]
    fn a_panicking_worker_is_reported() {
        let team = Team::new(2).unwrap();
        team.run(|worker| assert!(worker.is_first(), "only the first may pass"));
    }
}
