//! Seeing what workers do, to draw it.

use core::fmt::Debug;
use core::ops::Range;

/// Is told by every worker, on its own thread, what it starts and when it has ended: between the two it works, else it
/// waits for others. Called hundreds of times a token: what it does shows in what it sees.
pub trait Observer: Debug + Send + Sync {
    /// Worker `worker` starts on its share of operators `ops`, which run as one. An empty range is the quantization of what
    /// the operator behind it reads.
    fn starts(&self, worker: usize, ops: Range<usize>);

    /// That share is done.
    fn ends(&self, worker: usize);
}
