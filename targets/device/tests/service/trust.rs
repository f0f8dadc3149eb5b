//! Whose bundles run.

use std::path::{Path, PathBuf};

use dynamax_bundle::SecretKey;
use dynamax_session::keys;

use crate::device::{Board, demo};

fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32])
}

/// The demo, signed.
fn signed(folder: &Path, seed: u8, counter: u64) -> PathBuf {
    let path = folder.join(format!("{seed}-{counter}.dmx"));
    std::fs::copy(demo("mamba2.dmx"), &path).unwrap();
    keys::sign_in_place(&path, &key(seed), counter).unwrap();
    path
}

/// A board that trusts key 1.
fn trusting() -> Board {
    Board::empty(&format!("[trust]\nkeys = [{:?}]\n", keys::inline(&key(1).public())))
}

/// What `--check` says, and that it says "no".
fn refusal(board: &Board) -> String {
    let output = board.run(&["--check"]);
    assert_eq!(output.status.code(), Some(1), "the answer is no");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_signed_bundle_starts() {
    let board = trusting();
    board.flash(&signed(board.folder.path(), 1, 7));
    let output = board.run(&["--check", "--json"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("\"counter\":7"), "{said}");
    let service = board.start();
    assert!(service.lines.iter().any(|line| line.contains("version 7")), "{:?}", service.lines);
    assert_eq!(board.slots().state().unwrap().floor, 7, "no older one from now on");
}

#[test]
fn the_reasons_not_to_start_are_told_apart() {
    let board = trusting();
    assert!(refusal(&board).contains("no bundle is there"), "empty");
    board.flash(&demo("mamba2.dmx"));
    assert!(refusal(&board).contains("is not signed"), "unsigned");

    let board = trusting();
    board.flash(&signed(board.folder.path(), 2, 7));
    assert!(refusal(&board).contains("is not trusted"), "another key");

    let board = trusting();
    let slot = board.flash(&signed(board.folder.path(), 1, 7));
    board.slots().confirm().unwrap();
    board.alter(slot);
    assert!(refusal(&board).contains("does not match its hash"), "altered");

    let board = trusting();
    board.flash(&signed(board.folder.path(), 1, 7));
    board.slots().confirm().unwrap();
    board.flash(&signed(board.folder.path(), 1, 6));
    assert!(refusal(&board).contains("is version 6, and version 7 has run here"), "older");
}

#[test]
fn a_bundle_that_does_not_fit_is_refused_with_numbers() {
    let board = Board::new("");
    board.configure_device("memory = \"1 MiB\"", "");
    let said = refusal(&board);
    assert!(said.contains("are missing") && said.contains("1048576"), "{said}");
}

#[test]
fn a_configuration_that_is_wrong_is_bad_usage() {
    let board = Board::new("");
    board.configure("[budget]\nenergy = 5\n");
    let output = board.run(&["--check"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}
