//! A governor that keeps an energy budget by modelled costs alone, so that it decides the same on every machine.

use std::sync::{Mutex, PoisonError};

use dynamax_engine::{Decoder, ExitSettings, Model, Outcome, Probed};
use dynamax_governor::{
    CONTEXT_BUCKETS, Calibration, Cost, CostModel, Governor, GovernorConfig, Level, MAX_SEGMENTS,
    Metering, Microjoules, Sample, SegmentCost,
};

use crate::ways::{WAITING, prompt};

/// What a segment costs, and what the head does, in microseconds and microjoules.
const SEGMENT: Cost = Cost { us: 100.0, uj: 100.0 };
const HEAD: Cost = Cost { us: 20.0, uj: 20.0 };

/// Share of tokens whose scores reach each of the [`thresholds`].
const SHARES: [f32; 3] = [0.2, 0.45, 0.7];

/// Scores that some tokens reach and some do not, strict to lenient: found on the prompt, between two that were seen.
pub(crate) fn thresholds(decoder: &mut Decoder<'_>) -> [f32; 3] {
    let settings = ExitSettings { pending_max: WAITING, ..ExitSettings::default() };
    decoder.use_exits(Some(settings)).expect("possible");
    let scores = Mutex::new(Vec::new());
    for token in prompt() {
        let decide = |probed: Probed| {
            scores.lock().unwrap_or_else(PoisonError::into_inner).push(probed.score);
            false
        };
        decoder.step(token, decide).expect("accepted");
    }
    let mut scores = scores.into_inner().unwrap_or_else(PoisonError::into_inner);
    scores.sort_unstable_by(|a, b| b.total_cmp(a));
    SHARES.map(|share| {
        let index = (scores.len() as f32 * share) as usize;
        f32::midpoint(scores[index], scores[index + 1])
    })
}

/// A governor at work.
pub(crate) struct Steering {
    governor: Governor,
    costs: CostModel,
}

impl Steering {
    pub(crate) fn new(model: &Model<'_>, thresholds: [f32; 3]) -> Self {
        let segments = model.program().segments.len();
        let segment = SegmentCost {
            first_row: [SEGMENT; CONTEXT_BUCKETS],
            more_rows: SegmentCost::alike(SEGMENT.times(0.1)),
            probe: Cost::default(),
        };
        let costs = CostModel::new(&vec![segment; segments], HEAD).expect("sane");
        let level = |(index, threshold): (usize, f32)| {
            let mut exits = [0.0; MAX_SEGMENTS];
            (exits[0], exits[segments - 1]) = (SHARES[index], 1.0 - SHARES[index]);
            Level { threshold, agreement: 1.0 - 0.05 * (index + 1) as f32, exits }
        };
        let levels: Vec<Level> = thresholds.into_iter().enumerate().map(level).collect();
        let mut forced = vec![0.7; segments];
        forced[segments - 1] = 1.0;
        let calibration = Calibration::new(&levels, &forced).expect("in order");
        // Between the dearest token and the cheapest.
        let budget = Microjoules((costs.full(0).uj * 0.75) as u64);
        let config = GovernorConfig {
            energy_per_token: Some(budget),
            window: 16,
            min_agreement: 0.8,
            ..GovernorConfig::default()
        };
        let governor = Governor::new(config, costs, calibration, Metering::Measured);
        Self { governor: governor.expect("sane"), costs }
    }

    /// What an exit must score for the next token to leave there.
    pub(crate) fn limit(&mut self, context: u32) -> f32 {
        self.governor.decide(context).threshold
    }

    /// Learns what became of the token.
    pub(crate) fn learn(&mut self, outcome: &Outcome) {
        let cost = self.costs.to_exit(outcome.segment.into(), 0);
        let energy = Some(Microjoules(cost.uj as u64));
        let sample = Sample::new(outcome.segment as u8, cost.us as u32);
        self.governor.observe(Sample { energy, ..sample });
    }
}
