//! The vocabulary in a GGUF file as a `tokenizer.json`.
//!
//! | `tokenizer.ggml.model` | becomes |
//! |---|---|
//! | `llama`: pieces with scores | BPE over characters, its merges in the order of the scores; unknown characters as bytes |
//! | `gpt2`: pieces and merges | BPE over bytes; words are cut as `tokenizer.ggml.pre` says |
//! | none | nothing: the bundle takes and gives token ids |
//!
//! Pieces that are no text but a sign (`<s>`, `[INST]`) are special tokens, those that a user has added are found before
//! anything else.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::pre_tokenizers::{self, PreTokenizer};
use super::{Gguf, GgufError};

const MODEL: &str = "tokenizer.ggml.model";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";
const PRE: &str = "tokenizer.ggml.pre";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const ADD_SPACE: &str = "tokenizer.ggml.add_space_prefix";
const TEMPLATE: &str = "tokenizer.chat_template";

/// A space within a piece.
const SPACE: &str = "▁";

/// What a file says about text.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    /// The content of a `tokenizer.json`, if the file has a vocabulary that can be one.
    pub tokenizer: Option<Vec<u8>>,
    /// Jinja source.
    pub chat_template: Option<String>,
    /// Texts start with the bos token.
    pub add_bos: bool,
    /// What a user should know.
    pub warnings: Vec<String>,
}

/// What a piece is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Unknown,
    Sign,
    Added,
    Unused,
    Byte,
}

impl Gguf {
    /// The vocabulary and what goes with it.
    ///
    /// # Errors
    ///
    /// A vocabulary whose parts do not fit together.
    pub fn vocabulary(&self) -> Result<Vocabulary, GgufError> {
        let mut vocabulary = Vocabulary {
            chat_template: self.text(TEMPLATE)?.map(Into::into),
            ..Vocabulary::default()
        };
        let add_bos = self.flag(ADD_BOS)?;
        match self.text(MODEL)?.unwrap_or("none") {
            "llama" => {
                let pieces = Pieces::read(self)?;
                vocabulary.tokenizer = Some(self.scored(&pieces)?);
                vocabulary.add_bos = add_bos.unwrap_or(true);
            }
            "gpt2" => {
                let pieces = Pieces::read(self)?;
                if let Some(pre) = self.pre_tokenizer(&mut vocabulary.warnings)? {
                    vocabulary.tokenizer = Some(self.merged(&pieces, pre)?);
                    vocabulary.add_bos = add_bos.unwrap_or(pre.add_bos);
                }
            }
            "none" | "no_vocab" => vocabulary.warn(self, "has no vocabulary"),
            found => vocabulary
                .warn(self, &format!("has a vocabulary of kind {found:?}, not llama or gpt2")),
        }
        Ok(vocabulary)
    }

    /// How words are cut; nothing if that is not known.
    fn pre_tokenizer(
        &self,
        warnings: &mut Vec<String>,
    ) -> Result<Option<&'static PreTokenizer>, GgufError> {
        let path = self.path.display();
        let Some(name) = self.text(PRE)? else {
            warnings.push(format!("{path}: {PRE} is missing; words are cut as GPT-2 does"));
            return Ok(pre_tokenizers::find("gpt-2"));
        };
        let known = pre_tokenizers::find(name);
        if known.is_none() {
            warnings.push(format!(
                "{path}: {PRE} is {name:?}, which is not known here; the bundle takes and gives token ids only"
            ));
        }
        Ok(known)
    }

    /// A vocabulary of pieces with scores: `SentencePiece`'s BPE.
    fn scored(&self, pieces: &Pieces<'_>) -> Result<Vec<u8>, GgufError> {
        let scores = self.needed(SCORES, self.list(SCORES)?, "a score for each token")?;
        self.same_length(SCORES, scores.len(), pieces)?;
        let add_space = self.flag(ADD_SPACE)?.unwrap_or(true);
        let mut normalizers =
            vec![json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})];
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if add_space {
            normalizers.insert(0, json!({"type": "Prepend", "prepend": SPACE}));
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        let unknown = pieces.of_kind(Kind::Unknown).next().map(|(_, piece)| piece);
        let document = json!({
            "version": "1.0",
            "added_tokens": pieces.added(),
            "normalizer": {"type": "Sequence", "normalizers": normalizers},
            "pre_tokenizer": null,
            "post_processor": null,
            "decoder": {"type": "Sequence", "decoders": decoders},
            "model": {
                "type": "BPE",
                "unk_token": unknown,
                "fuse_unk": true,
                "byte_fallback": pieces.of_kind(Kind::Byte).next().is_some(),
                "vocab": pieces.vocab(),
                "merges": pieces.merges(&scores),
            },
        });
        Ok(document.to_string().into_bytes())
    }

    /// A vocabulary of pieces and merges: BPE over bytes.
    fn merged(&self, pieces: &Pieces<'_>, pre: &PreTokenizer) -> Result<Vec<u8>, GgufError> {
        let merges = self.needed(MERGES, self.texts(MERGES)?, "a list of pairs")?;
        let mut pairs = Vec::with_capacity(merges.len());
        for merge in merges {
            // The first half may be a space itself in some old files.
            let cut = merge.char_indices().skip(1).find(|(_, char)| *char == ' ');
            let pair = cut.map(|(at, _)| (&merge[..at], &merge[at + 1..]));
            pairs.push(pair.ok_or_else(|| self.wrong(MERGES, format!("{merge:?}"), "a pair"))?);
        }
        let split = |expression: &&str| json!({"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false});
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
        let cuts: Vec<Value> = pre.expressions.iter().map(split).chain([bytes.clone()]).collect();
        let document = json!({
            "version": "1.0",
            "added_tokens": pieces.added(),
            "normalizer": null,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": cuts},
            "post_processor": null,
            "decoder": bytes,
            "model": {
                "type": "BPE",
                "ignore_merges": pre.ignore_merges,
                "vocab": pieces.vocab(),
                "merges": pairs,
            },
        });
        Ok(document.to_string().into_bytes())
    }

    fn same_length(&self, key: &str, found: usize, pieces: &Pieces<'_>) -> Result<(), GgufError> {
        let expected = pieces.texts.len();
        if found == expected {
            return Ok(());
        }
        Err(self.wrong(
            key,
            format!("a list of {found}"),
            format!("one of {expected}, as {TOKENS}"),
        ))
    }
}

impl Vocabulary {
    fn warn(&mut self, file: &Gguf, what: &str) {
        let path = file.path.display();
        self.warnings.push(format!("{path}: {what}; the bundle takes and gives token ids only"));
    }
}

/// The pieces of a vocabulary; the index of each is its id.
struct Pieces<'g> {
    texts: Vec<&'g str>,
    kinds: Vec<Kind>,
}

