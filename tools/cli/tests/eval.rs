//! `dynamax eval`, used as its user would: every task over a few examples, JSON, the page, and broken files.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const LAMBADA: &str = "{\"text\": \"The king gave the princess a ring of gold\"}\n";
const TRIVIAQA: &str =
    "{\"question\": \"Who wrote Moby Dick?\", \"golden_answers\": [\"Melville\"]}\n";
const COQA: &str = r#"{"data": [{"story": "Cotton was white.",
    "questions": [{"input_text": "Who?", "turn_id": 1}, {"input_text": "Colour?", "turn_id": 2}],
    "answers": [{"input_text": "Cotton", "turn_id": 1}, {"input_text": "white", "turn_id": 2}]}]}"#;
const TRUTHFULQA: &str =
    "\u{feff}Question,Correct Answers,Incorrect Answers\nWho?,\"I, myself; me\",You\n";
const CHOICES: &str = r#"[{"question": "Who?", "mc1_targets": {"I": 1, "You": 0},
    "mc2_targets": {"I": 1, "me": 1, "You": 0}}]"#;

/// A file in a folder of its own.
fn file(text: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("data");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn eval(task: &str, text: &str, more: &[&str]) -> Output {
    let (_folder, path) = file(text);
    let mut command = Command::new(env!("CARGO_BIN_EXE_dynamax"));
    command.args(["eval", "--task", task, "--data", path.to_str().unwrap()]).args(more);
    command.output().unwrap()
}

fn json(task: &str, text: &str) -> Value {
    let output = eval(task, text, &["--json"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{task}: {error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_task_reports_full_depth() {
    for (task, text, n, accuracy_is) in [
        ("lambada", LAMBADA, 1, "exact"),
        ("triviaqa", TRIVIAQA, 1, "exact"),
        ("coqa", COQA, 2, "f1"),
        ("truthfulqa", TRUTHFULQA, 1, "bleu_acc"),
        ("truthfulqa", CHOICES, 1, "mc1"),
        ("text", "The king gave the princess a ring of gold.", 0, "exact"),
    ] {
        let report = json(task, text);
        assert_eq!(report["task"], task, "{report}");
        assert!(n == 0 || report["n"] == n, "{report}");
        assert_eq!(report["accuracy_is"], accuracy_is, "{report}");
        let mode = &report["modes"][0];
        assert_eq!(mode["exit"], "off", "{report}");
        assert_eq!(mode["agreement"], 1.0, "{report}");
        assert_eq!(mode["bytes_saved"], 0.0, "{report}");
        assert_eq!(mode["accuracy"], mode["accuracy_full"], "{report}");
        assert_eq!(mode["accuracy"], mode["scores"][accuracy_is], "{report}");
        assert!(
            mode["tokens_per_exit"]
                .as_array()
                .and_then(|exits| exits.last())
                .and_then(Value::as_u64)
                > Some(0),
            "{report}"
        );
        assert_eq!(
            report["conditions"]["bundle_hash"].as_str().map(str::len),
            Some(64),
            "{report}"
        );
    }
}

#[test]
fn a_second_run_says_the_same() {
    let [mut one, mut two] = [json("coqa", COQA), json("coqa", COQA)];
    for report in [&mut one, &mut two] {
        // Time, what it costs, and the folder differ.
        report["modes"][0]["tokens_per_s"] = Value::Null;
        report["modes"][0]["energy_mj_per_token"] = Value::Null;
        report["conditions"]["data"] = Value::Null;
    }
    assert_eq!(one, two, "every score and token");
}

#[test]
fn text_still_tells_its_perplexity() {
    let report = json("text", "The king gave the princess a ring of gold.");
    let (nll, perplexity) =
        (report["nll_per_token"].as_f64().unwrap(), report["perplexity"].as_f64().unwrap());
    assert!((nll.exp() - perplexity).abs() < 1e-9 * perplexity, "{report}");
    assert!(report["window"].is_u64() && report["isa"].is_string(), "{report}");
}

#[test]
fn a_limit_takes_the_first() {
    let output = eval("coqa", COQA, &["--limit", "1", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["n"], 1, "{report}");
}

#[test]
fn a_page_is_written_where_it_was_asked() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("new/report");
    let output = eval("triviaqa", TRIVIAQA, &["--report", out.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let page = std::fs::read_to_string(out.join("index.html")).unwrap();
    assert!(page.contains("Who wrote Moby Dick?"), "the question is on the page");
}

#[test]
fn broken_files_are_refused_with_row_and_field() {
    for (task, text, words) in [
        ("lambada", "{\"text\": \"a b\"}\n{\"text\": 3}", "row 2, field text"),
        ("triviaqa", "{\"question\": \"Who?\"}", "row 1: missing field `golden_answers`"),
        ("coqa", LAMBADA, "there is no field data"),
        (
            "truthfulqa",
            "Question,Correct Answers,Incorrect Answers\nWho?,,You\n",
            "row 1, field Correct",
        ),
        ("truthfulqa", LAMBADA, "no examples"),
        ("lambada", "", "no examples"),
    ] {
        let output = eval(task, text, &[]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{task}: {error}");
        assert!(error.contains(words), "{task} says {error:?}, not {words:?}");
    }
}
