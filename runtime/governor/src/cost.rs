//! What a token costs: time and energy of each segment, exit probe, head and row that is caught up.
//!
//! ```text
//! token that leaves behind segment s, while p rows wait before segment j
//!
//!   Σ first_row[j] + more_rows[j](p(j)) + probe[j]   for j ≤ s        + head
//! ```
//!
//! The weights of a segment are read once for all rows of a pass, so that a further row costs arithmetic only; and the first
//! ones cost nearly nothing where that takes less time than the reading does. So further rows are a curve, not a number. A profile of
//! the board gives it; without one, costs follow from bytes and the board's bandwidth, and are called "model".

use crate::error::GovernorError;
use crate::units::Milliwatts;

/// Most segments of a Program.
pub const MAX_SEGMENTS: usize = 16;

/// Ranges of context length that costs are told apart by.
pub const CONTEXT_BUCKETS: usize = 8;

/// Further rows of a pass that costs are known of.
pub const MORE_ROWS: [u16; 4] = [1, 3, 7, 15];

/// The range that a context of this many tokens falls into: up to 255, 511, 1023, … 16383, and longer.
#[must_use]
pub fn context_bucket(context: u32) -> usize {
    let doublings = (context.max(1).ilog2() as usize + 1).saturating_sub(8);
    doublings.min(CONTEXT_BUCKETS - 1)
}

/// The longest context of a range, or twice the start of the last.
#[must_use]
pub fn bucket_context(bucket: usize) -> u32 {
    (256 << bucket.min(CONTEXT_BUCKETS)) - 1
}

/// Time and energy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Microseconds.
    pub us: f32,
    /// Microjoules.
    pub uj: f32,
}

impl Cost {
    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { us: self.us + other.us, uj: self.uj + other.uj }
    }

    /// This many times the cost.
    #[must_use]
    pub fn times(self, count: f32) -> Self {
        Self { us: self.us * count, uj: self.uj * count }
    }

    fn is_sane(self) -> bool {
        let sane = |value: f32| (0.0..1e12).contains(&value);
        sane(self.us) && sane(self.uj)
    }
}

/// What a segment costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SegmentCost {
    /// A pass with one row, by range of context.
    pub first_row: [Cost; CONTEXT_BUCKETS],
    /// What [`MORE_ROWS`] further rows of the same pass cost, all together.
    pub more_rows: [Cost; MORE_ROWS.len()],
    /// The exit probe behind it; nothing behind the last.
    pub probe: Cost,
}

impl SegmentCost {
    /// Costs of further rows that are all alike.
    #[must_use]
    pub fn alike(row: Cost) -> [Cost; MORE_ROWS.len()] {
        MORE_ROWS.map(|rows| row.times(f32::from(rows)))
    }

    /// What so many further rows of a pass cost: between those that are known, and beyond, along a line.
    #[must_use]
    pub fn more(&self, rows: f32) -> Cost {
        let (mut from, mut to) = ((0.0, Cost::default()), (0.0, Cost::default()));
        for (known, cost) in MORE_ROWS.into_iter().zip(self.more_rows) {
            (from, to) = (to, (f32::from(known), cost));
            if rows <= to.0 {
                break;
            }
        }
        let part = (rows - from.0) / (to.0 - from.0);
        from.1.times(1.0 - part).plus(to.1.times(part))
    }

    /// What a further row costs where a few go together.
    #[must_use]
    pub fn row(&self) -> Cost {
        self.more_rows[1].times(1.0 / f32::from(MORE_ROWS[1]))
    }
}

/// What a token costs on a board.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostModel {
    segments: [SegmentCost; MAX_SEGMENTS],
    count: usize,
    head: Cost,
}

impl CostModel {
    /// A model from measured costs.
    ///
    /// # Errors
    ///
    /// No segments, too many, a cost that is negative or no number, or a first row that takes no time.
    pub fn new(segments: &[SegmentCost], head: Cost) -> Result<Self, GovernorError> {
        let count = segments.len();
        if !(1..=MAX_SEGMENTS).contains(&count) {
            return Err(GovernorError::Segments { found: count });
        }
        for (index, segment) in segments.iter().enumerate() {
            let rows = segment.first_row;
            let is_sane = rows.iter().all(|cost| cost.is_sane() && cost.us > 0.0)
                && segment.more_rows.iter().all(|cost| cost.is_sane())
                && segment.probe.is_sane();
            if !is_sane {
                return Err(GovernorError::SegmentCost { segment: index });
            }
        }
        if !head.is_sane() {
            return Err(GovernorError::HeadCost);
        }
        let mut stored = [SegmentCost::default(); MAX_SEGMENTS];
        stored[..count].copy_from_slice(segments);
        Ok(Self { segments: stored, count, head })
    }

