//! Where the text goes, and the line below it.

use std::io::{IsTerminal, Write};

use anyhow::Result;
use dynamax_session::TextStream;
use dynamax_session::generator::Token;

use crate::journal::Journal;
use crate::journal::line::Line;
use crate::tint::ansi;

/// Streams text to stdout.
pub(super) struct Out<'t> {
    stream: Option<TextStream<'t>>,
    /// Tokens are tinted by their depth, on a terminal.
    tints: bool,
    segments: usize,
    line: Option<Line>,
    /// Text that waits for the line's next look.
    waiting: String,
}

impl<'t> Out<'t> {
    /// Text, or silence; with a line below it, or none.
    pub(super) fn new(stream: Option<TextStream<'t>>, line: Option<Line>, segments: usize) -> Self {
        let tints = std::io::stdout().is_terminal();
        Self { stream, tints, segments, line, waiting: String::new() }
    }

    /// Shows a token. With a line, text is shown whenever the line is, so that a fast model does not make it flicker.
    pub(super) fn token(&mut self, token: &Token, journal: &Journal) -> Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let piece = stream.push(token.id);
        self.waiting += &match self.tints {
            true => ansi(&piece, token.segment, self.segments),
            false => piece,
        };
        match &mut self.line {
            Some(line) if !line.is_due() => Ok(()),
            Some(line) => {
                line.erase()?;
                write_out(&self.waiting)?;
                line.draw(&self.waiting, journal)?;
                self.waiting.clear();
                Ok(())
            }
            None => {
                write_out(&self.waiting)?;
                self.waiting.clear();
                Ok(())
            }
        }
    }

    /// Shows the rest.
    pub(super) fn end(&mut self) -> Result<()> {
        if let Some(line) = &mut self.line {
            line.erase()?;
        }
        if self.stream.is_some() {
            write_out(&format!("{}\n", std::mem::take(&mut self.waiting)))?;
        }
        Ok(())
    }
}

fn write_out(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}
