//! What operators ask of the machine for one token: bytes that are read, products that are made.

use std::ops::Range;

use dynamax_bundle::{DType, Kind, Op, Program, Rows};
use dynamax_engine::Outcome;
use dynamax_governor::Traffic;

/// What some operators read and multiply for one row: every weight of a linear operator, one row of the embedding, small
/// weights, recurrent states (read and written); caches grow with the context.
#[must_use]
pub fn traffic(program: &Program<'_>, ops: Range<usize>) -> Traffic {
    let mut sum = Traffic::default();
    for op in &program.ops[ops] {
        let operands = op.operands();
        for id in operands.inputs.into_iter().flatten() {
            let tensor = program.tensor(id);
            if !matches!(tensor.kind, Kind::Weight { .. }) {
                continue;
            }
            let stored = tensor.stored_bytes().unwrap_or(0);
            let rows = if let Rows::Fixed(rows) = tensor.rows { u64::from(rows).max(1) } else { 1 };
            if matches!(op, Op::Embed { .. }) {
                sum.bytes += stored / rows;
            } else {
                sum.bytes += stored;
                sum.macs += rows * u64::from(tensor.width);
            }
        }
        for id in operands.states.into_iter().flatten() {
            let tensor = program.tensor(id);
            let number_bytes = if tensor.dtype == DType::F16 { 2 } else { 4 };
            let row_bytes = u64::from(tensor.width) * number_bytes;
            match tensor.rows {
                Rows::Fixed(rows) => {
                    sum.bytes += 2 * u64::from(rows) * row_bytes;
                    sum.macs += 2 * u64::from(rows) * u64::from(tensor.width);
                }
                Rows::Cache { window: 0 } => sum.bytes_per_context += row_bytes as u32,
                Rows::Cache { window } => sum.bytes += u64::from(window) * row_bytes,
                Rows::Many => {}
            }
        }
    }
    sum
}

/// The traffic of every part of a Program.
#[derive(Clone, Debug)]
pub struct Ladder {
    /// Of each segment, with the probe behind it.
    pub segments: Vec<Traffic>,
    /// Of the head.
    pub head: Traffic,
}

impl Ladder {
    /// Reads it off a Program.
    #[must_use]
    pub fn of(program: &Program<'_>) -> Self {
        let segment = |(index, segment): (usize, &dynamax_bundle::Segment)| {
            let probe = program.exit_of(index).map(|(_, exit)| traffic(program, exit.probe()));
            let probe_bytes = probe.map_or(0, |probe| probe.bytes);
            Traffic { probe_bytes, ..traffic(program, segment.ops()) }
        };
        let segments = program.segments.iter().enumerate().map(segment).collect();
        Self { segments, head: traffic(program, program.head()) }
    }

    /// Bytes that a step read: the segments that it reached, the probes that it asked, and one head.
    #[must_use]
    pub fn step_bytes(&self, outcome: &Outcome, context: u64) -> u64 {
        let reached = &self.segments[..=usize::from(outcome.reach)];
        let of = |part: &Traffic| part.bytes + context * u64::from(part.bytes_per_context);
        let is_asked = |segment: &usize| (u64::from(outcome.asked) >> segment) & 1 == 1;
        let asked = (0..self.segments.len()).filter(is_asked);
        let probes: u64 = asked.map(|segment| self.segments[segment].probe_bytes).sum();
        reached.iter().map(of).sum::<u64>() + probes + of(&self.head)
    }

    /// Products that a step made; rows that were caught up made theirs now, and drafts that went along all of theirs.
    #[must_use]
    pub fn step_macs(&self, outcome: &Outcome) -> u64 {
        let own = self.segments.iter().take(usize::from(outcome.reach) + 1);
        let caught: u64 = self.segments.iter().skip(1).map(|part| part.macs).sum();
        own.map(|part| part.macs).sum::<u64>()
            + self.head.macs
            + u64::from(outcome.caught_up) * caught
            + u64::from(outcome.drafts) * self.row_macs()
    }

    /// Products of a row that goes through all layers.
    fn row_macs(&self) -> u64 {
        self.segments.iter().map(|part| part.macs).sum::<u64>() + self.head.macs
    }
}
