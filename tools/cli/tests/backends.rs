//! One bundle on every backend of this build: the same tokens, wherever they leave.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn dynamax(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dynamax")).args(arguments).output().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = dynamax(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "dynamax {arguments:?}: {error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

const BACKENDS: &[&str] = if cfg!(feature = "ndarray") { &["flex", "ndarray"] } else { &["flex"] };

/// Compares what backends answer to `arguments` with the answer of the cpu.
fn compare(arguments: &[&str]) {
    let on = |backend| json(&[arguments, &["--json", "--backend", backend]].concat());
    let expected = on("cpu");
    assert_eq!(expected["backend"], "cpu", "{arguments:?}");
    for backend in BACKENDS {
        let found = on(backend);
        assert_eq!(found["backend"], **backend, "{arguments:?}");
        for field in ["tokens", "exits", "agreement", "planned_bytes"] {
            assert_eq!(found[field], expected[field], "{field} of {arguments:?} on {backend}");
        }
    }
}

#[test]
fn demos_say_the_same_at_full_depth_and_with_exits() {
    for demo in ["mamba2", "transformer"] {
        let run = ["run", "Once upon a time", "--demo", demo, "--ignore-eos"];
        compare(&[&run[..], &["-n", "256"]].concat());
        compare(&[&run[..], &["-n", "64", "--exit", "fixed", "--reveal"]].concat());
        for state in ["copy", "propagate", "skip"] {
            let exits = ["-n", "32", "--exit", "fixed", "--threshold", "0.9", "--state", state];
            compare(&[&run[..], &exits].concat());
        }
    }
}

#[test]
fn evaluation_finds_the_same() {
    let folder = TempDir::new().unwrap();
    let text = folder.path().join("text.txt");
    std::fs::write(&text, "It was the best of times, it was the worst of times. ".repeat(4))
        .unwrap();
    let eval = ["eval", "--demo", "transformer", "--task", "text", "--data"];
    let exits = ["--exit", "fixed", "--threshold", "0.8", "--json", "--backend"];
    let on = |backend| {
        let mut report = json(&[&eval[..], &[text.to_str().unwrap()], &exits, &[backend]].concat());
        for mode in report["modes"].as_array_mut().unwrap() {
            // What was timed is no one's answer.
            mode.as_object_mut().unwrap().retain(|field, _| {
                !["time_saved", "tokens_per_s", "energy_mj_per_token"].contains(&field.as_str())
            });
        }
        report["modes"].take()
    };
    let expected = on("cpu");
    assert!(expected.as_array().unwrap().len() > 1, "full depth, and with exits");
    for backend in BACKENDS {
        assert_eq!(on(backend), expected, "on {backend}");
    }
}

#[test]
fn every_architecture_says_the_same() {
    let folder = TempDir::new().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let mut checkpoints: Vec<PathBuf> =
        std::fs::read_dir(golden).unwrap().map(|entry| entry.unwrap().path()).collect();
    checkpoints.sort();
    assert!(checkpoints.len() >= 8, "all golden checkpoints");
    for (index, checkpoint) in checkpoints.iter().enumerate() {
        let bundle = folder.path().join(format!("{index}.dmx"));
        let (bundle, checkpoint) = (bundle.to_str().unwrap(), checkpoint.to_str().unwrap());
        let quant = ["q4", "q8", "f16", "f32"][index % 4];
        json(&["build", checkpoint, "-o", bundle, "--quant", quant, "--json"]);
        compare(&["run", bundle, "--tokens-in", "1,2,3,4,5", "-n", "40", "--ignore-eos"]);
    }
}

#[test]
fn a_backend_that_is_not_built_in_is_refused_or_falls_back() {
    let builds = [("ndarray", cfg!(feature = "ndarray")), ("wgpu", cfg!(feature = "wgpu"))];
    for (backend, _) in builds.into_iter().filter(|(_, is_built_in)| !is_built_in) {
        let output = dynamax(&["run", "a", "-n", "1", "--backend", backend]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(&format!("--features {backend}")), "{error}");

        let folder = TempDir::new().unwrap();
        let config = folder.path().join("device.toml");
        let text =
            format!("[device]\nbackend = {backend:?}\nfallback = true\n[exit]\nmode = \"off\"\n");
        std::fs::write(&config, text).unwrap();
        let run = ["run", "a", "-n", "1", "--json", "--config", config.to_str().unwrap()];
        assert_eq!(json(&run)["backend"], "cpu", "falls back");
        let error = String::from_utf8_lossy(&dynamax(&run).stderr).into_owned();
        assert!(error.contains("the cpu runs instead"), "{error}");
    }
}
