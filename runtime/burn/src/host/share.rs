//! Sharing one operator among the threads of the current pool: the bits do not depend on their number.

use std::ops::Range;

/// Bytes that one thread reads in less time than another takes to wake up.
const LEAST_BYTES: usize = 256 << 10;

/// Pieces that an operator which reads this many bytes is cut into.
pub(super) fn pieces(bytes: usize) -> usize {
    (bytes / LEAST_BYTES).clamp(1, rayon::current_num_threads())
}

/// Cuts `range` into pieces, and `parts`, which belong to all of it, along with them; then runs the pieces.
///
/// `split` cuts parts behind so many elements of the range.
pub(super) fn share<P: Send>(
    range: Range<usize>,
    pieces: usize,
    parts: P,
    split: &(impl Fn(P, usize) -> (P, P) + Sync),
    run: &(impl Fn(Range<usize>, P) + Sync),
) {
    if pieces < 2 || range.len() < 2 {
        return run(range, parts);
    }
    let left = pieces / 2;
    let middle = range.start + (range.len() * left).div_ceil(pieces).min(range.len() - 1);
    let (first, second) = split(parts, middle - range.start);
    rayon::join(
        || share(range.start..middle, left, first, split, run),
        || share(middle..range.end, pieces - left, second, split, run),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_run_once_with_its_part() {
        for (len, pieces) in [(1, 4), (2, 4), (7, 3), (16, 4), (5, 5)] {
            let mut parts = vec![0; len];
            share(
                0..len,
                pieces,
                &mut parts[..],
                &<[usize]>::split_at_mut,
                &|range: Range<usize>, parts: &mut [usize]| {
                    assert_eq!(range.len(), parts.len(), "{len} in {pieces}");
                    parts.iter_mut().zip(range).for_each(|(part, index)| *part += index + 1);
                },
            );
            assert_eq!(parts, (1..=len).collect::<Vec<_>>(), "{len} in {pieces}");
        }
    }
}
