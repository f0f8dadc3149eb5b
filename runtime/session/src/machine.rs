//! What this machine says about itself.

use std::path::Path;

use dynamax_config::Profile;

/// The machine that a budget is kept on.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// Threads that work.
    pub threads: usize,
    /// Where its files are: `/`, but for tests.
    pub root: &'a Path,
    /// What the bundle was found to cost on it.
    pub profile: Option<&'a Profile>,
}

/// Most memory that this process has held, in bytes; `None` where the system does not say.
#[must_use]
pub fn peak_rss_bytes() -> Option<u64> {
    status_bytes("VmHWM:")
}

/// Memory that this process holds now, in bytes; `None` where the system does not say.
#[must_use]
pub fn rss_bytes() -> Option<u64> {
    status_bytes("VmRSS:")
}

fn status_bytes(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Threads that work by default: one for each core.
#[must_use]
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
