//! A board of four segments, a text, and runs of them.

use dynamax_governor::{
    CONTEXT_BUCKETS, Calibration, Cost, CostModel, Decision, Events, Governor, GovernorConfig,
    Level, MAX_SEGMENTS, Metering, Microjoules, Sample, SegmentCost,
};

pub(crate) const SEGMENTS: usize = 4;

/// Four segments of 10 ms and 100 mJ, a head of 4 ms and 40 mJ: 44 ms and 440 mJ in all.
pub(crate) fn model() -> CostModel {
    let first = Cost { us: 10_000.0, uj: 100_000.0 };
    let segment = SegmentCost {
        first_row: [first; CONTEXT_BUCKETS],
        more_rows: SegmentCost::alike(Cost { us: 1000.0, uj: 10_000.0 }),
        probe: Cost::default(),
    };
    CostModel::new(&[segment; SEGMENTS], Cost { us: 4000.0, uj: 40_000.0 }).unwrap()
}

pub(crate) fn calibration() -> Calibration {
    let levels: Vec<Level> = (1..=10_u16)
        .map(|step| {
            let share = f32::from(step) / 10.0;
            let mut exits = [0.0; MAX_SEGMENTS];
            (exits[0], exits[1], exits[2]) = (0.4 * share, 0.3 * share, 0.2 * share);
            exits[3] = 1.0 - 0.9 * share;
            Level {
                threshold: 1.0 - 0.09 * f32::from(step),
                agreement: 1.0 - 0.2 * share * share,
                exits,
            }
        })
        .collect();
    Calibration::new(&levels, &[0.6, 0.8, 0.9, 1.0]).unwrap()
}

pub(crate) fn governor(config: GovernorConfig, metering: Metering) -> Governor {
    Governor::new(config, model(), calibration(), metering).unwrap()
}

pub(crate) fn budget(energy_mj: u64) -> GovernorConfig {
    GovernorConfig {
        energy_per_token: Some(Microjoules(energy_mj * 1000)),
        min_agreement: 0.8,
        ..Default::default()
    }
}

/// Where a token of this difficulty leaves, its time and its energy, on a board that costs what the model says.
pub(crate) fn decode(decision: &Decision, scores: [f32; SEGMENTS], factor: f32) -> Sample {
    let (mut us, mut exit) = (0.0, SEGMENTS - 1);
    for (segment, score) in scores.iter().enumerate().take(SEGMENTS - 1) {
        us += 10_000.0 * factor;
        if decision.leaves_behind(segment, *score, us as u32) {
            exit = segment;
            break;
        }
    }
    let us = (10_000.0 * (exit + 1) as f32 + 4000.0) * factor;
    let energy = Some(Microjoules((us * 10.0) as u64));
    Sample { energy, ..Sample::new(exit as u8, us as u32) }
}

/// Scores that rise with depth, as much as luck has it.
pub(crate) fn scores(luck: u32) -> [f32; SEGMENTS] {
    let unit = (luck.wrapping_mul(2_654_435_769) >> 8) as f32 / (1 << 24) as f32;
    [0.2, 0.4, 0.6, 1.0].map(|base: f32| (base + 0.5 * unit).min(1.0))
}

/// Runs tokens on a board that costs `factor` of what the model says; the mean energy of the last half, in millijoules.
pub(crate) fn mean_mj(governor: &mut Governor, tokens: u32, factor: f32) -> f64 {
    let mut sum = 0.0;
    for token in 0..tokens {
        let decision = governor.decide(token);
        let sample = decode(&decision, scores(token), factor);
        sum += if token * 2 >= tokens { sample.energy.unwrap().0 as f64 } else { 0.0 };
        governor.observe(sample);
    }
    sum / f64::from(tokens - tokens / 2) / 1000.0
}

/// What is reported while `tokens` run.
pub(crate) fn events_of(governor: &mut Governor, tokens: u32, factor: f32) -> Events {
    let mut events = Events::NONE;
    for token in 0..tokens {
        let decision = governor.decide(token);
        events.add(decision.events);
        governor.observe(decode(&decision, scores(token), factor));
    }
    events
}
