//! From times that were measured to what each part costs.

use anyhow::{Context, Result};
use dynamax_config::Spread;
use dynamax_governor::{
    CONTEXT_BUCKETS, Cost, CostModel, MORE_ROWS, SegmentCost, Traffic, bucket_context,
};
use dynamax_session::traffic::Ladder;

/// What was measured, round by round.
pub(super) struct Measured {
    /// To each exit, then to the end.
    pub(super) ways: Vec<Rounds>,
    /// To the end, past exits that are not asked.
    pub(super) unasked: Rounds,
    /// Further rows that are caught up with one: of [`MORE_ROWS`] those that may wait.
    pub(super) more_rows: Vec<Rounds>,
    /// How much longer each way takes at the contexts of a range, from the second range on.
    pub(super) longer: Vec<Vec<f32>>,
}

/// Times that every way is measured, one way behind the other, so that a machine that slows down slows all of them.
pub(super) const ROUNDS: usize = 9;

/// Of so many sorted rounds, the second and the last but one: the median is between them in 96 of 100 profiles, because it is not if
/// eight or more of nine coins show the same side.
const BETWEEN: [usize; 2] = [1, ROUNDS - 2];

/// A cost, once for each round.
#[derive(Clone, Debug, Default)]
pub(super) struct Rounds(pub(super) Vec<Cost>);

impl Rounds {
    /// Round by round, what these cost more.
    fn minus(&self, other: &Self) -> Self {
        let pairs = self.0.iter().zip(&other.0);
        Self(pairs.map(|(a, b)| Cost { us: a.us - b.us, uj: a.uj - b.uj }).collect())
    }

    /// The medians: other work on the machine is not the token's.
    pub(super) fn median(&self) -> Cost {
        let at = |of: fn(&Cost) -> f32| rank(self.sorted(of), ROUNDS / 2);
        Cost { us: at(|cost| cost.us), uj: at(|cost| cost.uj) }
    }

    /// What the median is between.
    pub(super) fn between(&self, of: fn(&Cost) -> f32) -> [f32; 2] {
        BETWEEN.map(|index| rank(self.sorted(of), index))
    }

    fn spread(&self) -> Spread {
        Spread { us: self.between(|cost| cost.us), uj: self.between(|cost| cost.uj) }
    }

    fn sorted(&self, of: fn(&Cost) -> f32) -> Vec<f32> {
        let mut values: Vec<f32> = self.0.iter().map(of).collect();
        values.sort_unstable_by(f32::total_cmp);
        values
    }
}

fn rank(sorted: Vec<f32>, index: usize) -> f32 {
    sorted.get(index).copied().unwrap_or(0.0)
}

/// The median of some values, of two the mean; 0 of none.
pub(super) fn middle(mut values: Vec<f32>) -> f32 {
    values.sort_unstable_by(f32::total_cmp);
    let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
    (at(low) + at(high)) / 2.0
}

impl Measured {
    /// Costs of the parts: differences between the ways; the first segment and the head share the first way by bytes. Ranges of
    /// context that were not measured cost more by the bytes that they read.
    pub(super) fn model(&self, ladder: &Ladder) -> Result<(CostModel, Vec<Spread>)> {
        let bytes = |part: &Traffic| part.bytes as f32;
        let (first, probe) = (&ladder.segments[0], ladder.segments[0].probe_bytes as f32);
        let whole = bytes(first) + probe + bytes(&ladder.head);
        let of_byte = self.ways[0].median().times(1.0 / whole);
        let asked = self.asked();
        // What is computed takes at least as long as its bytes, whatever the noise.
        let probe_of = |part: &Traffic| match part.probe_bytes {
            0 => Cost::default(),
            bytes => larger(of_byte.times(bytes as f32), asked),
        };
        let (both, probe) = (bytes(first) + bytes(&ladder.head), probe_of(first));
        let shortest = at_least(minus(self.ways[0].median(), probe), self.ways[0].median());
        let head = shortest.times(bytes(&ladder.head) / both);
        let (more_rows, shares) = (self.more_rows(), self.shares(ladder));
        let (mut segments, mut spreads) = (Vec::new(), Vec::new());
        for (index, part) in ladder.segments.iter().enumerate() {
            let (base, spread) = match index.checked_sub(1) {
                None => {
                    let share = bytes(first) / both;
                    let spread = without(self.ways[0].spread(), probe);
                    let of_it = |both: [f32; 2]| both.map(|value| value * share);
                    let spread = Spread { us: of_it(spread.us), uj: of_it(spread.uj) };
                    (shortest.times(share), spread)
                }
                Some(before) => {
                    let more = self.ways[index].minus(&self.ways[before]);
                    let probe = probe_of(part);
                    let base = minus(more.median(), probe);
                    (at_least(base, self.ways[index].median()), without(more.spread(), probe))
                }
            };
            let first_row = self.by_context((index, base), part, of_byte);
            let more_rows = more_rows.map(|cost| cost.times(shares[index]));
            segments.push(SegmentCost { first_row, more_rows, probe: probe_of(part) });
            spreads.push(spread);
        }
        let model = CostModel::new(&segments, head);
        Ok((model.context("what was measured makes no costs: measure again")?, spreads))
    }

