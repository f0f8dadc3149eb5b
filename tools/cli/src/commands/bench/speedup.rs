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

/// Time of `tokens` tokens at full depth as a multiple of that of the steps that made them. A step that left early costs its
/// way to the exit, and later one row more of a step that goes to the end; drafts that no exit made cost a row more of all.
pub(super) fn modelled(model: &CostModel, steps: &[Outcome], tokens: f64, context: u32) -> f64 {
    let (bucket, last) = (context_bucket(context), model.count() - 1);
    let full = f64::from(model.full(bucket).us);
    let rows = model.segments().iter().map(|segment| segment.more_row.us);
    let row = f64::from(rows.sum::<f32>() + model.head().us);
    let of_step = |outcome: &Outcome| match usize::from(outcome.segment) {
        segment if segment >= last => full + f64::from(outcome.drafts) * row,
        segment => f64::from(model.to_exit(segment, bucket).us + model.catch_up(segment).us),
    };
    tokens * full / steps.iter().map(of_step).sum::<f64>()
}
