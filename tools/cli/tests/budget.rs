//! Budgets from the command line: what a token costs, measured, and what a run makes of it.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

fn dynamax(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dynamax"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap()
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = dynamax(folder, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "dynamax {arguments:?}: {error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a run of the demo tells, energy by the model.
fn ran(folder: &Path, more: &[&str]) -> Value {
    let mut arguments =
        vec!["run", "Once upon a time", "-n", "300", "--ignore-eos", "--json", "--threads", "1"];
    arguments.extend(["--meter", "model"]);
    arguments.extend(more);
    json(folder, &arguments)
}

#[test]
fn a_run_keeps_its_energy_and_says_how_it_knows() {
    let folder = TempDir::new().unwrap();
    // The model counts time too: of three runs, the one that the machine disturbed least.
    let full = |_| ran(folder.path(), &["--exit", "off"])["energy_mj_per_token"].as_f64().unwrap();
    let budget = 0.8 * (0..3).map(full).fold(f64::INFINITY, f64::min);
    let kept = ran(folder.path(), &["--energy", &format!("{budget} mJ")]);
    let energy = kept["energy_mj_per_token"].as_f64().unwrap();
    let events = kept["budget"]["events"].as_array().unwrap();
    let conflicts = ["energy out of reach", "agreement gives way"];
    let is_told = events.iter().any(|event| conflicts.iter().any(|told| event == told));
    assert!(energy <= budget || is_told, "{energy} of {budget} mJ, and not a word: {kept}");
    assert!(kept["depth_mean"].as_f64() < Some(1.0), "{kept}");
    assert_eq!(kept["energy_source"], "model", "never called measured: {kept}");
}

fn number(run: &Value, key: &str) -> f64 {
    run[key].as_f64().unwrap()
}

/// A run of the demo under a board's files, which goes on until it is interrupted.
fn start(folder: &Path, power: &str, more: &[&str]) -> Child {
    let device = format!("[budget]\nenergy_per_token = \"1 J\"\n[power]\n{power}");
    std::fs::write(folder.join("device.toml"), device).unwrap();
    let run = ["run", "Once", "-n", "2000000", "--context", "2000100", "--ignore-eos", "-t", "1"];
    let more = [&["--json", "--config", "device.toml", "--root", "board"], more].concat();
    Command::new(env!("CARGO_BIN_EXE_dynamax"))
        .current_dir(folder)
        .args(run)
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Presses Ctrl-C, and reads what the run came to.
fn interrupted(child: Child) -> Value {
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success(), "{id}");
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "a broken meter does not end a run: {error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn put(folder: &Path, path: &str, text: &str) {
    let path = folder.join("board").join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, format!("{text}\n")).unwrap();
}

fn wait(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

const SENSOR: &str = "sys/class/hwmon/hwmon1";

#[test]
fn a_sensor_that_talks_nonsense_and_freezes_is_modelled_meanwhile_and_called_so() {
    let folder = TempDir::new().unwrap();
    for (file, text) in [("name", "ina3221"), ("in1_label", "VDD_IN"), ("in1_input", "5000")] {
        put(folder.path(), &format!("{SENSOR}/{file}"), text);
    }
    let current = |text: &str| put(folder.path(), &format!("{SENSOR}/curr1_input"), text);
    current("960");
    let power = "meter = \"ina3221\"\nrail = \"VDD_IN\"\n";
    let child = start(folder.path(), power, &["--report", "run.html"]);
    wait(2000);
    current("none");
    wait(1000);
    current("970");
    // Ten seconds of the same answer, and two on which it is known.
    wait(12_500);
    let told = interrupted(child);
    assert_eq!(told["energy_source"], "ina3221", "of what was measured");
    assert!(number(&told, "energy_mj_per_token") > 0.0, "measured before, and between");
    let faults = told["meter_faults"].as_array().unwrap();
    let of = |words: &str| {
        let is_meant = |fault: &&Value| fault["fault"].as_str().unwrap().contains(words);
        faults.iter().find(is_meant).unwrap_or_else(|| panic!("{words:?} in {faults:?}"))
    };
    let (nonsense, frozen) = (of("answers what cannot be"), of("repeats itself"));
    for fault in [nonsense, frozen] {
        assert!(number(fault, "tokens") > 1.0, "{fault}");
        assert!(number(fault, "modelled_mj_per_token") > 0.0, "{fault}");
    }
    assert!(number(nonsense, "from") > 1.0, "it was whole before: {nonsense}");
    let tokens = told["tokens"].as_array().unwrap().len() as f64;
    let end = number(frozen, "from") + number(frozen, "tokens");
    assert!((end - tokens).abs() < 1.5, "frozen to the end: {frozen} of {tokens}");
    assert_eq!(told["budget"]["mode"], "blind", "{}", told["budget"]);
    let events = told["budget"]["events"].as_array().unwrap();
    for event in ["meter lost", "meter back"] {
        assert!(events.iter().any(|told| told == event), "{event}: {events:?}");
    }
    let page = std::fs::read_to_string(folder.path().join("run.html")).unwrap();
    for words in
        ["measured, ina3221; ", " tokens modelled", "Modelled from token ", "repeats itself"]
    {
        assert!(page.contains(words), "{words:?} in the page");
    }
}

const BATTERY: &str = "sys/class/power_supply/BAT0";

fn battery(folder: &Path) {
    for (file, text) in [("type", "Battery"), ("status", "Discharging"), ("power_now", "9000000")] {
        put(folder, &format!("{BATTERY}/{file}"), text);
    }
}

#[test]
fn a_sensor_that_disappears_is_modelled_from_then_on() {
    let folder = TempDir::new().unwrap();
    battery(folder.path());
    let child = start(folder.path(), "meter = \"battery\"\n", &["--report", "run.html"]);
    wait(2000);
    std::fs::remove_dir_all(folder.path().join("board").join(BATTERY)).unwrap();
    wait(1000);
    let told = interrupted(child);
    assert_eq!(told["energy_source"], "battery", "of what was measured");
    let faults = told["meter_faults"].as_array().unwrap();
    let last = faults.last().unwrap();
    assert!(last["fault"].as_str().unwrap().contains("does not answer"), "{faults:?}");
    assert!(number(last, "from") > 1.0 && number(last, "tokens") > 1.0, "{last}");
    assert_eq!(told["budget"]["mode"], "blind", "{}", told["budget"]);
}

#[test]
fn a_sensor_that_disappears_ends_a_run_that_is_told_to_stop() {
    let folder = TempDir::new().unwrap();
    battery(folder.path());
    let power = "meter = \"battery\"\non_meter_fault = \"stop\"\n";
    let child = start(folder.path(), power, &[]);
    wait(2000);
    std::fs::remove_dir_all(folder.path().join("board").join(BATTERY)).unwrap();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("on_meter_fault"), "{error}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["budget"]["mode"], "stopped", "what was made is told: {}", told["budget"]);
}

#[test]
fn a_profile_is_measured_and_used() {
    let folder = TempDir::new().unwrap();
    let measured = json(folder.path(), &["profile", "-o", "p.toml", "--json", "--threads", "1"]);
    let segments = measured["segments"].as_array().unwrap();
    assert_eq!(segments.len(), 5, "{measured}");
    let us: f64 = segments.iter().map(|segment| segment["us"].as_f64().unwrap()).sum();
    let (head, full) =
        (measured["head_us"].as_f64().unwrap(), measured["full_us"].as_f64().unwrap());
    assert!(segments.iter().all(|segment| segment["us"].as_f64() > Some(0.0)), "{measured}");
    assert!(us + head > 0.3 * full && us + head < 3.0 * full, "not the whole: {measured}");
    for segment in segments {
        let between = segment["us_95"].as_array().unwrap();
        let (low, high) = (between[0].as_f64().unwrap(), between[1].as_f64().unwrap());
        assert!(low <= high && high > 0.0, "{segment}");
    }
    assert_eq!(
        measured["contexts"],
        serde_json::json!([255]),
        "Mamba reads no context: {measured}"
    );
    let text = std::fs::read_to_string(folder.path().join("p.toml")).unwrap();
    assert!(text.contains("source = \"") && text.contains("[[segment]]"), "{text}");
    let kept = ran(folder.path(), &["--energy", "1 J", "--profile", "p.toml"]);
    assert_eq!(kept["budget"]["energy_mj_per_token"], 1000.0, "{kept}");
}

#[test]
fn a_profile_of_attention_reaches_as_far_as_the_context_and_knows_its_mode() {
    let folder = TempDir::new().unwrap();
    let mode = folder.path().join("board/var/lib/nvpmodel");
    std::fs::create_dir_all(&mode).unwrap();
    std::fs::write(mode.join("status"), "pmode:0001").unwrap();
    let profile =
        ["profile", "--demo", "transformer", "--context", "1100", "-o", "p.toml", "-n", "8"];
    let more = ["--threads", "1", "--json", "--root", "board"];
    let measured = json(folder.path(), &[&profile[..], &more].concat());
    assert_eq!(measured["contexts"], serde_json::json!([255, 511, 1023]), "{measured}");
    assert_eq!(measured["power_mode"], 1, "{measured}");
    for segment in measured["segments"].as_array().unwrap() {
        let us: Vec<f64> =
            segment["us_by_context"].as_array().unwrap().iter().flat_map(Value::as_f64).collect();
        assert!(us.len() == 8 && us.is_sorted(), "more context never costs less: {us:?}");
    }
}

#[test]
fn a_profile_that_is_none_or_another_bundles_is_refused() {
    let folder = TempDir::new().unwrap();
    let refused = |words: &str| {
        let arguments = ["run", "Once", "-n", "4", "--energy", "1 J", "--profile", "p.toml"];
        let output = dynamax(folder.path(), &arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(words), "says {error:?}, not {words:?}");
    };
    refused("p.toml");
    std::fs::write(folder.path().join("p.toml"), "board = 3").unwrap();
    refused("p.toml");
    json(folder.path(), &["profile", "--demo", "transformer", "-o", "p.toml", "--json", "-n", "8"]);
    refused("bundle");
}

#[test]
fn a_profile_beside_the_bundle_is_found_if_it_is_of_this_bundle_and_board() {
    let folder = TempDir::new().unwrap();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/mamba2.dmx");
    std::fs::copy(demo, folder.path().join("m.dmx")).unwrap();
    let told = |more: &[&str]| {
        let arguments = ["run", "m.dmx", "Once", "-n", "4", "--energy", "1 J", "--meter", "model"];
        let output = dynamax(folder.path(), &[&arguments[..], more].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let is_profiled = |more: &[&str]| told(more).1.contains("the profile");
    assert!(!is_profiled(&[]), "there is none: {:?}", told(&[]));
    let measured = json(folder.path(), &["profile", "m.dmx", "--json", "--threads", "1"]);
    let place = folder.path().join("m.profile.toml");
    assert_eq!(measured["output"], "m.profile.toml", "{measured}");
    assert!(is_profiled(&[]), "found: {:?}", told(&[]));
    assert!(!is_profiled(&["--board", "raspberry-pi-5-8gb"]), "this is another board");
    let profile = std::fs::read_to_string(&place).unwrap();
    let (hash, rest) = profile.split_once("bundle = \"").unwrap();
    let (_, rest) = rest.split_at(8);
    std::fs::write(&place, format!("{hash}bundle = \"00000000{rest}")).unwrap();
    assert!(!is_profiled(&[]), "of the bundle that was here before: {:?}", told(&[]));
    std::fs::write(&place, "board = 3").unwrap();
    let (status, said) = told(&[]);
    assert!(status == Some(2) && said.contains("m.profile.toml"), "broken: {said}");
}

#[test]
fn budgets_that_make_no_sense_are_refused_in_a_sentence() {
    let folder = TempDir::new().unwrap();
    let cases = [
        (["--energy", "-5 mJ"], "is negative"),
        (["--energy", "0 mJ"], "is zero"),
        (["--energy", "NaN mJ"], "does not begin with a number"),
        (["--energy", "5"], "a number without a unit"),
        (["--energy", "5 W"], "none of the units"),
        (["--latency", "-1 ms"], "is negative"),
        (["--latency", "0 ms"], "is zero"),
    ];
    for (flags, words) in cases {
        let output = dynamax(folder.path(), &[&["run", "Once", "-n", "4"], &flags[..]].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {error}");
        assert!(error.contains(words), "{flags:?} says {error:?}, not {words:?}");
    }
}

const DEVICE: &str = "[budget]\nenergy_per_token = \"1 J\"\n[power]\nmeter = \"model\"\n";

#[test]
fn a_page_shows_a_run_and_leaves_its_text_alone() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("device.toml"), DEVICE).unwrap();
    let run = |more: &[&str]| {
        let run = ["run", "Once", "-n", "30", "--ignore-eos", "--config", "device.toml"];
        dynamax(folder.path(), &[&run[..], more].concat())
    };
    let (plain, paged) = (run(&["--quiet"]), run(&["--report", "run.html"]));
    assert_eq!(plain.stdout, paged.stdout, "a joule is enough for full depth: the same text");
    assert!(plain.stderr.is_empty(), "{}", String::from_utf8_lossy(&plain.stderr));
    let summary = String::from_utf8_lossy(&paged.stderr);
    assert!(
        summary.contains("(model)") && !summary.contains('\x1b'),
        "no line in a pipe: {summary}"
    );
    let page = std::fs::read_to_string(folder.path().join("run.html")).unwrap();
    for words in ["mJ (modelled)", "budget 1000 mJ", "What was said", "29 tokens behind the first"]
    {
        assert!(page.contains(words), "{words:?} in the page");
    }
    let refused = run(&["--report", "no/such/folder.html"]);
    let error = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{error}");
    assert!(error.contains("no/such/folder.html") && error.contains("--report"), "{error}");
}

#[test]
fn a_terminal_shows_a_line_and_the_text_is_free_of_it() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("device.toml"), DEVICE).unwrap();
    // Long enough to be looked at more than once: the line is drawn 16 times a second.
    let command = format!(
        "{} run Once -n 4000 --context 5000 --ignore-eos -t 1 --config device.toml > text",
        env!("CARGO_BIN_EXE_dynamax")
    );
    let shown = Command::new("script")
        .current_dir(folder.path())
        .env("TERM", "xterm")
        .args(["-qec", &command, "/dev/null"])
        .output();
    let Ok(shown) = shown else {
        eprintln!("skipped: there is no `script` to make a terminal with");
        return;
    };
    let terminal = String::from_utf8_lossy(&shown.stdout);
    assert!(terminal.contains(" of 1000 mJ modelled · "), "{terminal}");
    assert!(terminal.matches("\r\x1b[K").count() > 0, "it is erased at the end: {terminal:?}");
    let text = std::fs::read_to_string(folder.path().join("text")).unwrap();
    assert!(text.len() > 4000 && !text.contains(['\x1b', '\r']), "the text alone: {text:?}");
}
