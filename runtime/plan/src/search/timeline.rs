//! Time, reduced to what matters: the steps in which some set of live buffers is largest.

use alloc::vec::Vec;
use core::ops::Range;

use crate::Buffer;

/// The sections in which each of `buffers` is live.
///
/// A section stands for a step whose live set is part of no other step's. Two buffers meet in time exactly if they
/// share a section, and every limit that a step sets is set by a section too, so the search knows no other time. All
/// of `buffers` must be ever live; then no range is empty. Returns the ranges, and the number of sections.
pub(super) fn sections(buffers: &[Buffer]) -> (Vec<Range<usize>>, usize) {
    let mut starts: Vec<u32> = buffers.iter().map(|buffer| buffer.lower).collect();
    let mut ends: Vec<u32> = buffers.iter().map(|buffer| buffer.upper).collect();
    for points in [&mut starts, &mut ends] {
        points.sort_unstable();
        points.dedup();
    }
    // The live set of a start is contained in that of the next one, unless a buffer ends in between.
    let is_largest = |index: usize| {
        let next_end = ends[ends.partition_point(|&end| end <= starts[index])];
        starts.get(index + 1).is_none_or(|&next_start| next_end <= next_start)
    };
    let steps: Vec<u32> =
        (0..starts.len()).filter(|&index| is_largest(index)).map(|index| starts[index]).collect();
    let first_from = |step: u32| steps.partition_point(|&section| section < step);
    let ranges = buffers.iter().map(|buffer| first_from(buffer.lower)..first_from(buffer.upper));
    (ranges.collect(), steps.len())
}

/// Cuts `items`, sorted by the start of their ranges, into runs that share no section with one another.
pub(super) fn components(items: &[usize], ranges: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let (mut first, mut reach) = (0, 0);
    for (index, &item) in items.iter().enumerate() {
        if index > first && ranges[item].start >= reach {
            runs.push(first..index);
            first = index;
        }
        reach = reach.max(ranges[item].end);
    }
    if first < items.len() {
        runs.push(first..items.len());
    }
    runs
}
