//! A device's days: updates, failed updates, reloads, ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

use dynamax_slots::Slot;
use serde_json::{Value, json};

use crate::device::{Board, demo, exchange, image, reply, request};

/// The hash of what answers.
fn hash(service: &crate::device::Service<'_>) -> Value {
    service.get("/v1/models").json()["data"][0]["dynamax"]["hash"].clone()
}

fn hash_of(name: &str) -> Value {
    image(&demo(name)).hash.to_string().into()
}

#[test]
fn a_reload_switches_to_the_new_slot_and_confirms_it() {
    let board = Board::new("");
    let mut service = board.start();
    assert_eq!(hash(&service), hash_of("mamba2.dmx"), "the first");
    assert_eq!(board.slots().state().unwrap().trial, None, "confirmed by its start");
    board.flash(&demo("transformer.dmx"));
    service.signal("HUP");
    service.wait_for_words("slot b");
    service.wait_until("the new one answers", || hash(&service) == hash_of("transformer.dmx"));
    let state = board.slots().state().unwrap();
    assert_eq!((state.active, state.trial), (Some(Slot::B), None), "confirmed");
    let answer = service.ask("/v1/completions", &json!({ "prompt": "x", "max_tokens": 3 }));
    assert_eq!(answer["usage"]["completion_tokens"], 3, "{answer}");
}

#[test]
fn a_reload_of_something_worse_changes_nothing() {
    let board = Board::new("");
    let mut service = board.start();
    let slot = board.flash(&demo("transformer.dmx"));
    board.alter(slot);
    service.signal("HUP");
    service.wait_for_words("going back to the one before");
    assert_eq!(hash(&service), hash_of("mamba2.dmx"), "still, or again");
    board.configure("[nonsense]\n");
    service.signal("HUP");
    service.wait_for_words("not reloaded");
    service.ask("/v1/completions", &json!({ "prompt": "x", "max_tokens": 1 }));
}

#[test]
fn what_is_checked_is_what_is_planned_at_the_start() {
    for more in ["", "[exit]\nmode = \"verified\"\ndraft_length = 8\n"] {
        let board = Board::new(more);
        let checked: Value =
            serde_json::from_slice(&board.run(&["--check", "--json"]).stdout).unwrap();
        let planned = board.start().metric("planned_bytes");
        assert_eq!(checked["planned_bytes"].as_f64(), Some(planned), "to the byte, with {more:?}");
    }
}

#[test]
fn a_bundle_on_trial_that_cannot_run_gives_way() {
    let board = Board::new("");
    drop(board.start());
    let slot = board.flash(&demo("transformer.dmx"));
    board.alter(slot);
    let service = board.start();
    assert_eq!(hash(&service), hash_of("mamba2.dmx"), "the one before");
    let state = board.slots().state().unwrap();
    assert_eq!((state.active, state.trial), (Some(Slot::A), None), "for good");
}

#[test]
fn starts_that_do_not_end_well_are_counted() {
    let board = Board::new("");
    drop(board.start());
    board.flash(&demo("transformer.dmx"));
    for _ in 0..3 {
        board.slots().start(3).unwrap();
    }
    let service = board.start();
    assert_eq!(hash(&service), hash_of("mamba2.dmx"), "after three that never confirmed");
    assert!(service.lines.iter().any(|line| line.contains("come back to")), "{:?}", service.lines);
}

#[test]
fn the_end_lets_answers_finish() {
    let board = Board::new("");
    let mut service = board.start();
    let body = json!({ "prompt": "Once", "max_tokens": 300, "temperature": 0,
        "dynamax": { "ignore_eos": true }, "stream": true });
    let mut stream = service.connect();
    stream.write_all(request("POST", "/v1/completions", &body.to_string()).as_bytes()).unwrap();
    let mut bytes = vec![0; 400];
    stream.read_exact(&mut bytes).unwrap();
    service.signal("TERM");
    stream.read_to_end(&mut bytes).unwrap();
    let events = reply(&bytes).events();
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"), "to its end");
    assert!(service.child.wait().unwrap().success(), "a good end");
    assert!(!board.socket().exists(), "nothing is left");
}

