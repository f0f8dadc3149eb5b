//! The command line, used as its user would: exit status, JSON, sentences, and files left behind.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn dynamax(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dynamax")).args(arguments).output().unwrap()
}

/// The JSON that a command prints, which must succeed.
fn json(arguments: &[&str]) -> Value {
    let output = dynamax(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "dynamax {arguments:?}: {error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A command that must fail with a status, and a sentence that holds `words`.
fn refused(status: i32, words: &str, arguments: &[&str]) {
    let output = dynamax(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "dynamax {arguments:?}: {error}");
    assert!(error.contains(words), "dynamax {arguments:?} says {error:?}, not {words:?}");
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A bundle of a small checkpoint in a folder of its own.
fn built(quant: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let bundle = folder.path().join("m.dmx");
    let checkpoint = golden("mistral-gqa-swa");
    json(&["build", text(&checkpoint), "-o", text(&bundle), "--quant", quant, "--json"]);
    (folder, bundle)
}

/// Where nobody says how long the prompt is.
#[test]
fn a_bench_takes_the_prompt_that_its_context_leaves() {
    let (_folder, bundle) = built("q8");
    let bench = ["bench", text(&bundle), "-n", "8", "-r", "1", "--threads", "1", "--json"];
    assert!(json(&bench)["decode_tok_s"].as_f64() > Some(0.0), "a context shorter than 520");
    assert!(json(&[&bench[..], &["--context", "16"]].concat())["prefill_tok_s"].is_f64(), "16");
    refused(2, "context", &[&bench[..], &["--context", "16", "-p", "9"]].concat());
}

#[test]
fn the_demo_speaks() {
    for demo in ["mamba2", "transformer"] {
        let said = json(&[
            "run",
            "Once upon a time",
            "--demo",
            demo,
            "-n",
            "20",
            "--ignore-eos",
            "--json",
        ]);
        assert_eq!(said["tokens"].as_array().map(Vec::len), Some(20), "{demo}: {said}");
        assert!(said["text"].as_str().is_some_and(|text| text.len() > 20), "{demo}: {said}");
        assert!(said["decode_tok_s"].as_f64().is_some_and(|rate| rate > 0.0), "{demo}: {said}");
    }
}

#[test]
fn text_goes_to_stdout_and_the_summary_to_stderr() {
    let output = dynamax(&["run", "The", "-n", "5"]);
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!out.contains("tok/s") && err.contains("tok/s"), "stdout {out:?}, stderr {err:?}");
}

#[test]
fn a_conversation_in_a_pipe_answers_each_line() {
    use std::io::Write;
    use std::process::Stdio;
    let mut chat = Command::new(env!("CARGO_BIN_EXE_dynamax"))
        .args(["chat", "-n", "6", "--system", "Be brief."])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    chat.stdin.take().unwrap().write_all(b"Who is there?\n\n/new\nAnd now?\n").unwrap();
    let output = chat.wait_with_output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && out.lines().count() >= 2, "two turns: {out:?}");
    assert!(!out.contains("User:"), "an answer ends before the next turn: {out:?}");
}

#[test]
fn every_golden_checkpoint_checks() {
    for folder in std::fs::read_dir(golden("")).unwrap() {
        let folder = folder.unwrap().path();
        let file = folder.join("golden.json");
        let report = json(&["check", text(&folder), "--golden", text(&file), "--json"]);
        for field in ["greedy_equal", "lowered_greedy_equal"] {
            assert_eq!(report[field], true, "{}: {report}", folder.display());
        }
        for field in ["max_abs_err_hidden", "max_abs_err_logits", "lowered_max_abs_err_logits"] {
            assert!(
                report[field].as_f64().is_some_and(|error| error < 1e-3),
                "{}: {report}",
                folder.display()
            );
        }
    }
}

#[test]
fn numbers_of_another_model_do_not_check() {
    let (checkpoint, other) =
        (golden("mistral-gqa-swa"), golden("llama-mha-tied").join("golden.json"));
    let output = dynamax(&["check", text(&checkpoint), "--golden", text(&other)]);
    assert_ne!(output.status.code(), Some(0), "another model's numbers");
}

#[test]
fn a_built_bundle_can_be_inspected_planned_verified_and_run() {
    for (quant, bits) in [("q4", 4.5), ("q8", 8.5), ("f16", 16.0), ("f32", 32.0)] {
        let (_folder, bundle) = built(quant);
        let inside = json(&["inspect", text(&bundle), "--json"]);
        assert_eq!(inside["quant"], quant, "{inside}");
        assert!(
            inside["bits_per_weight"]
                .as_f64()
                .is_some_and(|found| found >= bits && found < bits + 3.0),
            "{inside}"
        );
        let plan = json(&["plan", text(&bundle), "--json"]);
        let total: u64 = ["weights_bytes", "state_bytes", "arena_bytes", "sampling_bytes"]
            .iter()
            .map(|field| plan[field].as_u64().unwrap())
            .sum();
        assert_eq!(plan["total_bytes"].as_u64(), Some(total), "{plan}");
        assert_eq!(json(&["verify", text(&bundle), "--json"])["whole"], true, "{quant}");
        let said = json(&[
            "run",
            text(&bundle),
            "--tokens-in",
            "5,6,7",
            "-n",
            "9",
            "--ignore-eos",
            "--json",
        ]);
        assert_eq!(said["tokens"].as_array().map(Vec::len), Some(9), "{said}");
        assert_eq!(said["planned_bytes"], plan["total_bytes"], "{said}");
    }
}

#[test]
fn threads_rows_and_instruction_sets_say_the_same() {
    let (_folder, bundle) = built("q4");
    let tokens = |flags: &[&str]| {
        let fixed = [
            "run",
            text(&bundle),
            "--tokens-in",
            "5,6,7,8,9,10,11",
            "-n",
            "24",
            "--ignore-eos",
            "--json",
        ];
        json(&[&fixed, flags].concat())["tokens"].clone()
    };
    let first = tokens(&["-t", "1"]);
    for flags in [
        ["-t", "3"].as_slice(),
        &["--rows", "1"],
        &["--rows", "5", "-t", "2"],
        &["--isa", "reference"],
    ] {
        assert_eq!(tokens(flags), first, "{flags:?}");
    }
}

#[test]
fn any_flipped_bit_is_refused() {
    let (folder, bundle) = built("q8");
    let whole = std::fs::read(&bundle).unwrap();
    let damaged = folder.path().join("damaged.dmx");
    for index in [0, 9, 33, 70, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[index] ^= 4;
        std::fs::write(&damaged, bytes).unwrap();
        refused(2, "damaged.dmx", &["run", text(&damaged), "--tokens-in", "1", "-n", "1"]);
        refused(1, "damaged.dmx", &["verify", text(&damaged)]);
    }
    std::fs::write(&damaged, &whole[..whole.len() - 1]).unwrap();
    refused(2, "damaged.dmx", &["inspect", text(&damaged)]);
}

#[test]
fn bad_usage_is_explained() {
    let (_folder, bundle) = built("q8");
    let bundle = text(&bundle);
    refused(2, "cannot be opened", &["run", "nowhere.dmx", "hello"]);
    refused(2, "no tokens", &["run", bundle]);
    refused(2, "no tokenizer", &["run", bundle, "hello"]);
    refused(2, "not in the vocabulary of 320", &["run", bundle, "--tokens-in", "1,320"]);
    refused(
        2,
        "this bundle allows 1 to 256",
        &["run", bundle, "--tokens-in", "1", "--context", "257"],
    );
    refused(
        2,
        "does not fit into the planned context",
        &["run", bundle, "--tokens-in", "1", "-n", "257"],
    );
    refused(2, "--top-p", &["run", bundle, "--tokens-in", "1", "--top-p", "1.5"]);
    refused(2, "this machine has reference", &["run", bundle, "--tokens-in", "1", "--isa", "mmx"]);
    refused(2, "are missing", &["run", bundle, "--tokens-in", "1", "--memory", "64 KiB"]);
    refused(1, "are missing", &["plan", bundle, "--memory", "64 KiB"]);
    refused(
        2,
        "not a bundle",
        &["inspect", text(&golden("llama-mha-tied").join("model.safetensors"))],
    );
    refused(2, "there are generic, jetson", &["plan", bundle, "--board", "toaster"]);
}

#[test]
fn a_failed_build_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let checkpoint = folder.path().join("checkpoint");
    std::fs::create_dir(&checkpoint).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(golden("llama-mha-tied").join(file), checkpoint.join(file)).unwrap();
    }
    let weights = checkpoint.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&weights, bytes).unwrap();
    let out = folder.path().join("out");
    std::fs::create_dir(&out).unwrap();
    refused(2, "NaN", &["build", text(&checkpoint), "-o", text(&out.join("m.dmx"))]);
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0, "nothing half-written");
}

