//! The vocabulary of a file cuts texts as the tokenizer does that the model was trained with.

use std::path::{Path, PathBuf};

use dynamax_models::gguf::{Gguf, Vocabulary};
use serde_json::Value as Json;
use tokenizers::Tokenizer;

use super::file;
use super::writer::{Value, Writer};

/// Numbers of the kinds of pieces.
const TEXT: i32 = 1;
const UNKNOWN: i32 = 2;
const SIGN: i32 = 3;
const ADDED: i32 = 4;
const BYTE: i32 = 6;

type Pieces = Vec<(String, f32, i32)>;

fn writer(model: &str, pieces: &Pieces) -> Writer {
    let mut writer = Writer::default();
    writer.key("general.architecture", Value::Text("llama".into()));
    writer.key("tokenizer.ggml.model", Value::Text(model.into()));
    let texts = pieces.iter().map(|(text, _, _)| text.clone()).collect();
    writer.key("tokenizer.ggml.tokens", Value::Texts(texts));
    let scores = pieces.iter().map(|(_, score, _)| *score).collect();
    writer.key("tokenizer.ggml.scores", Value::F32s(scores));
    let kinds = pieces.iter().map(|(_, _, kind)| *kind).collect();
    writer.key("tokenizer.ggml.token_type", Value::I32s(kinds));
    writer
}

fn vocabulary(writer: &Writer) -> Vocabulary {
    let (_kept, path) = file(&writer.bytes());
    Gguf::open(&path).unwrap().vocabulary().unwrap()
}

fn tokenizer(vocabulary: Vocabulary) -> Tokenizer {
    let json = vocabulary.tokenizer.unwrap_or_else(|| panic!("{:?}", vocabulary.warnings));
    Tokenizer::from_bytes(json).unwrap()
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text, true).unwrap().get_ids().to_vec()
}

/// Pieces with scores: three signs, a byte, letters, and what they become.
fn scored() -> Pieces {
    let text = |text: &str, score: f32| (text.to_owned(), score, TEXT);
    let mut pieces = vec![
        ("<unk>".into(), 0.0, UNKNOWN),
        ("<s>".into(), 0.0, SIGN),
        ("</s>".into(), 0.0, SIGN),
        ("[tool]".into(), 0.0, ADDED),
    ];
    pieces.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), 0.0, BYTE)));
    // 260 to 264: "ab" is better than "bc", and both come before "abc" and "▁a".
    pieces.extend([text("ab", -1.0), text("bc", -2.0), text("abc", -3.0), text("▁a", -4.0)]);
    // 264 to 267.
    pieces.extend([text("▁", -9.0), text("a", -9.0), text("b", -9.0), text("c", -9.0)]);
    pieces
}

#[test]
fn pieces_with_scores_join_in_the_order_of_their_scores() {
    let vocabulary = vocabulary(&writer("llama", &scored()));
    assert!(vocabulary.add_bos, "such vocabularies start with bos");
    let tokenizer = tokenizer(vocabulary);
    for (text, expected) in [
        // "▁abc": "ab" joins first, then "abc" from "ab" and "c"; "▁a" has no "a" left.
        ("abc", [264_u32, 262].as_slice()),
        ("bcab", &[264, 261, 260]),
        ("a", &[263]),
        ("", &[]),
        ("a a", &[263, 263]),
        // An é is two bytes, 0xc3 and 0xa9, and no character of the vocabulary.
        ("é", &[264, 4 + 0xc3, 4 + 0xa9]),
        ("<s>ab", &[1, 264, 260]),
        ("c[tool]c", &[264, 267, 3, 264, 267]),
    ] {
        assert_eq!(ids(&tokenizer, text), expected, "{text:?}");
    }
    assert_eq!(tokenizer.decode(&[264, 262, 4 + 0xc3, 4 + 0xa9], true).unwrap(), "abcé");
}

