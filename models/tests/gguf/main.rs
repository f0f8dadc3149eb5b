//! GGUF files: the same model as from transformers, nothing lost of what they hold, and none believed.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod blocks;
mod convert;
mod encodings;
mod hostile;
mod same_model;
mod vocabularies;
mod writer;

use std::path::{Path, PathBuf};

/// A checkpoint in the repository.
fn golden(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden")).join(name)
}

/// A file with these bytes, in a folder of its own.
fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}
