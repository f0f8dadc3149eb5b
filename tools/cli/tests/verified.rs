//! Early exits as drafts, from the command line: faster where it pays, and the same tokens everywhere.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::process::{Command, Output};

use serde_json::Value;

fn dynamax(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dynamax")).args(arguments).output().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = dynamax(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "dynamax {arguments:?}: {error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a demo says behind a prompt.
fn said(demo: &str, prompt: &str, more: &[&str]) -> Value {
    let arguments = ["run", prompt, "--demo", demo, "-n", "120", "--ignore-eos", "--json"];
    json(&[&arguments, more].concat())
}

#[test]
fn verified_tokens_are_those_of_full_depth_greedy_or_drawn() {
    let ways: [&[&str]; 3] = [
        &[],
        &["--temperature", "0.8", "--top-p", "0.9", "--seed", "11"],
        &["--temperature", "1.1", "--repetition-penalty", "1.2", "--seed", "3"],
    ];
    let mut drafted = 0;
    for demo in ["mamba2", "transformer"] {
        for (index, prompt) in ["It was late", "The whale", "Chapter 12"].iter().enumerate() {
            let way = ways[index];
            let full = said(demo, prompt, &[&["--exit", "off"], way].concat());
            for most in ["1", "4", "16"] {
                let more = ["--exit", "verified", "--drafts", most];
                let found = said(demo, prompt, &[&more, way].concat());
                assert_eq!(found["tokens"], full["tokens"], "{demo} {prompt} {way:?} {most}");
                assert_eq!(found["agreement"], 1.0, "said by the last layer: {found}");
                drafted += u32::from(found["acceptance"].is_number());
            }
        }
    }
    assert!(drafted >= 12, "most of 18 runs tried drafts: {drafted}");
}

#[test]
fn a_bundle_without_exits_drafts_what_was_said_before() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("m.dmx");
    let checkpoint =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/qwen3-norms-llama3-rope");
    json(&["build", checkpoint, "-o", bundle.to_str().unwrap(), "--json"]);
    let run = |more: &[&str]| {
        let tokens = ["--tokens-in", "5,6,7,8,5,6,7,8,5,6", "-n", "100", "--ignore-eos", "--json"];
        json(&[&["run", bundle.to_str().unwrap()], &tokens[..], more].concat())
    };
    let full = run(&["--exit", "off"]);
    assert!(full["said_before"].is_null(), "nothing was drafted: {full}");
    // Where a busy machine makes rounds look slow nothing is drafted, so that it may take another run.
    let drafts = (0..10).find_map(|_| {
        let found = run(&["--exit", "verified"]);
        assert_eq!(found["tokens"], full["tokens"], "the same");
        found["said_before"].as_f64().zip(found["acceptance"].as_f64())
    });
    let (said_before, acceptance) = drafts.expect("small models repeat themselves");
    assert!(said_before > 0.99 && acceptance > 0.0, "no exit made a draft: {drafts:?}");
}

#[test]
fn staged_drafts_show_what_better_exits_would_bring() {
    let bench = ["bench", "-p", "16", "-n", "300", "-r", "1", "--threads", "1", "--json"];
    let accepted = |chance: &str| {
        let found = json(&[&bench[..], &["--exit", "verified", "--acceptance", chance]].concat());
        found["acceptance"].as_f64().unwrap_or(0.0)
    };
    assert!(accepted("1") > 0.99 && accepted("0") < 0.01, "as often right as was asked");
}

#[test]
fn a_bench_with_exits_says_what_they_gain() {
    let bench = ["bench", "-p", "16", "-n", "200", "-r", "1", "--threads", "1", "--json"];
    let found = |more: &[&str]| json(&[&bench[..], more].concat());
    let off = found(&[]);
    assert!(off["speedup"].is_null() && off["speedup_modelled"].is_null(), "no exits: {off}");
    let staged = |chance: &str| found(&["--exit", "verified", "--acceptance", chance]);
    let (good, bad) = (staged("1"), staged("0"));
    assert!(good["speedup"].as_f64() > Some(0.1), "measured: {good}");
    let modelled = |found: &Value| found["speedup_modelled"].as_f64().unwrap();
    assert!(modelled(&good) > 1.0 && modelled(&bad) < 1.0, "{good}\n{bad}");
    assert!(off["is_profiled"].is_null() && good["is_profiled"] == false, "{off}\n{good}");
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("demo.profile.toml");
    let profile = profile.to_str().unwrap();
    let made = dynamax(&["profile", "-n", "16", "--threads", "1", "-o", profile]);
    assert!(made.status.success(), "a profile of the demo");
    assert_eq!(found(&["--exit", "verified", "--profile", profile])["is_profiled"], true);
}

#[test]
fn what_does_not_belong_to_verified_exits_is_refused() {
    let refused = |arguments: &[&str], words: &str| {
        let output = dynamax(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(words), "{arguments:?}: {error}");
    };
    let run = ["run", "x", "--exit", "verified"];
    refused(&[&run[..], &["--threshold", "0.9"]].concat(), "chooses by itself");
    refused(&[&run[..], &["--rows", "1"]].concat(), "--rows of 2 or more");
    refused(&[&run[..], &["--drafts", "17"]].concat(), "1..=16");
    refused(&["bench", "--acceptance", "0.5"], "--exit verified");
    refused(&["bench", "--exit", "verified", "--acceptance", "2"], "from 0 to 1");
}