#[test]
fn a_space_in_front_and_a_token_in_front_are_as_the_file_says() {
    let mut writer = writer("llama", &scored());
    writer.key("tokenizer.ggml.add_space_prefix", Value::Flag(false));
    writer.key("tokenizer.ggml.add_bos_token", Value::Flag(false));
    writer.key("tokenizer.chat_template", Value::Text("{{ messages }}".into()));
    let vocabulary = vocabulary(&writer);
    assert!(!vocabulary.add_bos, "the file says so");
    assert_eq!(vocabulary.chat_template.as_deref(), Some("{{ messages }}"), "template");
    let tokenizer = tokenizer(vocabulary);
    assert_eq!(ids(&tokenizer, "abc"), [262], "no space");
    assert_eq!(tokenizer.decode(&[264, 262], true).unwrap(), " abc", "a space that is one");
}

/// Pieces over bytes; a space is `Ġ`.
fn merged(pre: &str) -> Writer {
    let texts = ["a", "b", "1", "Ġ", "ab", "Ġa", "11", "Ġab", "<|end|>", "aab"];
    let kind = |text: &&str| if text.starts_with('<') { SIGN } else { TEXT };
    let pieces = texts.iter().map(|text| ((*text).to_owned(), 0.0, kind(text))).collect();
    let mut writer = writer("gpt2", &pieces);
    writer.key("tokenizer.ggml.pre", Value::Text(pre.into()));
    let merges = ["Ġ a", "a b", "Ġa b", "1 1"].map(Into::into).to_vec();
    writer.key("tokenizer.ggml.merges", Value::Texts(merges));
    writer
}

#[test]
fn pieces_with_merges_are_cut_as_their_kind_says() {
    for (pre, text, expected) in [
        // "ab", " ab", "11": words with the space before them.
        ("gpt-2", "ab ab11", [4_u32, 7, 6].as_slice()),
        ("qwen2", "ab ab11", &[4, 7, 2, 2]),
        ("smollm", "11", &[2, 2]),
        ("llama-bpe", "1111", &[6, 2, 2]),
        // A word that is a token, though no merges lead to it.
        ("llama-bpe", "aab", &[9]),
        ("gpt-2", "aab", &[0, 4]),
        ("gpt-2", "a<|end|>b", &[0, 8, 1]),
    ] {
        assert_eq!(ids(&tokenizer(vocabulary(&merged(pre))), text), expected, "{pre}: {text:?}");
    }
    assert!(vocabulary(&merged("llama-bpe")).add_bos, "Llama 3 starts with bos");
    assert!(!vocabulary(&merged("gpt-2")).add_bos, "GPT-2 does not");
    assert_eq!(tokenizer(vocabulary(&merged("gpt-2"))).decode(&[4, 7], true).unwrap(), "ab ab");
}

#[test]
fn vocabularies_that_are_not_known_are_left_out_with_a_warning() {
    for (writer, part) in [
        (merged("who-knows"), "who-knows"),
        (writer("bert", &scored()), "bert"),
        (writer("no_vocab", &scored()), "no vocabulary"),
    ] {
        let vocabulary = vocabulary(&writer);
        assert!(vocabulary.tokenizer.is_none(), "{part}");
        let warnings = vocabulary.warnings.join("\n");
        assert!(warnings.contains(part) && warnings.contains("token ids only"), "{warnings}");
    }
}

#[test]
fn vocabularies_whose_parts_do_not_fit_are_refused() {
    let mut short = writer("llama", &scored());
    short.key("tokenizer.ggml.scores", Value::F32s(vec![0.0; 3]));
    let mut none = merged("gpt-2");
    none.keys.retain(|(key, _)| !key.ends_with("merges"));
    let mut odd = merged("gpt-2");
    odd.key("tokenizer.ggml.merges", Value::Texts(vec!["ab".into()]));
    for (writer, part) in [(short, "a list of 3"), (none, "merges is missing"), (odd, "\"ab\"")] {
        let (_kept, path) = file(&writer.bytes());
        let error = Gguf::open(&path).unwrap().vocabulary().unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("model.gguf"), "{error}");
    }
}

/// Golden tokenizations, if they are there.
fn shared(name: &str) -> Option<PathBuf> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/tokenizers").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: no {}", path.display());
    None
}

/// Cuts and joins every text as the golden file says.
fn agrees(name: &str, tokenizer: &Tokenizer) {
    let golden = std::fs::read(shared(name).unwrap().join("golden_tokenization.json")).unwrap();
    let golden: Json = serde_json::from_slice(&golden).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() > 10, "cases of {name}");
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let expected: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        assert_eq!(ids(tokenizer, text), expected, "{name}: {text:?}");
        let decoded = tokenizer.decode(&expected, false).unwrap();
        assert_eq!(decoded, case["decoded"].as_str().unwrap(), "{name}: {text:?} back");
    }
}

