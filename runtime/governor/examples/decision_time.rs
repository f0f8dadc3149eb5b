//! How long a decision takes, with the most segments and thresholds there can be: `cargo run --release -p dynamax-governor --features
//! std --example decision_time`.

use std::hint::black_box;
use std::time::Instant;

use dynamax_governor::{Governor, GovernorError, MAX_LEVELS, MAX_SEGMENTS};

#[path = "../tests/deciding/largest.rs"]
mod largest;

use largest::{largest, token};

/// Decisions that are timed together.
const BATCH: u32 = 10_000;

fn main() -> Result<(), GovernorError> {
    let mut governor = largest()?;
    let mut fastest = [f64::INFINITY; 2];
    let mut at = 0;
    for _ in 0..50 {
        let (mut deciding, mut observing) = (0.0, 0.0);
        for _ in 0..BATCH / 100 {
            // Both are timed in runs of a hundred, so that the clock costs nothing.
            let start = Instant::now();
            for step in 0..100 {
                black_box(governor.decide(at + step));
            }
            deciding += start.elapsed().as_secs_f64();
            let start = Instant::now();
            for step in 0..100_u32 {
                governor.observe(black_box(token(at + step)));
            }
            observing += start.elapsed().as_secs_f64();
            at += 100;
        }
        for (best, seconds) in fastest.iter_mut().zip([deciding, observing]) {
            *best = best.min(seconds * 1e9 / f64::from(BATCH));
        }
    }
    let [decide, observe] = fastest;
    println!(
        "{MAX_SEGMENTS} segments, {MAX_LEVELS} levels: decide {decide:.0} ns, observe {observe:.0} ns"
    );
    println!("a governor is {} bytes", size_of::<Governor>());
    Ok(())
}
