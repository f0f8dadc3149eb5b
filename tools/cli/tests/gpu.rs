//! Bundles on a GPU, from the command line: the tokens of the cpu, wherever they leave.
//!
//! Any Vulkan driver will do, a software one too. Without any these tests say so and pass, unless `DYNAMAX_NEEDS_GPU` is
//! set: then they fail.
#![cfg(feature = "wgpu")]
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A place where no driver is.
const NOWHERE: &str = "/nowhere.json";

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dynamax"));
    command.args(arguments);
    command
}

fn json_of(output: &Output) -> Value {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    json_of(&command(arguments).output().unwrap())
}

fn is_there() -> bool {
    let output = command(&["run", "a", "-n", "1", "--backend", "wgpu"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let is_missing = error.contains("no GPU found");
    assert!(!is_missing || std::env::var_os("DYNAMAX_NEEDS_GPU").is_none(), "{error}");
    if is_missing {
        println!("not run: {error}");
    }
    !is_missing
}

/// What a demo says on the cpu and on the GPU.
fn both(demo: &str, more: &[&str]) -> [Value; 2] {
    let run = ["run", "Once upon a time", "--demo", demo, "--ignore-eos", "--json", "--backend"];
    let [cpu, gpu] = ["cpu", "wgpu"].map(|backend| json(&[&run[..], &[backend], more].concat()));
    assert_eq!((&cpu["backend"], &gpu["backend"]), (&"cpu".into(), &"wgpu".into()), "{more:?}");
    [cpu, gpu]
}

#[test]
fn demos_say_the_same_on_a_gpu_at_full_depth_and_with_exits() {
    if !is_there() {
        return;
    }
    for demo in ["mamba2", "transformer"] {
        let mut ways = vec![vec!["-n", "256"], vec!["-n", "64", "--exit", "fixed", "--reveal"]];
        // Of the transformer, some scores are as good as equal to this threshold, so that a last digit decides.
        let states: &[&str] = if demo == "mamba2" { &["copy", "propagate", "skip"] } else { &[] };
        for state in states {
            let fixed = ["-n", "32", "--exit", "fixed", "--threshold", "0.9", "--state", state];
            ways.push(fixed.to_vec());
        }
        for way in ways {
            let [cpu, gpu] = both(demo, &way);
            for field in ["tokens", "exits", "agreement"] {
                assert_eq!(gpu[field], cpu[field], "{field} of {demo} {way:?}");
            }
        }
        let [full, verified] = [["--exit", "off"], ["--exit", "verified"]]
            .map(|exit| both(demo, &[&["-n", "48"], &exit[..]].concat()));
        assert_eq!(verified[1]["tokens"], full[0]["tokens"], "{demo}: drafts are verified");
        // Where tokens leave under a budget depends on the time that they take.
        let [_, budget] = both(demo, &["-n", "32", "--latency", "10 s", "--meter", "model"]);
        assert_eq!(budget["tokens"].as_array().map(Vec::len), Some(32), "{budget}");
        assert!(budget["latency_ms_p50"].as_f64().unwrap() > 0.0, "{budget}");
    }
}

#[test]
fn the_plan_says_what_a_gpu_holds() {
    let plan = json(&["plan", "--backend", "wgpu", "--json"]);
    let bytes = |field: &str| plan["gpu"][field].as_u64().unwrap();
    let on_gpu = ["weights_bytes", "state_bytes", "arena_bytes", "traffic_bytes"].map(bytes);
    assert_eq!(bytes("gpu_bytes"), on_gpu.iter().sum::<u64>(), "{plan}");
    assert_eq!(bytes("cpu_bytes"), bytes("tables_bytes") + bytes("host_bytes"), "{plan}");
    let total = bytes("gpu_bytes") + bytes("cpu_bytes");
    assert_eq!(plan["total_bytes"], total, "a memory that both share holds all of it: {plan}");
    let limited = |limit: u64| {
        let plan = ["plan", "--backend", "wgpu", "--json", "--memory"];
        command(&[&plan[..], &[&limit.to_string()]].concat()).output().unwrap()
    };
    assert!(limited(total).status.success(), "it fits");
    let output = limited(total - 1);
    assert_eq!(output.status.code(), Some(1), "one byte is missing");
    assert!(String::from_utf8_lossy(&output.stderr).contains(": 1 are missing"), "and is told");
    if is_there() {
        let run = ["run", "a", "-n", "2", "--backend", "wgpu", "--json"];
        assert_eq!(json(&run)["planned_bytes"], total, "what runs is what was planned");
        let small = (total - 1).to_string();
        let output = command(&[&run[..], &["--memory", &small]].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "and does not run where that is too much");
    }
}

#[test]
fn without_a_gpu_a_sentence_says_so_or_the_cpu_runs() {
    let run = ["run", "a", "-n", "2", "--json"];
    let without = |more: &[&str]| {
        let mut command = command(&[&run[..], more].concat());
        command.env("VK_DRIVER_FILES", NOWHERE).env("VK_ICD_FILENAMES", NOWHERE);
        command.output().unwrap()
    };
    let output = without(&["--backend", "wgpu"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("no GPU found") && error.trim().lines().count() == 1, "{error}");

    let folder = TempDir::new().unwrap();
    let config = folder.path().join("device.toml");
    std::fs::write(
        &config,
        "[device]\nbackend = \"wgpu\"\nfallback = true\n[exit]\nmode = \"off\"\n",
    )
    .unwrap();
    let output = without(&["--config", config.to_str().unwrap()]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("the cpu runs instead"), "{error}");
    let said = json_of(&output);
    assert_eq!(said["backend"], "cpu", "falls back");
    assert_eq!(said["tokens"], json(&run)["tokens"], "and says what the cpu says");
}

#[test]
fn a_profile_of_a_gpu_measures_what_asking_an_exit_costs() {
    if !is_there() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("p.toml");
    let profile =
        ["profile", "--backend", "wgpu", "-n", "8", "--json", "-o", file.to_str().unwrap()];
    let report = json(&profile);
    let segments = report["segments"].as_array().unwrap();
    let (last, before) = segments.split_last().unwrap();
    let asked = |segment: &Value| segment["probe_us"].as_f64().unwrap();
    assert!(before.iter().all(|segment| asked(segment) > 0.0), "each exit is read back: {report}");
    assert!(asked(last).abs() < f64::EPSILON, "nothing is asked behind the last: {report}");
    assert!(report["full_us"].as_f64().unwrap() > 0.0, "{report}");
}
