//! The picture for a terminal.

use alloc::format;
use alloc::string::String;
use alloc::vec;

use super::{readable, time_range, title};
use crate::Buffer;

/// Names of buffers, in the order of their indices; from the 63rd on they repeat.
const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// Width of the address in front of a row.
const MARGIN: usize = 10;
/// Rows of the picture.
const ROWS: usize = 24;

/// Draws the plan with letters, in lines of at most `columns` characters (at least 20).
///
/// A row is a band of addresses, the lowest at the bottom; a column is some steps. The letter is that of the buffer
/// that covers most of the cell's middle: `A` is buffer 0, `B` buffer 1, after `9` follows `A` again; `·` is free, and
/// `#` is covered twice, which no plan may.
///
/// # Panics
///
/// Panics if there is not one offset for each buffer.
#[must_use]
pub fn text_picture(
    buffers: &[Buffer],
    offsets: &[u64],
    arena_bytes: u64,
    columns: usize,
) -> String {
    assert_eq!(buffers.len(), offsets.len(), "one offset for each buffer");
    let (lower, upper) = time_range(buffers);
    let steps = u64::from(upper.saturating_sub(lower));
    let room = columns.max(20) - MARGIN - 2;
    // A step is drawn several columns wide when there is room, or several steps share one.
    let width = usize::try_from(steps)
        .map_or(room, |steps| (room / steps.max(1)).clamp(1, 4) * steps)
        .min(room);
    let mut cells = vec![vec!['·'; width]; ROWS];
    for (index, (buffer, &offset)) in buffers.iter().zip(offsets).enumerate() {
        let letter = char::from(LETTERS[index % LETTERS.len()]);
        let rows = middles(offset, offset.saturating_add(buffer.size), arena_bytes, ROWS);
        let from = u64::from(buffer.lower.saturating_sub(lower));
        let to = u64::from(buffer.upper.saturating_sub(lower));
        let span = middles(from, to, steps, width);
        for row in rows.filter(|_| buffer.is_ever_live()) {
            for cell in &mut cells[row][span.clone()] {
                *cell = if *cell == '·' { letter } else { '#' };
            }
        }
    }
    let mut text = format!("{}\n", title(buffers, arena_bytes));
    for (row, cells) in cells.iter().enumerate().rev() {
        let line: String = cells.iter().collect();
        text += &format!("{:>MARGIN$} ┤{line}\n", address(row, arena_bytes));
    }
    let last = format!("step {}", upper.saturating_sub(1));
    let first = format!("step {lower}");
    let gap = (width + 1).saturating_sub(first.len() + last.len()).max(1);
    text += &format!(
        "{:>MARGIN$} └{}\n{:>MARGIN$} {first}{}{last}\n",
        "",
        "─".repeat(width),
        "",
        " ".repeat(gap)
    );
    text
}

/// The cells, of `n` that divide `whole` equally, whose middle lies in `from..to`.
fn middles(from: u64, to: u64, whole: u64, n: usize) -> core::ops::Range<usize> {
    // Cell i has its middle at (2i + 1) · whole / 2n, so the first one at or behind x is ⌈(2n·x − whole) / 2·whole⌉.
    let first_from = |x: u64| {
        let doubled =
            (2 * n as u128).saturating_mul(u128::from(x)).saturating_sub(u128::from(whole));
        let cell = doubled.div_ceil((2 * u128::from(whole)).max(1));
        usize::try_from(cell).map_or(n, |cell| cell.min(n))
    };
    let end = first_from(to);
    first_from(from).min(end)..end
}

/// The address at the lower edge of a row; every sixth row has one.
fn address(row: usize, arena_bytes: u64) -> String {
    let is_labelled = row.is_multiple_of(6);
    let bytes = u128::from(arena_bytes) * row as u128 / ROWS as u128;
    if is_labelled { readable(u64::try_from(bytes).unwrap_or(u64::MAX)) } else { String::new() }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    const PLAN: [Buffer; 3] = [
        Buffer { lower: 0, upper: 2, size: 12 },
        Buffer { lower: 1, upper: 4, size: 12 },
        Buffer { lower: 2, upper: 4, size: 12 },
    ];

    #[test]
    fn picture_shows_each_buffer_where_and_when_it_lives() {
        let text = text_picture(&PLAN, &[0, 12, 0], 24, 28);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "3 buffers in 24 B, lower bound 24 B: no arena is smaller", "title");
        assert_eq!(lines[1], "           ┤····BBBBBBBBBBBB", "top row");
        assert_eq!(lines[24], "       0 B ┤AAAAAAAACCCCCCCC", "bottom row");
    }

    #[test]
    fn picture_shows_a_collision() {
        let text = text_picture(&PLAN, &[0, 0, 12], 24, 28);
        assert!(text.contains("AAAA####BBBBBBBB"), "{text}");
    }

    #[test]
    fn picture_of_nothing_is_a_picture() {
        assert!(text_picture(&[], &[], 0, 0).starts_with("0 buffers in 0 B"), "title");
    }
}