/// The pieces of a `SentencePiece` model: field 1, each with text (1), score (2) and kind (3).
fn sentence_pieces(bytes: &[u8]) -> Pieces {
    fields(bytes)
        .filter(|(field, _)| *field == 1)
        .map(|(_, piece)| {
            let mut found = (String::new(), 0.0, TEXT);
            for (field, content) in fields(piece) {
                match field {
                    1 => found.0 = String::from_utf8(content.to_vec()).unwrap(),
                    2 => found.1 = f32::from_le_bytes(content.try_into().unwrap()),
                    3 => found.2 = i32::from(content[0]),
                    _ => {}
                }
            }
            found
        })
        .collect()
}

/// The fields of a protocol buffer.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    fn number(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let tag = number(&mut bytes);
        let len = match tag & 7 {
            0 => {
                let mut rest = bytes;
                number(&mut rest);
                bytes.len() - rest.len()
            }
            1 => 8,
            2 => number(&mut bytes) as usize,
            _ => 4,
        };
        let (content, rest) = bytes.split_at(len);
        bytes = rest;
        Some((tag >> 3, content))
    })
}

#[test]
fn mistral_is_cut_as_sentencepiece_cuts_it() {
    for name in ["mistral-v1", "mistral-v3"] {
        let Some(folder) = shared(name) else { return };
        let pieces = sentence_pieces(&std::fs::read(folder.join("tokenizer.model")).unwrap());
        assert!(pieces.len() >= 32_000, "{name}: {} pieces", pieces.len());
        agrees(name, &tokenizer(vocabulary(&writer("llama", &pieces))));
    }
}

#[test]
fn gpt2_is_cut_as_its_own_tokenizer_cuts_it() {
    let Some(folder) = shared("gpt2") else { return };
    let vocab: std::collections::HashMap<String, usize> =
        serde_json::from_slice(&std::fs::read(folder.join("vocab.json")).unwrap()).unwrap();
    let mut pieces = vec![(String::new(), 0.0, TEXT); vocab.len()];
    vocab.into_iter().for_each(|(text, id)| pieces[id].0 = text);
    pieces[50_256].2 = SIGN;
    let merges = std::fs::read_to_string(folder.join("merges.txt")).unwrap();
    let merges = merges.lines().filter(|line| !line.starts_with("#version")).map(Into::into);
    let mut writer = writer("gpt2", &pieces);
    writer.key("tokenizer.ggml.pre", Value::Text("gpt-2".into()));
    writer.key("tokenizer.ggml.merges", Value::Texts(merges.collect()));
    let tokenizer = tokenizer(vocabulary(&writer));
    agrees("gpt2", &tokenizer);

    // The vectors that llama.cpp is tested with.
    let folder = folder.parent().unwrap();
    let texts = std::fs::read_to_string(folder.join("ggml-vocab.inp")).unwrap();
    let expected = std::fs::read_to_string(folder.join("ggml-vocab-gpt-2.out")).unwrap();
    let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
    let expected: Vec<&str> = expected.split('\n').collect();
    assert!(texts.len() > 30, "{} texts", texts.len());
    for (text, expected) in texts.into_iter().zip(expected) {
        let expected: Vec<u32> =
            expected.split_whitespace().map(|id| id.parse().unwrap()).collect();
        assert_eq!(ids(&tokenizer, text), expected, "{text:?}");
    }
}

#[test]
fn a_vocabulary_that_llama_cpp_wrote_is_cut_as_gpt_neox_cuts_it() {
    let Some(folder) = shared("gpt-neox-20b") else { return };
    let file = Gguf::open(&folder.join("ggml-vocab-gpt-neox.gguf")).unwrap();
    let vocabulary = file.vocabulary().unwrap();
    assert!(vocabulary.warnings[0].contains("tokenizer.ggml.pre is missing"), "{vocabulary:?}");
    agrees("gpt-neox-20b", &tokenizer(vocabulary));
}