    /// A model from what each segment reads and multiplies, and the board's rates.
    ///
    /// # Errors
    ///
    /// As [`Self::new`]: rates of zero make costs that are no numbers.
    pub fn from_traffic(
        segments: &[Traffic],
        head: Traffic,
        rates: &Rates,
    ) -> Result<Self, GovernorError> {
        let mut costs = [SegmentCost::default(); MAX_SEGMENTS];
        if segments.len() > MAX_SEGMENTS {
            return Err(GovernorError::Segments { found: segments.len() });
        }
        for (cost, traffic) in costs.iter_mut().zip(segments) {
            for (bucket, first) in cost.first_row.iter_mut().enumerate() {
                *first = rates.pass(traffic, bucket_context(bucket));
            }
            cost.more_rows = SegmentCost::alike(rates.row(traffic));
            let probe = Traffic {
                bytes: traffic.probe_bytes,
                macs: traffic.probe_bytes,
                ..Traffic::default()
            };
            cost.probe = rates.pass(&probe, 0);
        }
        Self::new(&costs[..segments.len()], rates.pass(&head, 0))
    }

    /// The same where everything takes `time` times as long and costs `energy` times as much. Factors that make no costs change
    /// nothing.
    #[must_use]
    pub fn scaled(&self, time: f32, energy: f32) -> Self {
        let scaled = |cost: Cost| Cost { us: cost.us * time, uj: cost.uj * energy };
        let segment = |segment: &SegmentCost| SegmentCost {
            first_row: segment.first_row.map(scaled),
            more_rows: segment.more_rows.map(scaled),
            probe: scaled(segment.probe),
        };
        let mut segments = self.segments;
        for (to, from) in segments.iter_mut().zip(self.segments()) {
            *to = segment(from);
        }
        Self::new(&segments[..self.count], scaled(self.head)).unwrap_or(*self)
    }

    /// Number of segments.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Costs of the segments.
    #[must_use]
    pub fn segments(&self) -> &[SegmentCost] {
        &self.segments[..self.count]
    }

    /// Cost of the head.
    #[must_use]
    pub fn head(&self) -> Cost {
        self.head
    }

    /// Cost of a token that leaves behind `segment`, with nothing to catch up.
    #[must_use]
    pub fn to_exit(&self, segment: usize, bucket: usize) -> Cost {
        let passed = self.segments().iter().take(segment + 1);
        passed.fold(self.head, |sum, cost| sum.plus(cost.first_row[bucket]).plus(cost.probe))
    }

    /// Cost of a token that runs to the end.
    #[must_use]
    pub fn full(&self, bucket: usize) -> Cost {
        self.to_exit(self.count - 1, bucket)
    }

    /// Cost of catching a row up, one among others, from behind `segment` to the end.
    #[must_use]
    pub fn catch_up(&self, segment: usize) -> Cost {
        let skipped = self.segments().iter().skip(segment + 1);
        skipped.fold(Cost::default(), |sum, cost| sum.plus(cost.row()))
    }

    /// Cost of a further row of the head where a few go together.
    #[must_use]
    pub fn head_row(&self) -> Cost {
        let few = f32::from(MORE_ROWS[1]);
        self.more_heads(few).times(1.0 / few)
    }

    /// Cost of so many further rows of the head: it is thought to be like the segments.
    #[must_use]
    pub fn more_heads(&self, rows: f32) -> Cost {
        let sum = |of: fn(&SegmentCost, f32) -> Cost| {
            let costs = self.segments().iter().map(|segment| of(segment, rows));
            costs.fold(Cost::default(), Cost::plus)
        };
        let (more, first) = (sum(SegmentCost::more), sum(|segment, _| segment.first_row[0]));
        let part = |more: f32, first: f32| more / first.max(f32::MIN_POSITIVE);
        let head = self.head;
        Cost { us: head.us * part(more.us, first.us), uj: head.uj * part(more.uj, first.uj) }
    }
}