#[test]
fn a_service_that_was_killed_leaves_nothing_in_the_way() {
    let board = Board::new("");
    drop(board.start());
    assert!(board.socket().exists(), "it had no time to remove it");
    let service = board.start();
    service.get("/health");
    let output = board.run(&[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("another service uses it"), "two do not share a socket: {said}");
    service.get("/health");
}

#[test]
fn beyond_the_socket_a_key_is_asked_for() {
    let board = Board::new("tcp = \"127.0.0.1:0\"\napi_key = \"open sesame\"\n");
    let service = board.start();
    let line = service.lines.iter().find(|line| line.contains("http://")).unwrap();
    let address = line.trim().rsplit("http://").next().unwrap().to_owned();
    let ask = |more: &str| {
        let head = format!("GET /v1/models HTTP/1.1\r\nHost: d\r\nConnection: close\r\n{more}\r\n");
        exchange(TcpStream::connect(&address).unwrap(), head.as_bytes())
    };
    assert_eq!(ask("").status, 401, "none");
    assert_eq!(ask("Authorization: Bearer open sesam\r\n").status, 401, "wrong");
    assert_eq!(ask("Authorization: open sesame\r\n").status, 401, "in another form");
    let error = ask("").json();
    assert_eq!(error["error"]["code"], "invalid_api_key", "{error}");
    assert_eq!(ask("Authorization: Bearer open sesame\r\n").status, 200, "right");
    assert_eq!(service.get("/v1/models").status, 200, "who may open the socket may ask");
}

/// Sends a part of a bundle to `slot receive`: its first line, and how it ended.
fn send(board: &Board, path: &Path, most: usize) -> (Value, bool, String) {
    let offered = image(path);
    let (hash, bytes) = (offered.hash.to_string(), offered.bytes.to_string());
    let mut command = board.command(&["slot", "receive", "--hash", &hash, "--bytes", &bytes]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let first: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
    let offset = first["offset"].as_u64().unwrap_or(0) as usize;
    let content = std::fs::read(path).unwrap();
    let end = content.len().min(offset + most);
    let _ = child.stdin.take().unwrap().write_all(&content[offset..end]);
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    (first, output.status.success(), rest + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_bundle_is_received_through_a_pipe() {
    let board = Board::new("");
    drop(board.start());
    let (_, arrived, said) = send(&board, &demo("transformer.dmx"), 1000);
    assert!(!arrived && said.contains("it goes on from there"), "{said}");
    assert_eq!(board.slots().state().unwrap().active, Some(Slot::A), "nothing has changed");
    let (first, arrived, said) = send(&board, &demo("transformer.dmx"), usize::MAX);
    assert!(arrived, "{said}");
    assert_eq!(first["slot"], "b", "{first}");
    let status = board.run(&["slot", "status", "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!((&status["active"], &status["trial_starts"]), (&"b".into(), &0.into()), "{status}");
    assert!(board.run(&["slot", "rollback"]).status.success(), "and back");
    assert_eq!(board.slots().state().unwrap().active, Some(Slot::A), "the one before");
    assert_eq!(Board::new("").run(&["slot", "rollback"]).status.code(), Some(1), "to nothing");
}

#[test]
fn what_does_not_fit_the_device_is_not_switched_to() {
    let board = Board::new("");
    drop(board.start());
    board.configure_device("memory = \"1 MiB\"", "");
    let (_, arrived, said) = send(&board, &demo("transformer.dmx"), usize::MAX);
    assert!(!arrived && said.contains("are missing"), "{said}");
    assert_eq!(board.slots().state().unwrap().active, Some(Slot::A), "the one before");
}

#[test]
fn a_bundle_that_is_on_the_device_is_installed() {
    let board = Board::new("");
    drop(board.start());
    let bundle = demo("transformer.dmx");
    let install = |path: &Path| {
        let output = board.run(&["slot", "install", path.to_str().unwrap(), "--json"]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let damaged = board.folder.path().join("damaged.dmx");
    let mut bytes = std::fs::read(&bundle).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&damaged, bytes).unwrap();
    let (status, said) = install(&damaged);
    assert!(status == Some(1) && said.contains("does not match its hash"), "{status:?}: {said}");
    assert_eq!(board.slots().state().unwrap().incoming, None, "nothing was written");
    assert_eq!(install(&bundle).0, Some(0), "this one runs");
    assert_eq!(hash(&board.start()), hash_of("transformer.dmx"), "from the other slot");
}
