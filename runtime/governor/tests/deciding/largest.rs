//! The largest governor there can be: what its decisions cost is what decisions cost at most.

use dynamax_governor::{
    CONTEXT_BUCKETS, Calibration, Cost, CostModel, Governor, GovernorConfig, GovernorError, Level,
    MAX_LEVELS, MAX_SEGMENTS, Metering, Microjoules, Microseconds, Sample, SegmentCost,
};

/// The largest governor there can be, with everything switched on.
pub(crate) fn largest() -> Result<Governor, GovernorError> {
    let cost = Cost { us: 5000.0, uj: 50_000.0 };
    let segment = SegmentCost {
        first_row: [cost; CONTEXT_BUCKETS],
        more_rows: SegmentCost::alike(cost.times(0.1)),
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

/// A token that leaves at one of all exits in turn.
pub(crate) fn token(number: u32) -> Sample {
    let exit = number * 7 % MAX_SEGMENTS as u32;
    let energy = Some(Microjoules(u64::from(50_000 * (exit + 1))));
    Sample { energy, ..Sample::new(exit as u8, 5000 * (exit + 1)) }
}
