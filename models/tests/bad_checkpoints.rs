//! Broken checkpoints are refused with an error that says what is wrong, and where.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::path::Path;

use dynamax_models::Config;
use dynamax_models::checkpoint::{Checkpoint, CheckpointError};
use serde_json::{Value, json};

const LLAMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama-mha-tied");
const SHARDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/mistral-bf16-sharded");

/// A copy of a checkpoint, to break.
fn copy(of: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(of).unwrap() {
        let file = file.unwrap().path();
        std::fs::copy(&file, folder.path().join(file.file_name().unwrap())).unwrap();
    }
    folder
}

fn open(folder: &Path) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::open(folder, &Config::open(folder).unwrap())
}

/// Opens, and expects an error that contains each part.
fn refuses(folder: &Path, parts: &[&str]) {
    let error = open(folder).expect_err("the checkpoint is broken").to_string();
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
}

/// Changes the header of a safetensors file; the data stays.
fn edit_header(path: &Path, edit: impl FnOnce(&mut Value)) {
    let bytes = std::fs::read(path).unwrap();
    let len = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    edit(&mut header);
    let header = header.to_string();
    let len = (header.len() as u64).to_le_bytes();
    std::fs::write(path, [&len, header.as_bytes(), &bytes[8 + bytes_of(&bytes)..]].concat())
        .unwrap();
}

fn bytes_of(file: &[u8]) -> usize {
    usize::try_from(u64::from_le_bytes(file[..8].try_into().unwrap())).unwrap()
}

#[test]
fn a_truncated_file_is_refused() {
    let folder = copy(LLAMA);
    let path = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    for len in [0, 4, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..len]).unwrap();
        let error = open(folder.path()).expect_err("the file is cut").to_string();
        assert!(error.contains("model.safetensors"), "cut to {len} bytes: {error}");
    }
}

#[test]
fn a_missing_tensor_is_named_with_its_shape() {
    let folder = copy(LLAMA);
    edit_header(&folder.path().join("model.safetensors"), |header| {
        let header = header.as_object_mut().unwrap();
        let norm = header.remove("model.norm.weight").unwrap();
        header.insert("model.rotary_emb.inv_freq".into(), norm);
    });
    refuses(folder.path(), &["norm.weight is missing", "[64]"]);
}

#[test]
fn an_unknown_tensor_is_named() {
    let folder = copy(LLAMA);
    edit_header(&folder.path().join("model.safetensors"), |header| {
        let end = header["model.norm.weight"]["data_offsets"][1].clone();
        header["model.layers.0.self_attn.q_proj.bias"] =
            json!({"dtype": "F32", "shape": [0], "data_offsets": [end, end]});
    });
    refuses(folder.path(), &["layers.0.self_attn.q_proj.bias", "not a weight"]);
}

#[test]
fn a_wrong_shape_is_named_with_both_shapes() {
    let folder = copy(LLAMA);
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["vocab_size"] = json!(321);
    std::fs::write(&path, config.to_string()).unwrap();
    refuses(folder.path(), &["embed_tokens.weight", "[320, 64]", "[321, 64]"]);
}

#[test]
fn a_type_that_is_no_float_is_refused() {
    let folder = copy(LLAMA);
    edit_header(&folder.path().join("model.safetensors"), |header| {
        header["model.norm.weight"]["dtype"] = json!("I32");
    });
    refuses(folder.path(), &["model.norm.weight is I32", "expected F32, F16 or BF16"]);
}

#[test]
fn a_missing_shard_is_named() {
    let folder = copy(SHARDED);
    std::fs::remove_file(folder.path().join("model-00002-of-00003.safetensors")).unwrap();
    refuses(folder.path(), &["model-00002-of-00003.safetensors", "missing"]);
}

#[test]
fn an_index_cannot_name_a_file_elsewhere() {
    let folder = copy(SHARDED);
    let path = folder.path().join("model.safetensors.index.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("model-00001", "../model-00001")).unwrap();
    refuses(folder.path(), &["index.json", "no file name"]);
}

#[test]
fn a_shard_without_its_tensor_is_named() {
    let folder = copy(SHARDED);
    let path = folder.path().join("model.safetensors.index.json");
    let mut index: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    index["weight_map"]["model.norm.weight"] = json!("model-00001-of-00003.safetensors");
    std::fs::write(&path, index.to_string()).unwrap();
    refuses(folder.path(), &["model.norm.weight is not in model-00001-of-00003.safetensors"]);
}

#[test]
fn pickled_weights_are_refused_with_advice() {
    let folder = copy(LLAMA);
    let weights = folder.path().join("model.safetensors");
    std::fs::rename(&weights, folder.path().join("pytorch_model.bin")).unwrap();
    refuses(folder.path(), &["neither model.safetensors", "convert pytorch_model.bin"]);
}

#[test]
fn a_number_that_is_not_finite_is_found_when_it_is_read() {
    let folder = copy(LLAMA);
    let path = folder.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let data = 8 + bytes_of(&bytes);
    let header: Value = serde_json::from_slice(&bytes[8..data]).unwrap();
    let start = header["model.norm.weight"]["data_offsets"][0].as_u64().unwrap();
    let at = data + usize::try_from(start).unwrap() + 5 * 4;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let error = open(folder.path()).unwrap().read("norm.weight", 0..1, &mut Vec::new());
    let error = error.expect_err("the number is NaN").to_string();
    assert!(error.contains("norm.weight: number 5 is NaN"), "{error}");
}

#[test]
fn a_head_that_is_said_to_be_tied_and_differs_is_refused() {
    let folder = copy(SHARDED);
    let path = folder.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        text.replace("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true"),
    )
    .unwrap();
    refuses(folder.path(), &["lm_head.weight differs from embed_tokens.weight"]);
}

#[test]
fn names_may_lack_their_prefix() {
    let folder = copy(LLAMA);
    edit_header(&folder.path().join("model.safetensors"), |header| {
        let named = header.as_object().unwrap().iter();
        *header = named
            .map(|(name, info)| (name.trim_start_matches("model.").to_owned(), info.clone()))
            .collect();
    });
    let mut row = Vec::new();
    open(folder.path()).unwrap().read("embed_tokens.weight", 3..4, &mut row).unwrap();
    assert_eq!(row.len(), 64, "one row of the table");
}

#[test]
fn rows_and_parameters_that_are_not_there_are_refused() {
    let checkpoint = open(Path::new(LLAMA)).unwrap();
    let rows = checkpoint.read("embed_tokens.weight", 319..321, &mut Vec::new());
    assert!(matches!(rows, Err(CheckpointError::Rows { count: 320, .. })), "{rows:?}");
    let param = checkpoint.read("nonsense", 0..1, &mut Vec::new());
    assert!(matches!(param, Err(CheckpointError::Param { .. })), "{param:?}");
}
