//! What was said, each token tinted by where it left.

use std::fmt::Write;

use dynamax_session::{Text, TextStream};

use super::depths::{colour, exit_name, legend};
use super::{escape, section};

/// A text as one mode said it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    /// The mode, in a few words.
    pub(crate) mode: String,
    /// The end of what it was asked.
    pub(crate) prompt: String,
    /// What it said.
    pub(crate) pieces: Vec<Piece>,
}

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Piece {
    /// What it adds to the text.
    pub(crate) text: String,
    /// The segment behind which it left.
    pub(crate) exit: u16,
}

/// Tokens as pieces of text, with where they left.
pub(crate) fn pieces(tokens: &[u32], exits: &[u16], text: &Text) -> Vec<Piece> {
    let mut stream = TextStream::new(text, &[]);
    let piece = |(token, exit): (&u32, &u16)| Piece { text: stream.push(*token), exit: *exit };
    tokens.iter().zip(exits).map(piece).collect()
}

/// The samples with a legend; nothing without samples.
pub(crate) fn said(samples: &[Sample], segments: usize) -> String {
    if samples.is_empty() {
        return String::new();
    }
    let mut html = legend(segments);
    for sample in samples {
        let _ = write!(
            html,
            "<div class=\"sample\">\n<h3>{}</h3>\n<p><span class=\"prompt\">{}</span>",
            escape(&sample.mode),
            escape(&sample.prompt)
        );
        for piece in &sample.pieces {
            html += &tinted(piece, segments);
        }
        html += "</p>\n</div>\n";
    }
    section("What was said", &html)
}

fn tinted(piece: &Piece, segments: usize) -> String {
    let exit = usize::from(piece.exit);
    let text = escape(&piece.text);
    if exit + 1 >= segments {
        return text;
    }
    format!(
        "<span class=\"token\" title=\"{}\" style=\"--tint:{}\">{text}</span>",
        exit_name(exit, segments),
        colour(exit, segments)
    )
}