/// What a segment, or the head, reads and multiplies for one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of weights and of state that does not grow.
    pub bytes: u64,
    /// Products.
    pub macs: u64,
    /// Bytes read for each token of context.
    pub bytes_per_context: u32,
    /// Bytes of the exit probe behind it.
    pub probe_bytes: u64,
}

/// What a board can do. Energies are above idle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Bytes per nanosecond that decoding reaches: the data sheet's, times what good kernels get of it.
    pub bandwidth_gb_s: f32,
    /// Products per nanosecond.
    pub gmac_s: f32,
    /// Power of the board that does nothing.
    pub idle: Milliwatts,
    /// Energy of a byte from memory.
    pub pj_per_byte: f32,
    /// Energy of a product.
    pub pj_per_mac: f32,
}

impl Rates {
    /// One row: time is that of the slower of memory and arithmetic.
    fn pass(&self, traffic: &Traffic, context: u32) -> Cost {
        let bytes = traffic.bytes as f32 + traffic.bytes_per_context as f32 * context as f32;
        let us = (bytes / self.bandwidth_gb_s).max(traffic.macs as f32 / self.gmac_s) / 1e3;
        Cost { us, uj: self.energy_uj(us, bytes, traffic.macs) }
    }

    /// A further row: arithmetic only.
    fn row(&self, traffic: &Traffic) -> Cost {
        let us = traffic.macs as f32 / self.gmac_s / 1e3;
        Cost { us, uj: self.energy_uj(us, 0.0, traffic.macs) }
    }

