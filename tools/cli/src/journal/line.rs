//! The line that stands below the text while it is spoken.
//!
//! ```text
//! 1.92 of 2.00 mJ modelled · 3.10 of 5.00 ms · depth 62 % · agree 98.4 of 98 % · keeping · 43 tokens
//! ```
//!
//! It is drawn on stderr alone, so that stdout carries the text and nothing else. Where both are one terminal, it is erased before
//! text follows: it stands in the row below the text's end, and goes with "erase to the end of the screen".

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::{Journal, figure};

/// Time between two looks of the line.
const PACE: Duration = Duration::from_millis(60);

/// The line, on a terminal.
#[derive(Debug)]
pub(crate) struct Line {
    place: Place,
    is_shown: bool,
    last: Instant,
}

/// Where the line stands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// In the row below the text, which goes to the same terminal; and how far the text's last row has come.
    Below { column: usize },
    /// Alone: the text goes elsewhere.
    Alone,
}

impl Line {
    /// A line, if stderr is a terminal that can show one.
    pub(crate) fn on_terminal() -> Option<Self> {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if is_dumb || !std::io::stderr().is_terminal() {
            return None;
        }
        let is_one = std::io::stdout().is_terminal();
        let place = if is_one { Place::Below { column: 0 } } else { Place::Alone };
        Some(Self { place, is_shown: false, last: Instant::now() })
    }

    /// Whether it is time to show something new.
    pub(crate) fn is_due(&self) -> bool {
        self.last.elapsed() >= PACE
    }

    /// Makes room for text.
    pub(crate) fn erase(&mut self) -> std::io::Result<()> {
        if !std::mem::take(&mut self.is_shown) {
            return Ok(());
        }
        let code = if self.place == Place::Alone { "\r\x1b[K" } else { "\x1b[J" };
        write_err(code)
    }

    /// Draws what the journal says, below `text`, which was written since the last time.
    pub(crate) fn draw(&mut self, text: &str, journal: &Journal) -> std::io::Result<()> {
        self.last = Instant::now();
        let width = usize::from(console::Term::stderr().size().1);
        let line =
            console::truncate_str(&words(journal), width.saturating_sub(1), "…").into_owned();
        let drawn = match &mut self.place {
            Place::Alone => format!("\r{line}\x1b[K"),
            Place::Below { column } => {
                *column = advance(*column, text, width);
                if *column >= width {
                    // The cursor hangs behind the last column, where no two terminals agree what a move does.
                    return Ok(());
                }
                // Down and up again, so that there is a row below; there, the line; and back to where the text ends.
                format!("\x1bD\x1bM\x1b7\r\x1b[B{line}\x1b[K\x1b8")
            }
        };
        self.is_shown = true;
        write_err(&drawn)
    }
}

fn write_err(text: &str) -> std::io::Result<()> {
    let mut err = std::io::stderr().lock();
    err.write_all(text.as_bytes())?;
    err.flush()
}

/// The column behind `text` that starts at `column`, on a terminal that wraps at `width`.
fn advance(column: usize, text: &str, width: usize) -> usize {
    let plain = console::strip_ansi_codes(text);
    plain.chars().fold(column, |column, c| match c {
        '\n' | '\r' => 0,
        '\t' => (column / 8 * 8 + 8).min(width.saturating_sub(1)),
        _ => {
            let wide = console::measure_text_width(c.encode_utf8(&mut [0; 4]));
            if column + wide > width { wide } else { column + wide }
        }
    })
}

/// What is said: numbers beside what was asked for, in yellow where it is exceeded.
fn words(journal: &Journal) -> String {
    let (asked, Some(newest)) = (&journal.asked, journal.entries.last()) else {
        return String::new();
    };
    let energy = match newest.window_mj {
        Some(mj) => {
            format!("{} {}", against(mj, asked.energy_mj, "mJ", 1.005), journal.newest_label())
        }
        None => "energy unknown".to_owned(),
    };
    let mut parts = vec![energy, against(newest.step_ms, asked.latency_ms, "ms", 1.0)];
    let window = journal.last();
    let depth = window.iter().map(|entry| entry.depth).sum::<f64>() / window.len() as f64;
    parts.push(format!("depth {:.0} %", depth * 100.0));
    parts.push(match (newest.agreement, asked.min_agreement) {
        (Some(share), Some(floor)) => {
            format!("agree {:.1} of {:.0} %", share * 100.0, floor * 100.0)
        }
        (Some(share), None) => format!("agree {:.1} %", share * 100.0),
        (None, _) => "agree –".to_owned(),
    });
    parts.extend(newest.mode.map(|mode| format!("{mode:?}").to_lowercase()));
    parts.push(format!("{} tokens", journal.entries.len()));
    format!("\x1b[2m{}\x1b[0m", parts.join(" · "))
}

/// A number beside its limit; yellow if it is more than `most` times that.
fn against(value: f64, limit: Option<f64>, unit: &str, most: f64) -> String {
    match limit {
        None => format!("{} {unit}", figure(value)),
        Some(limit) if value <= limit * most => {
            format!("{} of {} {unit}", figure(value), figure(limit))
        }
        Some(limit) => {
            format!("\x1b[0;33m{}\x1b[0;2m of {} {unit}", figure(value), figure(limit))
        }
    }
}

#[cfg(test)]
mod tests {
    use dynamax_governor::meter::Source;

    use super::super::tests::{journal, token};
    use super::*;

    #[test]
    fn the_line_says_what_was_asked_and_what_came() {
        let mut journal = journal(Source::Model);
        journal.push(&token(3.1, 1.5, true));
        journal.push(&token(4.0, 2.0, false));
        let said = console::strip_ansi_codes(&words(&journal)).into_owned();
        assert_eq!(
            said,
            "1.75 of 2.00 mJ modelled · 4.00 of 5.00 ms · depth 62 % · agree 75.0 of 70 % · keeping · 2 tokens"
        );
    }

    #[test]
    fn what_is_exceeded_is_yellow() {
        let mut journal = journal(Source::Ina3221);
        journal.push(&token(6.0, 1.9, false));
        let said = words(&journal);
        assert!(said.contains("\x1b[0;33m6.00\x1b[0;2m of 5.00 ms"), "{said:?}");
        assert_eq!(said.matches("\x1b[0;33m").count(), 1, "the energy is kept: {said:?}");
    }

    #[test]
    fn columns_wrap_where_the_terminal_does() {
        assert_eq!(advance(0, "abc", 10), 3);
        assert_eq!(advance(8, "ab", 10), 10, "full: the cursor hangs behind it");
        assert_eq!(advance(8, "abc", 10), 1, "the next row");
        assert_eq!(advance(8, "a\nbc", 10), 2, "a row of its own");
        assert_eq!(advance(9, "語", 10), 2, "a wide one does not fit");
        assert_eq!(advance(0, "\x1b[38;5;31mword\x1b[39m", 10), 4, "colours take no room");
    }
}
