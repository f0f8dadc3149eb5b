//! What is planned: a buffer, and the bound that no plan of a list of them can beat.

/// A block of memory with a size and a lifetime.
///
/// The lifetime is half open, `[lower, upper)`, in operator steps: a buffer that operator 3 writes and operator 5 is
/// the last to read lives in `[3, 6)`. A buffer with `lower >= upper` is never live; it collides with nothing, as
/// does one of zero bytes, but it too must lie inside the arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Buffer {
    /// First step in which the buffer holds something.
    pub lower: u32,
    /// First step in which it no longer does.
    pub upper: u32,
    /// Size in bytes.
    pub size: u64,
}

impl Buffer {
    /// Whether the buffer takes up memory in any step.
    #[must_use]
    pub fn is_ever_live(&self) -> bool {
        self.lower < self.upper && self.size > 0
    }

    /// Whether the buffer takes up memory in step `step`.
    #[must_use]
    pub fn is_live_at(&self, step: u32) -> bool {
        self.lower <= step && step < self.upper
    }

    /// Whether there is a step in which both buffers hold something.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        self.is_ever_live()
            && other.is_ever_live()
            && self.lower < other.upper
            && other.lower < self.upper
    }

    /// Number of steps in which the buffer is live.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.upper.saturating_sub(self.lower)
    }
}

/// The largest sum of the sizes of buffers live in one step; no arena can be smaller. Saturates at `u64::MAX`.
///
/// `max over t of Σ size[i] where lower[i] ≤ t < upper[i]`, and the size of every buffer that is never live. The live sum only grows where a buffer starts, so these
/// steps are the only ones looked at: `O(n²)`, without memory.
#[must_use]
pub fn lower_bound(buffers: &[Buffer]) -> u64 {
    aligned_lower_bound(buffers, 1)
}

/// [`lower_bound`] of the sizes rounded up to a multiple of `align`: what planners that place whole multiples can hope
/// for.
pub(crate) fn aligned_lower_bound(buffers: &[Buffer], align: u64) -> u64 {
    let live_bytes = |step: u32| {
        let live = buffers.iter().filter(|buffer| buffer.is_live_at(step));
        live.fold(0, |sum: u64, buffer| sum.saturating_add(round_up(buffer.size, align)))
    };
    let need = |buffer: &Buffer| {
        if buffer.is_ever_live() { live_bytes(buffer.lower) } else { round_up(buffer.size, align) }
    };
    buffers.iter().map(need).max().unwrap_or(0)
}

/// The next multiple of `align` (0 counts as 1); `u64::MAX` where there is none.
pub(crate) fn round_up(bytes: u64, align: u64) -> u64 {
    bytes.checked_next_multiple_of(align.max(1)).unwrap_or(u64::MAX)
}
