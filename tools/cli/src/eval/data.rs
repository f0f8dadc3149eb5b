//! The official files of each task, turned into examples. A broken row is named, with its field.

mod coqa;
mod csv;
mod lambada;
mod triviaqa;
mod truthfulqa;

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::example::Example;

/// A task over examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Questions that people answer wrongly: generation from the CSV, multiple choice from the JSON.
    Truthfulqa,
    /// Questions in a conversation about a story.
    Coqa,
    /// Trivia, without the documents.
    Triviaqa,
    /// The last word of a passage.
    Lambada,
}

impl Task {
    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Truthfulqa => "truthfulqa",
            Self::Coqa => "coqa",
            Self::Triviaqa => "triviaqa",
            Self::Lambada => "lambada",
        }
    }
}

/// Reads the first `limit` examples of a file; every row is checked, whatever the limit.
pub(crate) fn read(task: Task, path: &Path, limit: usize) -> Result<Vec<Example>> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{shown}: cannot be read as text"))?;
    let text = text.trim_start_matches('\u{feff}');
    let examples = match task {
        Task::Truthfulqa => truthfulqa::read(text),
        Task::Coqa => coqa::read(text),
        Task::Triviaqa => triviaqa::read(text),
        Task::Lambada => lambada::read(text),
    };
    let mut examples = examples.with_context(|| shown.to_string())?;
    ensure!(!examples.is_empty(), "{shown}: no examples; give a file of the task {}", task.name());
    examples.truncate(limit);
    Ok(examples)
}

/// A whole JSON file, with what the file should have been.
fn json(text: &str, expected: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| anyhow!("no JSON: {error}; expected {expected}"))
}

/// One JSON object on each line that is not blank.
fn json_lines(text: &str, expected: &str) -> Result<Vec<Value>> {
    let lines = text.lines().filter(|line| !line.trim().is_empty()).enumerate();
    let parse = |(index, line)| {
        serde_json::from_str(line)
            .map_err(|error| anyhow!("row {}: no JSON: {error}; expected {expected}", index + 1))
    };
    lines.map(parse).collect()
}

/// Rows of one type. An error names the row, from 1, and the path of the field in it.
fn rows<T: DeserializeOwned>(values: Vec<Value>, expected: &str) -> Result<Vec<T>> {
    let row = |(index, value)| {
        serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            let field = if path == "." { String::new() } else { format!(", field {path}") };
            anyhow!("row {}{field}: {}; expected {expected}", index + 1, error.into_inner())
        })
    };
    values.into_iter().enumerate().map(row).collect()
}

/// The list in a field of an object.
fn list(value: Value, field: &str, expected: &str) -> Result<Vec<Value>> {
    match value {
        Value::Object(mut object) => match object.remove(field) {
            Some(Value::Array(list)) => Ok(list),
            Some(_) => bail!("the field {field} is no list; expected {expected}"),
            None => bail!("there is no field {field}; expected {expected}"),
        },
        _ => bail!("no object with a field {field}; expected {expected}"),
    }
}

/// Refuses a text field without text.
fn filled(row: usize, field: &str, text: &str) -> Result<()> {
    ensure!(!text.trim().is_empty(), "row {row}, field {field}: empty; expected text");
    Ok(())
}

#[cfg(test)]
mod official;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_row_is_named_with_its_field() {
        let said = |read: fn(&str) -> Result<Vec<Example>>, text: &str| {
            format!("{:#}", read(text).expect_err("broken"))
        };
        let error = said(lambada::read, "{\"text\": \"a b\"}\n{\"txt\": \"a b\"}\n");
        assert!(error.starts_with("row 2: missing field `text`"), "{error}");
        let error = said(lambada::read, "{\"text\": \"a b\"}\n{\"text\": 3}");
        assert!(error.starts_with("row 2, field text: invalid type: integer `3`"), "{error}");
        let error = said(lambada::read, "{\"text\": \"one\"}");
        assert!(error.starts_with("row 1, field text: \"one\" has no last word"), "{error}");
        let row = "{\"id\": \"1\", \"question\": \"Who?\", \"golden_answers\": []}";
        let error = said(triviaqa::read, row);
        assert!(error.starts_with("row 1, field golden_answers: empty"), "{error}");
        let error = said(truthfulqa::read, "Question,Correct Answers\nWho?,I\n");
        assert!(error.contains("no column \"Incorrect Answers\""), "{error}");
        let header = "Question,Correct Answers,Incorrect Answers\n";
        let error = said(truthfulqa::read, &format!("{header}Who?,I,you\nWhy?,,no\n"));
        assert!(error.starts_with("row 2, field Correct Answers: empty"), "{error}");
        let error = said(truthfulqa::read, &format!("{header}Who?,I\n"));
        assert!(error.contains("row 1: 2 fields; expected 3"), "{error}");
    }

    #[test]
    fn another_format_is_refused() {
        let said = |read: fn(&str) -> Result<Vec<Example>>, text: &str| {
            format!("{:#}", read(text).expect_err("another format"))
        };
        let error = said(coqa::read, "{\"version\": \"1.0\"}");
        assert!(error.starts_with("there is no field data; expected CoQA"), "{error}");
        let error = said(coqa::read, "plain text");
        assert!(error.starts_with("no JSON"), "{error}");
        let error = said(triviaqa::read, "{\"Data\": 3}");
        assert!(error.starts_with("the field Data is no list"), "{error}");
    }
}
