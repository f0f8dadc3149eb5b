//! How well a model answers, and what leaving early costs and saves.
//!
//! ```text
//! file ─ data ─▶ examples ─ evaluate(runner) ─▶ outcome ─ report ─▶ JSON, page
//!                             full depth, or one per mode
//! ```
//!
//! A [`runner::Runner`] answers prompts, and says where each token left. The same examples go through full depth first
//! and then through each mode; [`report::Report`] compares.

pub(crate) mod data;
pub(crate) mod example;
pub(crate) mod modes;
pub(crate) mod outcome;
pub(crate) mod page;
pub(crate) mod report;
pub(crate) mod runner;
mod score;

use anyhow::{Result, ensure};
use indicatif::ProgressBar;

use dynamax_session::Text;
use example::{Ask, Choice, Example, choose};
use outcome::{Answer, Outcome};
use runner::{Generation, Runner};

/// Asks everything, and scores the answers.
pub(crate) fn evaluate(
    examples: &[Example],
    text: &Text,
    runner: &mut dyn Runner,
    bar: &ProgressBar,
) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for example in examples {
        outcome.answers.push(ask(example, text, runner)?);
        bar.inc(1);
    }
    Ok(outcome)
}

fn ask(example: &Example, text: &Text, runner: &mut dyn Runner) -> Result<Answer> {
    match &example.ask {
        Ask::Answer { stop, most, gold } => {
            let (prompt, was_cut) = fit(text.encode(&example.prompt)?, *most, runner.context())?;
            let mut stops = |tokens: &[u32]| {
                let said = text.decode(tokens);
                stop.iter().any(|stop| said.trim_start().contains(stop))
            };
            let said = runner.generate(&prompt, *most, &mut stops)?;
            let answer = until(&text.decode(&said.tokens), stop);
            Ok(Answer { scores: gold.scores(&answer), said, was_cut })
        }
        Ask::Choose { choices } => ask_choices(&example.prompt, choices, text, runner),
        Ask::Continue { target } => {
            let (log_probability, said, target, was_cut) =
                score(&example.prompt, target, text, runner)?;
            let is_exact = f64::from(u8::from(said.tokens == target));
            let scores = vec![("exact", is_exact), ("nll", -log_probability)];
            Ok(Answer { scores, said, was_cut })
        }
    }
}

fn ask_choices(
    prompt: &str,
    choices: &[Choice],
    text: &Text,
    runner: &mut dyn Runner,
) -> Result<Answer> {
    let mut said = Generation::nothing();
    let (mut log_probabilities, mut was_cut) = (Vec::with_capacity(choices.len()), false);
    for choice in choices {
        let (log_probability, predicted, _, cut) = score(prompt, &choice.text, text, runner)?;
        log_probabilities.push(log_probability);
        was_cut |= cut;
        said.append(predicted);
    }
    Ok(Answer { scores: choose(choices, &log_probabilities), said, was_cut })
}

/// Scores `target` behind `prompt`: log-probability, predictions, the tokens of the target, whether the prompt was cut.
fn score(
    prompt: &str,
    target: &str,
    text: &Text,
    runner: &mut dyn Runner,
) -> Result<(f64, Generation, Vec<u32>, bool)> {
    let alone = text.encode(prompt)?;
    let mut whole = text.encode(&format!("{prompt}{target}"))?;
    // Where a piece spans the border, it is part of what is scored.
    let common = alone.iter().zip(&whole).take_while(|(a, b)| a == b).count();
    ensure!(common > 0 && common < whole.len(), "{target:?} has no tokens behind {prompt:?}");
    let target = whole.split_off(common);
    let (prompt, was_cut) = fit(whole, target.len(), runner.context())?;
    let scored = runner.score(&prompt, &target)?;
    Ok((scored.log_probability, scored.predicted, target, was_cut))
}

/// Cuts the beginning of a prompt that leaves no room for `answer` tokens; the first token stays, which may be the bos.
fn fit(mut prompt: Vec<u32>, answer: usize, context: usize) -> Result<(Vec<u32>, bool)> {
    // The last token of an answer is never fed.
    let room = (context + 1).saturating_sub(answer);
    ensure!(room > 1, "answers of {answer} tokens need a longer context than {context}: --context");
    let too_many = prompt.len().saturating_sub(room);
    prompt.drain(1..1 + too_many);
    Ok((prompt, too_many > 0))
}

/// The text before the first of `stop`, without space around it. Space before the answer may hold a stop.
fn until(text: &str, stop: &[&str]) -> String {
    let text = text.trim_start();
    let end = stop.iter().filter_map(|stop| text.find(stop)).min().unwrap_or(text.len());
    text[..end].trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_at_the_first_stop() {
        assert_eq!(until(" white.\nMore. Q: x", &["Q:", "\n"]), "white.", "the line");
        assert_eq!(until("\n\n white Q: x", &["\n", "Q:"]), "white", "an empty line before it");
        assert_eq!(until(" white ", &["\n"]), "white", "no stop");
    }

    #[test]
    fn a_long_prompt_loses_what_follows_its_first_token() {
        let (prompt, was_cut) = fit(vec![1, 2, 3, 4, 5, 6], 4, 6).unwrap();
        assert_eq!((prompt, was_cut), (vec![1, 5, 6], true), "three of prompt, four said, six fed");
        let (prompt, was_cut) = fit(vec![1, 2, 3], 4, 6).unwrap();
        assert_eq!((prompt, was_cut), (vec![1, 2, 3], false), "as it is");
        assert!(fit(vec![1], 6, 6).is_err(), "no room for a prompt");
    }
}
