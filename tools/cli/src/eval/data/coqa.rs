//! CoQA (Reddy et al. 2019): `coqa-dev-v1.0.json`. One example for each turn; earlier turns are told with their own
//! answers.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Result, ensure};
use serde::Deserialize;

use super::{filled, json, list, rows};
use crate::eval::example::{Ask, Example, Gold};

const EXPECTED: &str = "CoQA's JSON: data, a list of story, questions and answers";

/// Most tokens of an answer: CoQA's are a few words.
const MOST: usize = 32;

#[derive(Deserialize)]
struct Conversation {
    story: String,
    questions: Vec<Turn>,
    answers: Vec<Turn>,
    #[serde(default)]
    additional_answers: BTreeMap<String, Vec<Turn>>,
}

#[derive(Deserialize)]
struct Turn {
    input_text: String,
    turn_id: u32,
}

pub(super) fn read(text: &str) -> Result<Vec<Example>> {
    let values = list(json(text, EXPECTED)?, "data", EXPECTED)?;
    let mut examples = Vec::new();
    for (index, conversation) in rows(values, EXPECTED)?.iter().enumerate() {
        check(index + 1, conversation)?;
        turns(conversation, &mut examples)?;
    }
    Ok(examples)
}

/// Every list has a turn for each question, in the same order.
fn check(row: usize, conversation: &Conversation) -> Result<()> {
    filled(row, "story", &conversation.story)?;
    let questions = &conversation.questions;
    let more = &conversation.additional_answers;
    let additional = more.iter().map(|(key, turns)| (format!("additional_answers.{key}"), turns));
    for (field, turns) in
        std::iter::once(("answers".to_owned(), &conversation.answers)).chain(additional)
    {
        let (found, expected) = (turns.len(), questions.len());
        ensure!(
            found == expected,
            "row {row}, field {field}: {found} turns; expected {expected}, one for each question"
        );
        let differs = turns.iter().zip(questions).find(|(a, b)| a.turn_id != b.turn_id);
        if let Some((turn, question)) = differs {
            anyhow::bail!(
                "row {row}, field {field}: turn_id {}; expected {}, as in questions",
                turn.turn_id,
                question.turn_id
            );
        }
    }
    Ok(())
}

fn turns(conversation: &Conversation, examples: &mut Vec<Example>) -> Result<()> {
    let mut told = format!("{}\n\n", conversation.story);
    for (turn, question) in conversation.questions.iter().enumerate() {
        write!(told, "Q: {}\n\nA:", question.input_text)?;
        let answer = &conversation.answers[turn].input_text;
        let mut people = vec![answer.clone()];
        people.extend(
            conversation.additional_answers.values().map(|turns| turns[turn].input_text.clone()),
        );
        let ask = Ask::Answer { stop: &["\n", "Q:"], most: MOST, gold: Gold::People(people) };
        examples.push(Example { prompt: told.clone(), ask });
        write!(told, " {answer}\n\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"version": "1.0", "data": [{"story": "Cotton was white.",
        "questions": [{"input_text": "Who?", "turn_id": 1}, {"input_text": "Colour?", "turn_id": 2}],
        "answers": [{"input_text": "Cotton", "turn_id": 1}, {"input_text": "white", "turn_id": 2}],
        "additional_answers": {"0": [{"input_text": "a cat", "turn_id": 1}, {"input_text": "White", "turn_id": 2}]}}]}"#;

    #[test]
    fn each_turn_follows_the_conversation_so_far() {
        let examples = read(TEXT).unwrap();
        assert_eq!(examples[0].prompt, "Cotton was white.\n\nQ: Who?\n\nA:", "the first");
        assert_eq!(
            examples[1].prompt, "Cotton was white.\n\nQ: Who?\n\nA: Cotton\n\nQ: Colour?\n\nA:",
            "the second, behind the right answer"
        );
        let Ask::Answer { gold, .. } = &examples[1].ask else { panic!("an answer") };
        assert_eq!(gold, &Gold::People(vec!["white".into(), "White".into()]), "two people");
    }

    #[test]
    fn turns_out_of_step_are_refused() {
        let error = read(&TEXT.replace("\"White\", \"turn_id\": 2", "\"White\", \"turn_id\": 3"));
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("row 1, field additional_answers.0: turn_id 3"), "{error}");
        let error = read(&TEXT.replace(", {\"input_text\": \"white\", \"turn_id\": 2}", ""));
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("row 1, field answers: 1 turns; expected 2"), "{error}");
        let error = read(&TEXT.replace("\"input_text\": \"Who?\"", "\"input_text\": 1"));
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("row 1, field questions[0].input_text"), "{error}");
    }
}
