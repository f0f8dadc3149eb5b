//! A team: threads that run steps together. Without an operating system there are none, and a step is run alone.

#[cfg(feature = "std")]
mod pace;
#[cfg(feature = "std")]
mod threads;

#[cfg(feature = "std")]
pub use threads::Team;

/// Without threads there is no team: this type has no values.
#[cfg(not(feature = "std"))]
#[derive(Debug)]
pub enum Team {}

#[cfg(not(feature = "std"))]
impl Team {
    /// Never called.
    #[must_use]
    pub fn threads(&self) -> usize {
        match *self {}
    }

    /// Never called.
    pub fn token(
        &self,
        _is_small: bool,
        _work: impl Fn(crate::crew::Worker<'_>) + Sync,
        _share: impl FnOnce() -> Option<f32>,
    ) {
        match *self {}
    }

    /// Never called.
    pub fn rows(&self, _work: impl Fn(crate::crew::Worker<'_>) + Sync) {
        match *self {}
    }

    /// Never called.
    pub fn run(&self, _work: impl Fn(crate::crew::Worker<'_>) + Sync) {
        match *self {}
    }
}
