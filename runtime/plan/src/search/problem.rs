//! The problem as the search sees it: sizes, sections, and who meets whom.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use super::timeline;
use crate::Buffer;

/// Buffers that are all live at some time, with sizes in multiples of the alignment.
#[derive(Debug)]
pub(super) struct Problem {
    /// Size of each buffer, in units of the alignment.
    pub(super) sizes: Vec<u64>,
    /// Sections in which each buffer is live; see [`timeline::sections`].
    pub(super) ranges: Vec<Range<usize>>,
    /// For each buffer, those it meets in time.
    pub(super) neighbours: Vec<Vec<usize>>,
    /// For each buffer, the others that live in exactly the same sections.
    pub(super) siblings: Vec<Vec<usize>>,
    /// Live sum of each section.
    pub(super) live_units: Vec<u64>,
    /// The buffers in runs that never meet one another, each sorted by start.
    pub(super) parts: Vec<Vec<usize>>,
}

impl Problem {
    /// `sizes[i]` is the size of `buffers[i]` in units.
    pub(super) fn new(buffers: &[Buffer], sizes: Vec<u64>) -> Self {
        let (ranges, n_sections) = timeline::sections(buffers);
        let n = buffers.len();
        let meet =
            |i: usize, j: usize| ranges[i].start < ranges[j].end && ranges[j].start < ranges[i].end;
        let others = |i: usize| (0..n).filter(move |&j| j != i);
        let neighbours = (0..n).map(|i| others(i).filter(|&j| meet(i, j)).collect()).collect();
        let siblings =
            (0..n).map(|i| others(i).filter(|&j| ranges[i] == ranges[j]).collect()).collect();
        let mut live_units = vec![0; n_sections];
        for (range, size) in ranges.iter().zip(&sizes) {
            for units in &mut live_units[range.clone()] {
                *units += size;
            }
        }
        let mut all: Vec<usize> = (0..n).collect();
        all.sort_by_key(|&i| ranges[i].start);
        let runs = timeline::components(&all, &ranges);
        let parts = runs.into_iter().map(|run| all[run].to_vec()).collect();
        Self { sizes, ranges, neighbours, siblings, live_units, parts }
    }

    /// Number of buffers.
    pub(super) fn len(&self) -> usize {
        self.sizes.len()
    }

    /// The largest live sum of the sections in which `buffer` is live.
    pub(super) fn pressure(&self, buffer: usize) -> u64 {
        self.live_units[self.ranges[buffer].clone()].iter().copied().max().unwrap_or(0)
    }

    /// The largest live sum.
    pub(super) fn lower_bound(&self) -> u64 {
        self.live_units.iter().copied().max().unwrap_or(0)
    }
}