    /// What further rows cost that were caught up with one; more than may wait, by what the last ones cost.
    fn more_rows(&self) -> [Cost; MORE_ROWS.len()] {
        let (mut known, mut before) = ([Cost::default(); MORE_ROWS.len()], Cost::default());
        let mut row = Cost::default();
        for (index, cost) in known.iter_mut().enumerate() {
            let more = MORE_ROWS[index] - index.checked_sub(1).map_or(0, |index| MORE_ROWS[index]);
            let more = f32::from(more);
            if let Some(rounds) = self.more_rows.get(index) {
                // More rows never cost less: that is noise.
                row = minus(larger(rounds.median(), before), before).times(1.0 / more);
            }
            before = before.plus(row.times(more));
            *cost = before;
        }
        known
    }

    /// Shares of the segments in what a row costs that was caught up, by their bytes: it had been through the first.
    pub(super) fn shares(&self, ladder: &Ladder) -> Vec<f32> {
        let bytes = |part: &Traffic| part.bytes as f32;
        let skipped: f32 = ladder.segments.iter().skip(1).map(bytes).sum();
        ladder.segments.iter().map(|part| bytes(part) / skipped.max(1.0)).collect()
    }

    /// What asking one exit costs: they are alike, and share what all of them cost more.
    fn asked(&self) -> Cost {
        let exits = self.ways.len() - 1;
        let all = self.ways[exits].minus(&self.unasked).median();
        all.times(1.0 / exits.max(1) as f32)
    }

    /// What a segment costs in each range of context: as much longer as its way was found to take, and where none was, by bytes.
    fn by_context(
        &self,
        (segment, base): (usize, Cost),
        part: &Traffic,
        of_byte: Cost,
    ) -> [Cost; CONTEXT_BUCKETS] {
        let context = |bucket: usize| bucket_context(bucket) as f32;
        let mut costs = [base; CONTEXT_BUCKETS];
        for bucket in 1..CONTEXT_BUCKETS {
            costs[bucket] = match self.longer.get(bucket - 1) {
                Some(longer) => {
                    let way = |way: usize| self.ways[way].median().times(longer[way] - 1.0);
                    let before = segment.checked_sub(1).map_or(Cost::default(), way);
                    let more = way(segment);
                    let grown =
                        Cost { us: more.us - before.us, uj: more.uj - before.uj }.plus(base);
                    // More context never costs less: that is noise.
                    let least = costs[bucket - 1];
                    Cost { us: grown.us.max(least.us), uj: grown.uj.max(least.uj) }
                }
                None => {
                    let read = context(bucket) - context(bucket - 1);
                    costs[bucket - 1].plus(of_byte.times(read * part.bytes_per_context as f32))
                }
            };
        }
        costs
    }
}

/// What a longer way costs more; noise must not make it nothing.
fn at_least(more: Cost, whole: Cost) -> Cost {
    Cost { us: more.us.max(whole.us * 1e-3), uj: more.uj.max(whole.uj * 1e-3) }
}

fn larger(a: Cost, b: Cost) -> Cost {
    Cost { us: a.us.max(b.us), uj: a.uj.max(b.uj) }
}

fn minus(a: Cost, b: Cost) -> Cost {
    Cost { us: a.us - b.us, uj: a.uj - b.uj }
}

