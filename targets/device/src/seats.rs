//! Places for connections. When all are taken and another client comes, the one that has waited longest without asking for
//! an answer loses its place: silent clients cannot keep others out.
//!
//! ```text
//! taken ──a request is understood──▶ answering ──the answer has been sent──▶ taken
//!   └─────asked to leave (the longest first), never while answering
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use tokio::sync::Notify;

/// All places that are taken.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    taken: Mutex<Vec<Weak<Place>>>,
}

/// A connection's place; it is free when all of these are gone.
#[derive(Clone, Debug)]
pub(crate) struct Seat(Arc<Place>);

#[derive(Debug)]
struct Place {
    state: Mutex<State>,
    leave: Notify,
}

#[derive(Clone, Copy, Debug)]
struct State {
    answers: usize,
    /// When it was taken, or the last answer ended.
    quiet_since: Instant,
}

/// Keeps a place as long as an answer is made and sent.
#[derive(Debug)]
pub(crate) struct Answering(Seat);

impl Seats {
    /// Takes a place.
    pub(crate) fn take(&self) -> Seat {
        let state = State { answers: 0, quiet_since: Instant::now() };
        let seat = Seat(Arc::new(Place { state: Mutex::new(state), leave: Notify::new() }));
        let mut taken = lock(&self.taken);
        taken.retain(|place| place.strong_count() > 0);
        taken.push(Arc::downgrade(&seat.0));
        seat
    }

    /// Asks one to leave: the one that has been quiet for longest. Each is asked once.
    pub(crate) fn clear_one(&self) {
        let mut taken = lock(&self.taken);
        let quiet = taken.iter().enumerate().filter_map(|(index, place)| {
            let place = place.upgrade()?;
            let state = *lock(&place.state);
            (state.answers == 0).then_some((state.quiet_since, index))
        });
        if let Some((_, index)) = quiet.min()
            && let Some(place) = taken.swap_remove(index).upgrade()
        {
            place.leave.notify_one();
        }
    }
}

impl Seat {
    /// An answer begins.
    pub(crate) fn answering(&self) -> Answering {
        lock(&self.0.state).answers += 1;
        Answering(self.clone())
    }

    /// Until it is asked to leave.
    pub(crate) async fn asked_to_leave(&self) {
        self.0.leave.notified().await;
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut state = lock(&self.0.0.state);
        state.answers -= 1;
        state.quiet_since = Instant::now();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_asked(seat: &Seat) -> bool {
        let mut asked = Box::pin(seat.asked_to_leave());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        asked.as_mut().poll(&mut context).is_ready()
    }

    #[test]
    fn the_longest_quiet_leaves_first_and_an_answer_keeps_its_place() {
        let seats = Seats::default();
        let (first, second, third) = (seats.take(), seats.take(), seats.take());
        let answering = first.answering();
        seats.clear_one();
        assert!(!is_asked(&first), "it is being answered");
        assert!(is_asked(&second) && !is_asked(&third), "the next that came");
        drop(answering);
        seats.clear_one();
        assert!(
            is_asked(&third) && !is_asked(&first),
            "quiet for longer than the one just answered"
        );
        seats.clear_one();
        assert!(is_asked(&first), "now it is");
        seats.clear_one();
    }

    #[test]
    fn places_that_are_left_are_forgotten() {
        let seats = Seats::default();
        (0..100).for_each(|_| drop(seats.take()));
        let seat = seats.take();
        assert_eq!(lock(&seats.taken).len(), 1, "one is taken");
        drop(seat);
        seats.clear_one();
    }
}
