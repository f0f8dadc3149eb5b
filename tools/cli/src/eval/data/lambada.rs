//! LAMBADA (Paperno et al. 2016) in OpenAI's form: one object a line with `text`, whose last word is asked for.

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{json_lines, rows};
use crate::eval::example::{Ask, Example};

#[derive(Deserialize)]
struct Passage {
    text: String,
}

const EXPECTED: &str = "one JSON object a line, with text";

pub(super) fn read(text: &str) -> Result<Vec<Example>> {
    let passages: Vec<Passage> = rows(json_lines(text, EXPECTED)?, EXPECTED)?;
    let example = |(index, passage): (usize, Passage)| {
        let halves = passage.text.rsplit_once(' ');
        let (before, word) =
            halves.filter(|(before, word)| !before.trim().is_empty() && !word.is_empty()).with_context(
                || {
                    let (row, text) = (index + 1, &passage.text);
                    format!("row {row}, field text: {text:?} has no last word behind others; expected a passage")
                },
            )?;
        Ok(Example { prompt: before.into(), ask: Ask::Continue { target: format!(" {word}") } })
    };
    passages.into_iter().enumerate().map(example).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_asked_for() {
        let examples = read("{\"text\": \"I don't care about signs\"}\n\n").unwrap();
        let target = " signs".to_owned();
        let expected =
            Example { prompt: "I don't care about".into(), ask: Ask::Continue { target } };
        assert_eq!(examples, [expected], "with the space before it");
    }
}
