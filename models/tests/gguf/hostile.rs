//! Files that are cut, broken or lie are refused with a sentence, without much memory, and leave nothing behind.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use dynamax_models::Config;
use dynamax_models::build::{BuildOptions, Draft};
use dynamax_models::checkpoint::Checkpoint;

use super::convert::convert;
use super::writer::{F32, Tensor, Value, Writer};
use super::{file, golden};

fn llama() -> Writer {
    convert(&golden("llama-mha-tied"))
}

fn open(path: &Path) -> Result<(), String> {
    let config = Config::open(path).map_err(|error| error.to_string())?;
    Checkpoint::open(path, &config).map(drop).map_err(|error| error.to_string())
}

/// Refuses the file with a sentence that names it and holds each of `parts`.
fn refuses(bytes: &[u8], parts: &[&str]) {
    let (_kept, path) = file(bytes);
    let Err(error) = open(&path) else { panic!("not refused: {parts:?}") };
    for part in parts.iter().chain(&["model.gguf"]) {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
}

/// A file that is changed by `edit` before it is written.
fn edited(edit: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = llama();
    edit(&mut writer);
    writer.bytes()
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    let bytes = llama().bytes();
    let some = (0..bytes.len()).step_by(bytes.len() / 97 + 1);
    for len in some.chain([4, 8, 16, 24, 32, 100, bytes.len() - 1]) {
        refuses(&bytes[..len], &["truncated", "download the file again"]);
    }
}

#[test]
fn any_byte_may_be_wrong_and_nothing_breaks() {
    let writer = llama();
    let bytes = writer.bytes();
    let data: usize =
        writer.tensors.iter().map(|tensor| tensor.bytes.len().next_multiple_of(32)).sum();
    let (_kept, path) = file(&bytes);
    let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let mut refused = 0;
    let header = bytes.len() - data;
    for at in 0..header {
        for wrong in [0x00, 0xff, bytes[at] ^ 0x01] {
            file.seek(SeekFrom::Start(at as u64)).unwrap();
            file.write_all(&[wrong]).unwrap();
            refused += usize::from(open(&path).is_err());
        }
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(&[bytes[at]]).unwrap();
    }
    open(&path).unwrap();
    assert!(refused > header, "{refused} of {} were refused", 3 * header);
}

#[test]
fn counts_and_lengths_beyond_the_file_are_refused_at_once() {
    let huge = |at: usize, count: u64| {
        let mut bytes = llama().bytes();
        bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
        bytes
    };
    for (count, part) in [(1 << 20, "at byte 24 has 1048576"), (u64::MAX, "needed at byte 32")] {
        refuses(&huge(8, count), &["tensors", "65536"]);
        refuses(&huge(16, count), &["keys", "65536"]);
        // The length of the first key's name.
        refuses(&huge(24, count), &[part]);
    }
    // A list that claims as many numbers, or texts, as can be counted.
    for kind in [0_u32, 8, 12] {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend([0_u64.to_le_bytes(), 1_u64.to_le_bytes(), 4_u64.to_le_bytes()].concat());
        bytes.extend(b"list");
        bytes.extend([9_u32.to_le_bytes(), kind.to_le_bytes()].concat());
        bytes.extend(u64::MAX.to_le_bytes());
        refuses(&bytes, &["list: "]);
    }
}

#[test]
fn tensors_that_do_not_lie_in_the_file_are_refused_by_name() {
    let shaped = |shape: &[usize], kind: u32| {
        edited(|writer| {
            let tensor =
                Tensor { name: "odd".into(), shape: shape.into(), kind, bytes: vec![0; 64] };
            writer.tensors.push(tensor);
        })
    };
    refuses(&shaped(&[1 << 40, 1 << 40], F32), &["odd", "dimensions"]);
    refuses(&shaped(&[1 << 62], F32), &["odd", "ends beyond"]);
    refuses(&shaped(&[0, 4], F32), &["odd", "dimensions"]);
    refuses(&shaped(&[1, 1, 1, 1, 1], F32), &["odd", "5 dimensions"]);
    refuses(&shaped(&[2, 33], 2), &["odd", "33", "Q4_0"]);
    refuses(&shaped(&[1, 256], 10), &["odd", "Q2_K", "Q4_K"]);
    refuses(&shaped(&[1, 256], 999), &["odd", "999"]);
    refuses(&shaped(&[4, 4], F32), &["odd", "no such tensor"]);
}

#[test]
fn files_of_other_kinds_are_refused() {
    refuses(b"<html>not found</html>", &["begins with"]);
    let mut bytes = llama().bytes();
    for (version, part) in
        [(1_u32, "too old"), (4, "version 4"), (3_u32.swap_bytes(), "big-endian")]
    {
        bytes[4..8].copy_from_slice(&version.to_le_bytes());
        refuses(&bytes, &[part]);
    }
    refuses(&edited(|writer| writer.keys.push(writer.keys[1].clone())), &["twice"]);
    refuses(&edited(|writer| writer.tensors.push(writer.tensors[1].clone())), &["twice"]);
    refuses(&edited(|writer| writer.key("split.count", Value::U32(2))), &["split.count", "join"]);
}

#[test]
fn keys_that_do_not_fit_are_refused_by_name() {
    let set = |key: &str, value| edited(|writer| writer.key(key, value));
    for (key, value, parts) in [
        ("general.architecture", Value::Text("gpt2".into()), &["gpt2", "qwen2"] as &[&str]),
        ("general.architecture", Value::U32(1), &["a text"]),
        ("general.alignment", Value::U32(0), &["power of two"]),
        ("general.alignment", Value::U32(48), &["power of two"]),
        ("llama.block_count", Value::U32(6), &["blk.5.attn_norm.weight", "missing"]),
        ("llama.block_count", Value::U32(0), &["llama.block_count"]),
        ("llama.embedding_length", Value::U32(128), &["token_embd.weight", "[320, 64]"]),
        (
            "llama.embedding_length",
            Value::Text("x".into()),
            &["llama.embedding_length", "whole number"],
        ),
        ("llama.attention.head_count", Value::U32(0), &["llama.attention.head_count"]),
        ("llama.attention.head_count_kv", Value::U32(3), &["llama.attention.head_count_kv"]),
        ("llama.attention.key_length", Value::U32(9), &["llama.rope.dimension_count"]),
        ("llama.rope.dimension_count", Value::U32(7), &["llama.attention.key_length", "even"]),
        ("llama.rope.freq_base", Value::F32(f32::NAN), &["llama.rope.freq_base"]),
        (
            "llama.rope.scaling.type",
            Value::Text("yarn".into()),
            &["llama.rope.scaling.type", "yarn"],
        ),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(-1.0), &["layer_norm_rms_epsilon"]),
        ("llama.expert_count", Value::U32(8), &["llama.expert_count"]),
        ("llama.context_length", Value::U32(0), &["llama.context_length"]),
    ] {
        refuses(&set(key, value), parts);
    }
    refuses(
        &edited(|writer| writer.keys.retain(|(key, _)| !key.ends_with("head_count"))),
        &["llama.attention.head_count is missing"],
    );
}

