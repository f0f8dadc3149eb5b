//! How long a decision takes, with the most segments and thresholds there can be: `cargo run --release -p dynamax-governor --features
//! std --example decision_time`.

use std::hint::black_box;
use std::time::Instant;

use dynamax_governor::{
    CONTEXT_BUCKETS, Calibration, Cost, CostModel, Governor, GovernorConfig, GovernorError, Level,
    MAX_LEVELS, MAX_SEGMENTS, Metering, Microjoules, Microseconds, Sample, SegmentCost,
};

/// Decisions that are timed together.
const BATCH: u32 = 10_000;

fn main() -> Result<(), GovernorError> {
    let mut governor = largest()?;
    let mut fastest = [f64::INFINITY; 2];
    let mut token = 0;
    for _ in 0..50 {
        let (mut deciding, mut observing) = (0.0, 0.0);
        for _ in 0..BATCH / 100 {
            // Both are timed in runs of a hundred, so that the clock costs nothing.
            let start = Instant::now();
            for step in 0..100 {
                black_box(governor.decide(token + step));
            }
            deciding += start.elapsed().as_secs_f64();
            let start = Instant::now();
            for step in 0..100_u32 {
                let exit = (token + step) * 7 % MAX_SEGMENTS as u32;
                let energy = Some(Microjoules(u64::from(50_000 * (exit + 1))));
                governor.observe(black_box(Sample {
                    energy,
                    ..Sample::new(exit as u8, 5000 * (exit + 1))
                }));
            }
            observing += start.elapsed().as_secs_f64();
            token += 100;
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

/// The largest governor there can be, with everything switched on.
fn largest() -> Result<Governor, GovernorError> {
    let cost = Cost { us: 5000.0, uj: 50_000.0 };
    let segment = SegmentCost {
        first_row: [cost; CONTEXT_BUCKETS],
        more_row: cost.times(0.1),
        probe: cost.times(0.01),
    };
    let mut levels =
        [Level { threshold: 0.0, agreement: 0.0, exits: [0.0; MAX_SEGMENTS] }; MAX_LEVELS - 1];
    for (index, level) in levels.iter_mut().enumerate() {
        let share = (index + 1) as f32 / MAX_LEVELS as f32;
        *level = Level {
            threshold: 1.0 - share,
            agreement: 1.0 - share / 10.0,
            exits: [share / 15.0; MAX_SEGMENTS],
        };
        level.exits[MAX_SEGMENTS - 1] = 1.0 - share;
    }
    let config = GovernorConfig {
        energy_per_token: Some(Microjoules(400_000)),
        latency_per_token: Some(Microseconds(75_000)),
        rows_that_may_wait: 32,
        ..GovernorConfig::default()
    };
    let model = CostModel::new(&[segment; MAX_SEGMENTS], cost)?;
    Governor::new(
        config,
        model,
        Calibration::new(&levels, &[0.9; MAX_SEGMENTS])?,
        Metering::Measured,
    )
}