#[test]
fn lifetimes_are_planned_and_what_cannot_fit_is_an_answer() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("buffers.csv");
    std::fs::write(&file, "id,lower,upper,size\na,0,2,4\nb,1,3,4\nc,2,4,4\n").unwrap();
    let plan = json(&["plan", "--lifetimes", text(&file), "--capacity", "8", "--json"]);
    assert_eq!(
        (plan["arena_bytes"].as_u64(), plan["lower_bound_bytes"].as_u64()),
        (Some(8), Some(8)),
        "{plan}"
    );
    assert_eq!(
        plan["buffers"][0]["offset"], plan["buffers"][2]["offset"],
        "a and c never meet: {plan}"
    );
    refused(1, "no placement can fit", &["plan", "--lifetimes", text(&file), "--capacity", "7"]);
    refused(
        2,
        "no column",
        &["plan", "--lifetimes", text(&golden("llama-mha-tied").join("config.json"))],
    );
}

#[test]
fn a_real_checkpoint_tells_its_story() {
    let real =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/models/stories260K/hf");
    if !real.exists() {
        println!("skipped: stories260K is not here");
        return;
    }
    let expected: Value =
        serde_json::from_slice(&std::fs::read(real.join("golden.json")).unwrap()).unwrap();
    let expected: Vec<Value> = expected["bos_greedy_200_ids"].as_array().unwrap()[1..].to_vec();
    let folder = TempDir::new().unwrap();
    let bundle = folder.path().join("stories.dmx");
    json(&["build", text(&real), "-o", text(&bundle), "--quant", "f32", "--json"]);
    let said =
        json(&["run", text(&bundle), "--tokens-in", "1", "-n", "200", "--ignore-eos", "--json"]);
    assert_eq!(
        said["tokens"],
        Value::from(expected),
        "200 greedy tokens of an independent implementation"
    );
}

