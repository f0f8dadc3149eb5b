//! Pictures of a plan: time from left to right, addresses from bottom to top.
//!
//! [`text_picture`] is for a terminal and for tests, [`svg_picture`] for a report. Both depend on nothing but their
//! arguments, so a picture can be checked in and compared. They draw what they are given, also a plan that is none.

mod svg;
mod text;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

pub use svg::svg_picture;
pub use text::text_picture;

use crate::Buffer;

/// Bytes as a person reads them: `"1.5 KiB"`, and as they are where nothing is lost: `"96 B"`.
fn readable(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // In tenths, rounded to the nearest; u128 has room for all of it.
    let mut tenths = u128::from(bytes) * 10;
    let mut name = "B";
    for unit in UNITS {
        if tenths < 10_240 {
            break;
        }
        tenths = (tenths + 512) / 1024;
        name = unit;
    }
    if tenths % 10 == 0 {
        format!("{} {name}", tenths / 10)
    } else {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    }
}

/// `part` of `whole` in per cent, with one decimal.
fn percent(part: u64, whole: u64) -> String {
    let tenths = (u128::from(part) * 1000 + u128::from(whole) / 2)
        .checked_div(u128::from(whole))
        .unwrap_or(0);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// The line above a picture: what the arena is, and what it could be at best.
fn title(buffers: &[Buffer], arena_bytes: u64) -> String {
    let bound = crate::lower_bound(buffers);
    let (arena, least) = (readable(arena_bytes), readable(bound));
    let verdict = if arena_bytes == bound {
        String::from("no arena is smaller")
    } else {
        format!("{} over the bound", percent(arena_bytes.saturating_sub(bound), bound))
    };
    format!("{} buffers in {arena}, lower bound {least}: {verdict}", buffers.len())
}

/// The first and the last step in which something is live, as a half-open range; `(0, 1)` if there is none.
fn time_range(buffers: &[Buffer]) -> (u32, u32) {
    let live: Vec<&Buffer> = buffers.iter().filter(|buffer| buffer.is_ever_live()).collect();
    let lower = live.iter().map(|buffer| buffer.lower).min().unwrap_or(0);
    let upper = live.iter().map(|buffer| buffer.upper).max().unwrap_or(1);
    (lower, upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_as_a_person_says_them() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (1 << 20, "1 MiB")]
        {
            assert_eq!(readable(bytes), text, "{bytes}");
        }
        assert_eq!(readable(u64::MAX), "16 EiB", "the largest");
        assert_eq!(percent(1, 3), "33.3 %", "a third");
        assert_eq!(percent(1, 0), "0.0 %", "of nothing");
    }
}