/// The spread of what is left when `part` is taken away.
fn without(spread: Spread, part: Cost) -> Spread {
    Spread { us: spread.us.map(|us| us - part.us), uj: spread.uj.map(|uj| uj - part.uj) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(us: [f32; ROUNDS]) -> Rounds {
        Rounds(us.map(|us| Cost { us, uj: 10.0 * us }).to_vec())
    }

    #[test]
    fn a_median_lies_between_the_second_and_the_last_but_one() {
        let rounds = rounds([9.0, 1.0, 2.0, 8.0, 3.0, 7.0, 4.0, 6.0, 500.0]);
        assert!((rounds.median().us - 6.0).abs() < 1e-6, "{:?}", rounds.median());
        let spread = rounds.spread();
        assert_eq!((spread.us, spread.uj), ([2.0, 9.0], [20.0, 90.0]), "a stall is no cost");
    }

    #[test]
    fn a_slow_round_slows_every_way_and_no_segment() {
        let short = rounds([10.0, 10.0, 10.0, 30.0, 30.0, 30.0, 30.0, 30.0, 30.0]);
        let long = rounds([14.0, 14.0, 14.0, 34.0, 34.0, 34.0, 34.0, 34.0, 34.0]);
        let more = long.minus(&short).spread();
        assert!(more.us.iter().all(|us| (us - 4.0).abs() < 1e-3), "paired by round: {more:?}");
    }

    #[test]
    fn an_exit_costs_what_asking_it_takes_longer() {
        // 60 to leave at the exit; to the end 130 where it is asked, 100 where it is not.
        let measured = Measured {
            ways: vec![rounds([60.0; ROUNDS]), rounds([130.0; ROUNDS])],
            unasked: rounds([100.0; ROUNDS]),
            more_rows: Vec::new(),
            longer: Vec::new(),
        };
        let part = |bytes, probe_bytes| Traffic { bytes, probe_bytes, ..Traffic::default() };
        let ladder = Ladder { segments: vec![part(200, 1), part(700, 0)], head: part(100, 0) };
        let (model, _) = measured.model(&ladder).unwrap();
        let [first, second] = model.segments() else { panic!("two segments") };
        let near = |cost: Cost, us: f32| (cost.us - us).abs() < 1e-3;
        assert!(near(first.probe, 30.0) && near(second.probe, 0.0), "{:?}", first.probe);
        assert!(near(first.first_row[0], 20.0) && near(model.head(), 10.0), "30, by bytes");
        assert!(near(second.first_row[0], 70.0), "the end asks no exit");
        assert!(near(model.full(0), 130.0) && near(model.to_exit(0, 0), 60.0), "as measured");
    }

    #[test]
    fn further_rows_that_may_not_wait_cost_what_the_last_ones_do() {
        let more_rows = vec![rounds([2.0; ROUNDS]), rounds([10.0; ROUNDS])];
        let (ways, unasked) = (vec![rounds([60.0; ROUNDS])], Rounds::default());
        let measured = Measured { ways, unasked, more_rows, longer: Vec::new() };
        let us = measured.more_rows().map(|cost| cost.us);
        // From one row to three by four each, and so on.
        let near = us.iter().zip([2.0, 10.0, 26.0, 58.0]).all(|(a, b)| (a - b).abs() < 1e-3);
        assert!(near, "{us:?}");
    }

    #[test]
    fn a_median_of_two_is_their_mean() {
        assert!((middle(vec![4.0, 1.0]) - 2.5).abs() < 1e-6, "of two");
        assert!((middle(vec![4.0, 1.0, 9.0]) - 4.0).abs() < 1e-6, "of three");
        assert!(middle(Vec::new()).abs() < 1e-6, "of none");
    }

    #[test]
    fn longer_contexts_cost_what_was_measured_and_then_by_bytes() {
        let ways = vec![rounds([100.0; ROUNDS]), rounds([150.0; ROUNDS])];
        let longer = vec![vec![1.1, 1.2]];
        let measured = Measured { ways, unasked: Rounds::default(), more_rows: Vec::new(), longer };
        let part = Traffic { bytes: 1000, bytes_per_context: 2, ..Traffic::default() };
        let of_byte = Cost { us: 0.01, uj: 0.1 };
        let costs = measured.by_context((1, Cost { us: 50.0, uj: 500.0 }), &part, of_byte);
        // 150·1.2 − 100·1.1; from 511 to 1023 tokens of two bytes, at a hundredth each.
        assert!((costs[1].us - 70.0).abs() < 1e-3, "{costs:?}");
        assert!((costs[2].us - 80.24).abs() < 1e-3, "{costs:?}");
    }
}
