//! TriviaQA (Joshi et al. 2017), closed book: the official JSON (`Data`), or one object a line with `golden_answers`.

use anyhow::{Result, ensure};
use serde::Deserialize;

use super::{filled, json_lines, list, rows};
use crate::eval::example::{Ask, Example, Gold};

/// Most tokens of an answer: a name.
const MOST: usize = 24;

/// A question of the official file.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Question {
    question: String,
    answer: Answer,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    normalized_aliases: Vec<String>,
    #[serde(default)]
    human_answers: Vec<String>,
}

/// A question of the lines.
#[derive(Deserialize)]
struct Line {
    question: String,
    golden_answers: Vec<String>,
}

const EXPECTED: &str = "TriviaQA's JSON: Data, a list of Question and Answer.NormalizedAliases";
const EXPECTED_LINES: &str = "one JSON object a line, with question and golden_answers";

pub(super) fn read(text: &str) -> Result<Vec<Example>> {
    if let Ok(value) = serde_json::from_str::<serde_json::Value>(text)
        && value.get("question").is_none()
    {
        return official(value);
    }
    let lines: Vec<Line> = rows(json_lines(text, EXPECTED_LINES)?, EXPECTED_LINES)?;
    let example = |(index, line): (usize, Line)| {
        example(index + 1, "golden_answers", &line.question, line.golden_answers)
    };
    lines.into_iter().enumerate().map(example).collect()
}

fn official(value: serde_json::Value) -> Result<Vec<Example>> {
    let questions: Vec<Question> = rows(list(value, "Data", EXPECTED)?, EXPECTED)?;
    let example = |(index, question): (usize, Question)| {
        let mut aliases = question.answer.normalized_aliases;
        aliases.extend(question.answer.human_answers);
        example(index + 1, "Answer.NormalizedAliases", &question.question, aliases)
    };
    questions.into_iter().enumerate().map(example).collect()
}

fn example(row: usize, field: &str, question: &str, aliases: Vec<String>) -> Result<Example> {
    filled(row, "question", question)?;
    ensure!(!aliases.is_empty(), "row {row}, field {field}: empty; expected at least one answer");
    let gold = Gold::Aliases(aliases);
    let ask = Ask::Answer { stop: &["\n", ".", ","], most: MOST, gold };
    Ok(Example { prompt: format!("Question: {}\nAnswer:", question.trim()), ask })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_give_the_same_example() {
        let official = r#"{"Data": [{"Question": "Who?", "QuestionId": "tc_2",
            "Answer": {"Value": "I", "Aliases": ["I", "Me"], "NormalizedAliases": ["i"], "HumanAnswers": ["me"]}}]}"#;
        let line = r#"{"id": "1", "question": "Who?", "golden_answers": ["i", "me"]}"#;
        let (official, line) = (read(official).unwrap(), read(line).unwrap());
        assert_eq!(official, line, "aliases, then what people said");
        assert_eq!(line[0].prompt, "Question: Who?\nAnswer:", "no documents");
    }

    #[test]
    fn many_lines_are_many_examples() {
        let line = "{\"question\": \"Who?\", \"golden_answers\": [\"i\"]}\n";
        assert_eq!(read(&line.repeat(3)).unwrap().len(), 3, "three lines");
    }
}