#[test]
fn a_bundle_is_signed_and_verified() {
    let (folder, bundle) = built("q4");
    let path = |name: &str| folder.path().join(name);
    let (release, other) = (path("release"), path("other"));
    for key in [&release, &other] {
        json(&["keygen", "-o", text(key), "--json"]);
    }
    let public = path("release.pub");
    refused(2, "never overwritten", &["keygen", "-o", text(&path("other"))]);
    refused(1, "is not signed", &["verify", text(&bundle), "--key", text(&public)]);

    let signed = path("signed.dmx");
    let sign = ["sign", text(&bundle), "--key", text(&release), "--counter", "7", "--json"];
    let said = json(&[sign.as_slice(), &["-o", text(&signed)]].concat());
    assert_eq!(said["counter"], 7, "{said}");
    let inside = json(&["inspect", text(&signed), "--json"]);
    assert_eq!(inside["signed"], true, "{inside}");
    assert_eq!(inside["signature"]["key"], said["key"], "{inside}");
    assert_eq!(json(&["inspect", text(&bundle), "--json"])["signed"], false, "the other is not");
    let verified = json(&["verify", text(&signed), "--key", text(&public), "--json"]);
    assert_eq!(
        (&verified["trusted"], &verified["counter"]),
        (&true.into(), &7.into()),
        "{verified}"
    );
    let unasked = json(&["verify", text(&signed), "--json"]);
    assert_eq!(unasked["trusted"], Value::Null, "no key, no answer: {unasked}");

    let least = ["verify", text(&signed), "--key", text(&public), "--least", "8"];
    refused(1, "is version 7", &least);
    refused(1, "is not trusted", &["verify", text(&signed), "--key", text(&path("other.pub"))]);
    let tokens = |bundle: &Path| {
        let run =
            ["run", text(bundle), "--tokens-in", "5,6,7", "-n", "9", "--ignore-eos", "--json"];
        json(&run)["tokens"].clone()
    };
    assert_eq!(tokens(&signed), tokens(&bundle), "a signature changes nothing");

    json(&["sign", text(&signed), "--key", text(&other), "--json"]);
    let again = json(&["verify", text(&signed), "--key", text(folder.path()), "--json"]);
    assert_eq!(again["trusted"], true, "signed anew, in place, with one of two keys: {again}");
    assert!(!path("signed.dmx.part").exists(), "nothing is left");
}

#[test]
fn a_build_can_sign() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    json(&["keygen", "-o", text(&path("k")), "--json"]);
    let (checkpoint, bundle) = (golden("mistral-gqa-swa"), path("m.dmx"));
    let build = ["build", text(&checkpoint), "-o", text(&bundle), "--json"];
    let said = json(&[build.as_slice(), &["--sign", text(&path("k")), "--counter", "3"]].concat());
    assert!(said["signed_with"].is_string(), "{said}");
    let verified = json(&["verify", text(&bundle), "--key", text(&path("k.pub")), "--json"]);
    assert_eq!(verified["counter"], 3, "{verified}");
    refused(2, "cannot be read", &[build.as_slice(), &["--sign", "nowhere"]].concat());
}

#[test]
fn a_gguf_file_is_built_as_it_is_and_a_cut_one_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let gguf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../models/tests/gguf/fixture/encodings.gguf");
    let bundle = folder.path().join("m.dmx");
    let built = json(&["build", text(&gguf), "-o", text(&bundle), "--json"]);
    let warnings = built["warnings"].to_string();
    assert!(warnings.contains("Q6_K is rounded a second time, to q8"), "{warnings}");
    let inspected = json(&["inspect", text(&bundle), "--json"]);
    assert_eq!(inspected["arch"], "llama", "{inspected}");
    let said =
        json(&["run", text(&bundle), "--tokens-in", "1,2,3", "-n", "5", "--ignore-eos", "--json"]);
    assert_eq!(said["tokens"].as_array().map(Vec::len), Some(5), "{said}");

    let cut = folder.path().join("cut.gguf");
    let bytes = std::fs::read(&gguf).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() - 100]).unwrap();
    let none = folder.path().join("none.dmx");
    refused(2, "cut.gguf: broken or truncated GGUF", &["build", text(&cut), "-o", text(&none)]);
    assert!(!none.exists(), "nothing is written");
    refused(2, "neither a directory nor a GGUF file", &["build", text(&bundle), "-o", text(&none)]);
}
