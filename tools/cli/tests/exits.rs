//! Exits from the command line: trained with a model, and for one that is there already.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn dynamax(folder: &Path, arguments: &str) -> Output {
    let arguments = arguments.split_whitespace();
    Command::new(env!("CARGO_BIN_EXE_dynamax"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap()
}

fn json(folder: &Path, arguments: &str) -> Value {
    let output = dynamax(folder, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "dynamax {arguments}: {error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(folder: &Path, words: &str, arguments: &str) {
    let output = dynamax(folder, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "dynamax {arguments}: {error}");
    assert!(error.contains(words), "dynamax {arguments} says {error:?}, not {words:?}");
}

const TOY: &str = "train --arch mamba2 --text text.txt --vocab-size 280 --d-model 32 --heads 4 --head-dim 16 \
                   --d-state 8 --layers 4 --seq-len 16 --batch 2 --json --out model";

/// A folder with a text.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    let text = "a quick brown fox jumps over the lazy dog and back. ".repeat(20);
    std::fs::write(folder.path().join("text.txt"), text).unwrap();
    folder
}

/// The layers that exits stand after.
fn places(exits: &Value) -> Vec<u64> {
    exits.as_array().unwrap().iter().map(|exit| exit["after_layer"].as_u64().unwrap()).collect()
}

#[test]
fn a_model_is_trained_with_exits_and_goes_on_with_them() {
    let folder = folder();
    let folder = folder.path();
    let report = json(folder, &format!("{TOY} --exits --steps 3"));
    assert_eq!(places(&report["exits"]["exits"]), [2, 3], "in the latter half");
    assert_eq!(report["is_complete"], true, "{report}");
    let stored = std::fs::read_to_string(folder.join("model/exits.json")).unwrap();
    let stored: Value = serde_json::from_str(&stored).unwrap();
    assert_eq!(places(&stored["exits"]), [2, 3], "beside the model");
    assert_eq!(stored["training"], report["exits"], "with how good they are");

    refused(folder, "another --exits", "train --out model --resume --steps 4 --exits 1");
    let report = json(folder, "train --out model --resume --steps 4 --json");
    assert_eq!(report["steps"], 4, "it went on");
    refused(folder, "1 to 3", &format!("{TOY}2 --exits 4 --steps 1"));
    refused(folder, "--exits", &format!("{TOY}2 --steps 1 --layer-dropout 0.1"));
}

#[test]
fn exits_are_trained_for_a_model_that_is_there() {
    let folder = folder();
    let folder = folder.path();
    json(folder, &format!("{TOY} --steps 3"));
    let short = "exits model --text text.txt --batch 2 --steps 3 --json";
    let train = &format!("{short} --seq-len 16");
    let report =
        json(folder, &format!("{train} --out exits --at 0.25,3 --classifier mamba --adapter 8"));
    assert_eq!(places(&report["exits"]), [1, 3], "a share and a number");
    for field in ["agreement", "auc", "calibration_error", "loss"] {
        assert!(report["exits"][0][field].is_f64(), "{field} in {report}");
    }
    let at = &report["exits"][0]["thresholds"][0];
    assert!(at["exit_rate"].is_f64() && at["agreement"].is_f64(), "{at}");

    refused(folder, "--resume", &format!("{train} --out exits"));
    refused(folder, "no training run", "exits --out nothing --resume");
    refused(folder, "1 to 3", &format!("{train} --out other --at 4"));
    refused(folder, "give a width", &format!("{train} --out other --adapter wide"));
    refused(folder, "tokens long", &format!("{short} --out other --seq-len 4000"));
    assert!(!folder.join("other").exists(), "a refusal leaves nothing behind");
    let report = json(folder, "exits --out exits --resume --steps 4 --json");
    assert_eq!((&report["steps"], &report["is_complete"]), (&4.into(), &true.into()), "it went on");
}