impl<'g> Pieces<'g> {
    fn read(file: &'g Gguf) -> Result<Self, GgufError> {
        let texts = file.needed(TOKENS, file.texts(TOKENS)?, "a list of pieces")?;
        let kinds = match file.list(TYPES)? {
            Some(types) => types.iter().map(|number| kind(*number as u32)).collect(),
            None => vec![Kind::Text; texts.len()],
        };
        let pieces = Self { texts, kinds };
        file.same_length(TYPES, pieces.kinds.len(), &pieces)?;
        Ok(pieces)
    }

    fn of_kind(&self, wanted: Kind) -> impl Iterator<Item = (usize, &'g str)> {
        let pieces = self.texts.iter().copied().enumerate();
        pieces.filter(move |(id, _)| self.kinds[*id] == wanted)
    }

    /// Pieces to ids, in an order, so that the same file makes the same bundle; of two that are the same the first counts.
    fn vocab(&self) -> BTreeMap<&'g str, usize> {
        self.texts.iter().enumerate().rev().map(|(id, piece)| (*piece, id)).collect()
    }

    /// Pieces that are found in a text before anything else.
    fn added(&self) -> Vec<Value> {
        let entry = |(id, piece): (usize, &&str)| {
            let is_special = match self.kinds[id] {
                Kind::Sign | Kind::Unknown => true,
                Kind::Added => false,
                Kind::Text | Kind::Unused | Kind::Byte => return None,
            };
            Some(json!({
                "id": id,
                "content": piece,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                // One that has spaces in the vocabulary's way is found where texts have them so too.
                "normalized": !is_special && piece.contains(SPACE),
                "special": is_special,
            }))
        };
        self.texts.iter().enumerate().filter_map(entry).collect()
    }

    /// Which pieces become one, best first: every way to cut a piece into two others, in the order of its score.
    fn merges(&self, scores: &[f64]) -> Vec<(&'g str, &'g str)> {
        let ids = self.vocab();
        let mut merges = Vec::new();
        for (id, piece) in self.of_kind(Kind::Text) {
            for (at, _) in piece.char_indices().skip(1) {
                let (left, right) = piece.split_at(at);
                if let (Some(left_id), Some(right_id)) = (ids.get(left), ids.get(right)) {
                    merges.push((id, (*left_id, *right_id), (left, right)));
                }
            }
        }
        merges.sort_by(|a, b| scores[b.0].total_cmp(&scores[a.0]).then(a.1.cmp(&b.1)));
        merges.into_iter().map(|(_, _, pair)| pair).collect()
    }
}

fn kind(number: u32) -> Kind {
    match number {
        2 => Kind::Unknown,
        3 => Kind::Sign,
        4 => Kind::Added,
        5 => Kind::Unused,
        6 => Kind::Byte,
        _ => Kind::Text,
    }
}