    fn energy_uj(&self, us: f32, bytes: f32, macs: u64) -> f32 {
        let idle = self.idle.0 as f32 * us / 1e3;
        idle + (bytes * self.pj_per_byte + macs as f32 * self.pj_per_mac) / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1 GB/s, 1 GMAC/s, 1 W idle, 100 pJ a byte, 1 pJ a product.
    const RATES: Rates = Rates {
        bandwidth_gb_s: 1.0,
        gmac_s: 1.0,
        idle: Milliwatts(1000),
        pj_per_byte: 100.0,
        pj_per_mac: 1.0,
    };

    #[test]
    fn contexts_fall_into_ranges_by_doubling() {
        let cases = [
            (0, 0),
            (255, 0),
            (256, 1),
            (511, 1),
            (512, 2),
            (16_383, 6),
            (16_384, 7),
            (u32::MAX, 7),
        ];
        for (context, bucket) in cases {
            assert_eq!(context_bucket(context), bucket, "{context}");
        }
        for bucket in 0..CONTEXT_BUCKETS {
            assert_eq!(context_bucket(bucket_context(bucket)), bucket, "{bucket}");
        }
    }

    #[test]
    fn traffic_becomes_time_and_energy() {
        let segment =
            Traffic { bytes: 1_000_000, macs: 500_000, bytes_per_context: 0, probe_bytes: 1000 };
        let head = Traffic { bytes: 100_000, macs: 200_000, ..Traffic::default() };
        let model = CostModel::from_traffic(&[segment, segment], head, &RATES).unwrap();
        // 1 MB at 1 GB/s is 1000 us; 1 W for that is 1000 uJ, the bytes are 100 uJ, the products 0.5 uJ.
        let first = model.segments()[0].first_row[0];
        assert!((first.us - 1000.0).abs() < 0.1 && (first.uj - 1100.5).abs() < 0.1, "{first:?}");
        // Half a million products take 500 us.
        let more = model.segments()[0].row();
        assert!((more.us - 500.0).abs() < 0.1 && (more.uj - 500.5).abs() < 0.1, "{more:?}");
        // The head multiplies longer than it reads.
        assert!((model.head().us - 200.0).abs() < 0.1, "{:?}", model.head());
        // Two segments, two probes of 1 us, the head.
        assert!((model.full(0).us - 2202.0).abs() < 0.1, "{:?}", model.full(0));
        assert!((model.to_exit(0, 0).us - 1201.0).abs() < 0.1, "{:?}", model.to_exit(0, 0));
        assert_eq!(model.catch_up(0), more, "one segment is skipped");
        assert_eq!(model.catch_up(1), Cost::default(), "none is");
    }

    #[test]
    fn further_rows_follow_what_is_known_of_them() {
        let known = [0.0, 30.0, 70.0, 230.0].map(|us| Cost { us, uj: 10.0 * us });
        let segment = SegmentCost { more_rows: known, ..SegmentCost::default() };
        let cases = [
            (0.0, 0.0),
            (1.0, 0.0),
            (2.0, 15.0),
            (3.0, 30.0),
            (5.0, 50.0),
            (11.0, 150.0),
            (17.0, 270.0),
        ];
        for (rows, us) in cases {
            let found = segment.more(rows);
            assert!((found.us - us).abs() < 1e-3, "{rows} rows: {found:?}");
            assert!((found.uj - 10.0 * us).abs() < 1e-2, "{rows} rows: {found:?}");
        }
        let row = Cost { us: 3.0, uj: 5.0 };
        let segment = SegmentCost { more_rows: SegmentCost::alike(row), ..segment };
        assert!((segment.more(40.0).us - 120.0).abs() < 1e-3, "all alike");
        assert!((segment.row().uj - 5.0).abs() < 1e-5, "and one of them");
    }

    #[test]
    fn a_further_head_costs_as_much_of_the_first_as_segments_do() {
        let us = |us| Cost { us, uj: 2.0 * us };
        let segment = SegmentCost {
            first_row: [us(100.0); CONTEXT_BUCKETS],
            more_rows: SegmentCost::alike(us(10.0)),
            probe: Cost::default(),
        };
        let model = CostModel::new(&[segment; 2], us(50.0)).unwrap();
        let heads = model.more_heads(4.0);
        assert!((heads.us - 20.0).abs() < 1e-3 && (heads.uj - 40.0).abs() < 1e-3, "{heads:?}");
    }

    #[test]
    fn another_power_mode_scales_every_cost() {
        let segment =
            Traffic { bytes: 1_000_000, macs: 500_000, bytes_per_context: 8, probe_bytes: 1000 };
        let model = CostModel::from_traffic(&[segment; 3], segment, &RATES).unwrap();
        let slower = model.scaled(1.5, 1.2);
        for (was, is) in [(model.full(4), slower.full(4)), (model.catch_up(0), slower.catch_up(0))]
        {
            assert!((is.us - 1.5 * was.us).abs() < 0.1, "{was:?} {is:?}");
            assert!((is.uj - 1.2 * was.uj).abs() < 0.1, "{was:?} {is:?}");
        }
        assert_eq!(model.scaled(f32::NAN, 1.0), model, "no factor");
    }

    #[test]
    fn context_costs_time() {
        let segment =
            Traffic { bytes: 1_000_000, macs: 1000, bytes_per_context: 100, probe_bytes: 0 };
        let model = CostModel::from_traffic(&[segment], Traffic::default(), &RATES).unwrap();
        let at = |context| model.full(context_bucket(context)).us;
        assert!((at(100) - 1025.5).abs() < 0.1, "{}", at(100));
        assert!((at(1000) - 1102.3).abs() < 0.1, "{}", at(1000));
    }

    #[test]
    fn costs_that_are_none_are_refused() {
        let head = Traffic::default();
        let segment = Traffic { bytes: 1000, macs: 1, ..head };
        let none = Rates { bandwidth_gb_s: 0.0, ..RATES };
        assert_eq!(
            CostModel::from_traffic(&[segment], head, &none),
            Err(GovernorError::SegmentCost { segment: 0 }),
            "infinitely slow"
        );
        assert_eq!(
            CostModel::new(&[], Cost::default()),
            Err(GovernorError::Segments { found: 0 }),
            "empty"
        );
        let many = [segment; MAX_SEGMENTS + 1];
        let found = MAX_SEGMENTS + 1;
        assert_eq!(
            CostModel::from_traffic(&many, head, &RATES),
            Err(GovernorError::Segments { found }),
            "too many"
        );
        let timeless = SegmentCost::default();
        let refused = CostModel::new(&[timeless], Cost::default());
        assert_eq!(refused, Err(GovernorError::SegmentCost { segment: 0 }), "no time");
        let nan = Cost { us: f32::NAN, uj: 1.0 };
        let good = SegmentCost {
            first_row: [Cost { us: 1.0, uj: 1.0 }; CONTEXT_BUCKETS],
            ..SegmentCost::default()
        };
        assert_eq!(CostModel::new(&[good], nan), Err(GovernorError::HeadCost), "no number");
    }
}