#[test]
fn a_mamba_whose_decay_grows_is_refused_when_it_is_trained() {
    let mut writer = convert(&golden("mamba1-tied"));
    let a = writer.tensors.iter_mut().find(|tensor| tensor.name == "blk.1.ssm_a").unwrap();
    a.bytes[..4].copy_from_slice(&0.5_f32.to_le_bytes());
    let (_kept, path) = file(&writer.bytes());
    let config = Config::open(&path).unwrap();
    let checkpoint = Checkpoint::open(&path, &config).unwrap();
    let error = checkpoint.read("layers.1.mixer.a_log", 0..16, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("0.5, expected one below zero"), "{error}");
}

#[test]
fn a_scale_that_is_no_number_is_refused_and_nothing_is_written() {
    let mut writer = llama();
    let q = writer.tensors.iter_mut().find(|tensor| tensor.name == "blk.2.attn_q.weight").unwrap();
    q.kind = 8;
    q.bytes = vec![0; 64 * 2 * 34];
    // Row 1 of the first head is row 2 of the file: halves of 4 alternate. Its second block.
    q.bytes[(2 * 2 + 1) * 34..][..2].copy_from_slice(&0x7c00_u16.to_le_bytes());
    let (folder, path) = file(&writer.bytes());
    let draft = Draft::open(&path, &BuildOptions::default()).unwrap();
    let error = draft.write(&folder.path().join("m.dmx"), &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("layers.2") && error.contains("[1, 32] is inf"), "{error}");
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [path], "files left");
}
