//! How fast this machine reads its memory.

use std::hint::black_box;
use std::time::Instant;

use dynamax_kernels::Isa;

/// What the machine calls itself: a board's model, or the processor's.
pub(crate) fn name() -> String {
    let board = std::fs::read_to_string("/proc/device-tree/model").ok();
    let processor = || {
        let told = std::fs::read_to_string("/proc/cpuinfo").ok()?;
        let line = told.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.to_owned())
    };
    let name = board.or_else(processor).unwrap_or_else(|| std::env::consts::ARCH.into());
    name.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned()
}

/// Bytes read by a bandwidth measurement: far beyond any cache.
const STREAM_BYTES: usize = 1 << 29;

/// Measures how fast `threads` threads stream memory, in bytes per second: the best of several rounds.
pub(crate) fn read_bandwidth(isa: Isa, threads: usize, rounds: usize) -> f64 {
    let data = vec![1_u64; STREAM_BYTES / size_of::<u64>()];
    let share = data.len().div_ceil(threads);
    let round = |_| {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for part in data.chunks(share) {
                scope.spawn(move || black_box(isa.read(part)));
            }
        });
        STREAM_BYTES as f64 / start.elapsed().as_secs_f64()
    };
    (0..rounds).map(round).fold(0.0, f64::max)
}
