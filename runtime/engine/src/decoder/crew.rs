//! Who runs a step.

use crate::arena::Line;
use crate::crew::Worker;
use crate::device::Device;
use crate::model::Model;
use crate::team::Team;

/// How a step is run: alone, or by a team of threads.
#[derive(Clone, Copy, Debug)]
pub enum Crew<'t> {
    /// On the caller's thread.
    Alone,
    /// On all threads of a team.
    Team(&'t Team),
    /// By a device, which has states and activations of its own.
    Device(&'t dyn Device),
}

impl<'t> Crew<'t> {
    /// Threads that work.
    #[must_use]
    pub fn threads(&self) -> usize {
        match self {
            Self::Alone => 1,
            Self::Team(team) => team.threads(),
            Self::Device(device) => device.threads(),
        }
    }

    /// [`Line`]s that a decoder's memory needs: a device has the rest, and what it said is copied here.
    #[must_use]
    pub fn memory_lines(&self, model: &Model<'_>) -> usize {
        match self {
            Self::Alone | Self::Team(_) => model.memory_lines(),
            Self::Device(_) => {
                (model.vocab_size() as usize * size_of::<f32>()).div_ceil(Line::BYTES)
            }
        }
    }

    pub(super) fn device(&self) -> Option<&'t dyn Device> {
        match self {
            Self::Device(device) => Some(*device),
            Self::Alone | Self::Team(_) => None,
        }
    }

    /// Runs a token: alone, where that is faster. See [`Team::token`].
    pub(super) fn token(
        &self,
        is_small: bool,
        work: impl Fn(Worker<'_>) + Sync,
        share: impl FnOnce() -> Option<f32>,
    ) {
        match self {
            Self::Alone | Self::Device(_) => work(Worker::ALONE),
            Self::Team(team) => team.token(is_small, work, share),
        }
    }

    /// Runs several rows. See [`Team::rows`].
    pub(super) fn rows(&self, work: impl Fn(Worker<'_>) + Sync) {
        match self {
            Self::Alone | Self::Device(_) => work(Worker::ALONE),
            Self::Team(team) => team.rows(work),
        }
    }

    pub(super) fn run(&self, work: impl Fn(Worker<'_>) + Sync) {
        match self {
            Self::Alone | Self::Device(_) => work(Worker::ALONE),
            Self::Team(team) => team.run(work),
        }
    }
}
