//! How long a search may take.

/// Steps of the search per second differ by a factor of ten between instances; this is some 20 s for hundreds of
/// buffers on a workstation.
const DEFAULT_STEPS: u64 = 2_000_000;

/// How long a search may take: steps, which give the same plan everywhere, or time, which does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Effort {
    /// Partial plans looked at, at most.
    pub steps: u64,
    /// The search ends soon after.
    #[cfg(feature = "std")]
    pub deadline: Option<std::time::Instant>,
}

impl Effort {
    /// At most so many partial plans.
    #[must_use]
    pub fn steps(steps: u64) -> Self {
        Self {
            steps,
            #[cfg(feature = "std")]
            deadline: None,
        }
    }

    /// Until about `time` from now. The clock is read between restarts of the search, some tens of milliseconds apart.
    #[cfg(feature = "std")]
    #[must_use]
    pub fn within(time: std::time::Duration) -> Self {
        Self { steps: u64::MAX, deadline: std::time::Instant::now().checked_add(time) }
    }

    /// Whether the time is up.
    pub(super) fn is_late(&self) -> bool {
        #[cfg(feature = "std")]
        return self.deadline.is_some_and(|deadline| deadline <= std::time::Instant::now());
        #[cfg(not(feature = "std"))]
        return false;
    }
}

impl Default for Effort {
    fn default() -> Self {
        Self::steps(DEFAULT_STEPS)
    }
}
