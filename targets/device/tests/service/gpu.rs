//! The service on a GPU, where this build and this machine have one.

use serde_json::json;

use crate::device::{Board, Service};

/// A place where no driver is.
const NOWHERE: &str = "/nowhere.json";

const WGPU: &str = "backend = \"wgpu\"";

/// What a stream says, piece by piece.
fn streamed(service: &Service<'_>) -> Vec<String> {
    let body = json!({ "prompt": "It was a dark and stormy night", "max_tokens": 48,
        "temperature": 0, "stream": true, "dynamax": { "ignore_eos": true } });
    let reply = service.post("/v1/completions", &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let text = |event: &String| -> Option<String> {
        let event: serde_json::Value = serde_json::from_str(event).ok()?;
        Some(event["choices"][0]["text"].as_str()?.to_owned())
    };
    reply.events().iter().filter_map(text).collect()
}

#[test]
fn a_stream_is_that_of_the_cpu() {
    let (cpu, gpu) = (Board::new(""), Board::new(""));
    gpu.configure_device(WGPU, "");
    let output = gpu.run(&["--check"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = streamed(&cpu.start());
    assert!(expected.len() > 40, "token by token");
    let serve = std::panic::AssertUnwindSafe(|| streamed(&gpu.start()));
    match std::panic::catch_unwind(serve) {
        Ok(found) => assert_eq!(found, expected, "the same pieces"),
        Err(_) if std::env::var_os("DYNAMAX_NEEDS_GPU").is_none() => println!("not run: no GPU"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

#[test]
fn without_a_gpu_the_service_says_so_or_the_cpu_serves() {
    let board = Board::new("");
    board.configure_device(WGPU, "");
    let without = |command: &mut std::process::Command| {
        command.env("VK_DRIVER_FILES", NOWHERE).env("VK_ICD_FILENAMES", NOWHERE);
    };
    let mut command = board.command(&[]);
    without(&mut command);
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("no GPU found"), "{error}");

    board.configure_device(&format!("{WGPU}\nfallback = true"), "");
    let service = board.start_with(without);
    let said = service.lines.concat();
    assert!(said.contains("no GPU found") && said.contains("the cpu runs instead"), "{said}");
    assert!(streamed(&service).len() > 40, "and it serves");
}
