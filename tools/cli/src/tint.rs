//! A colour for each depth: the earlier a token left, the stronger; full depth is plain.
//!
//! Depth is an order, so its colours are one: a single ramp of blues whose lightness falls steadily. It reads the same
//! with every kind of colour vision, and in grey.

/// Share of the ramp, 0 (plain) to 1 (strongest), of a token that left behind segment `exit` of `segments`.
pub(crate) fn strength(exit: u16, segments: usize) -> f64 {
    let last = segments.saturating_sub(1);
    if usize::from(exit) >= last { 0.0 } else { 1.0 - f64::from(exit) / last as f64 }
}

/// Colours of xterm's 256 that can be read on black and on white, from weak to strong.
const ANSI: [u8; 5] = [67, 68, 33, 32, 31];

/// `text` as a terminal shows a token that left behind segment `exit` of `segments`.
pub(crate) fn ansi(text: &str, exit: u16, segments: usize) -> String {
    let strength = strength(exit, segments);
    if strength <= 0.0 || text.is_empty() {
        return text.to_owned();
    }
    let index = (strength * ANSI.len() as f64).ceil() as usize;
    format!("\x1b[38;5;{}m{text}\x1b[39m", ANSI[index.clamp(1, ANSI.len()) - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_depth_is_plain() {
        assert_eq!(ansi("word", 3, 4), "word", "the last segment");
        assert_eq!(ansi("word", 0, 1), "word", "the only segment");
        assert_eq!(ansi("", 0, 4), "", "nothing to tint");
    }

    #[test]
    fn the_earliest_exit_is_the_strongest() {
        assert_eq!(ansi("word", 0, 4), "\x1b[38;5;31mword\x1b[39m", "strongest");
        let strengths = [0, 1, 2, 3].map(|exit| strength(exit, 4));
        assert!(strengths.windows(2).all(|pair| pair[0] > pair[1]), "{strengths:?}");
    }
}
