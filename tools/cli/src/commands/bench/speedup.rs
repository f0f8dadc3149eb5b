//! What exits gain: measured beside full depth, and by the cost model.

use std::time::Instant;

use anyhow::Result;
use dynamax_engine::{Decoder, Outcome};
use dynamax_governor::{CostModel, context_bucket};

/// Seconds for `tokens` tokens at full depth behind a prompt.
pub(super) fn full_depth_s(
    decoder: &mut Decoder<'_>,
    prompt: &[u32],
    tokens: usize,
) -> Result<f64> {
    decoder.reset();
    decoder.take(prompt)?;
    let mut token = decoder.best();
    let start = Instant::now();
    for _ in 0..tokens {
        decoder.feed(&[token])?;
        token = decoder.best();
    }
    Ok(start.elapsed().as_secs_f64())
}

/// Time of `tokens` tokens at full depth as a multiple of that of the steps that made them.
pub(super) fn modelled(model: &CostModel, steps: &[Outcome], tokens: f64, context: u32) -> f64 {
    let (bucket, last) = (context_bucket(context), model.count() as u16 - 1);
    let (mut waiting, mut us) = (vec![0_u32; model.count()], 0.0);
    // With exits off, none is asked.
    let full = Outcome { segment: last, reach: last, ..Outcome::default() };
    let full_us = step_us(model, &full, &mut waiting, bucket);
    for step in steps {
        us += f64::from(step_us(model, step, &mut waiting, bucket));
    }
    tokens * f64::from(full_us) / us
}

/// Time of a step: its own row, with the rows that waited before each segment, and heads for those that are compared. What waits
/// behind which segment changes with it.
fn step_us(model: &CostModel, step: &Outcome, waiting: &mut [u32], bucket: usize) -> f32 {
    let (reach, last) = (usize::from(step.reach), model.count() - 1);
    let (mut us, mut along) = (model.head().us, step.drafts);
    for (index, segment) in model.segments().iter().enumerate().take(reach + 1) {
        let asked = f32::from(u8::from((step.asked >> index) & 1 == 1));
        us += segment.first_row[bucket].us + asked * segment.probe.us;
        us += segment.more(along as f32).us;
        along += std::mem::take(&mut waiting[index]);
    }
    // Rows that waited behind the deepest segment still do, and whoever left with them.
    waiting[reach] = if reach == last { 0 } else { along - step.drafts + 1 };
    // Drafts need a head each, and so do rows whose answers are compared.
    us + model.more_heads((step.drafts + step.revealed) as f32).us
}

#[cfg(test)]
mod tests {
    use dynamax_governor::{CONTEXT_BUCKETS, Cost, SegmentCost};

    use super::*;

    fn cost(us: f32) -> Cost {
        Cost { us, uj: us }
    }

    /// Two segments of 100 us, 10 for a further row; an exit of 1 us; a head of 20, 2 for a further row.
    fn model() -> CostModel {
        let segment = SegmentCost {
            first_row: [cost(100.0); CONTEXT_BUCKETS],
            more_rows: SegmentCost::alike(cost(10.0)),
            probe: cost(1.0),
        };
        let last = SegmentCost { probe: Cost::default(), ..segment };
        CostModel::new(&[segment, last], cost(20.0)).unwrap()
    }

    #[test]
    fn a_round_costs_its_drafts_and_one_pass_with_all_of_them() {
        let draft = Outcome { asked: 1, ..Outcome::default() };
        let ends =
            Outcome { segment: 1, reach: 1, caught_up: 2, revealed: 2, ..Outcome::default() };
        let steps = [draft, draft, ends];
        // Twice 121, then 100, 100 + 2·10, a head and two more; three tokens of 220 each.
        let found = modelled(&model(), &steps, 3.0, 10);
        assert!((found - 660.0 / (242.0 + 220.0 + 24.0)).abs() < 1e-3, "{found}");
        // Nothing waits for the next.
        let found = modelled(&model(), &[draft, ends, ends], 3.0, 10);
        let second = Outcome { revealed: 0, ..ends };
        assert!(found < modelled(&model(), &[draft, ends, second], 3.0, 10), "heads count");
    }

    #[test]
    fn drafts_that_no_exit_made_go_along_all_the_way() {
        let round = Outcome { segment: 1, reach: 1, drafts: 4, ..Outcome::default() };
        // 100 + 40, twice, and a head with four more of 2.
        let found = modelled(&model(), &[round], 5.0, 10);
        assert!((found - 1100.0 / 308.0).abs() < 1e-3, "{found}");
    }
}
