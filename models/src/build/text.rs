//! The texts that travel with a model: its tokenizer and its chat template.

use std::path::{Path, PathBuf};

use dynamax_bundle::SectionKind;
use serde_json::Value;
use tokenizers::Tokenizer;

use crate::config::Config;
use crate::gguf::GgufError;
use crate::gguf::{Gguf, Vocabulary};

/// A vocabulary is often padded for the matrix's sake; more than this share of unknown ids is another model's.
const MOST_UNKNOWN_SHARE: usize = 16;

/// Why a tokenizer or a template was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The vocabulary in a GGUF file is broken.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A file cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// Not a `tokenizer.json`.
    #[error("{}: not a tokenizer that can be read: {error}; save it again with the tokenizers library", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What the library said.
        error: String,
    },
    /// Not JSON.
    #[error("{}: not JSON: {error}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        error: serde_json::Error,
    },
    /// The tokenizer makes ids that the model does not have.
    #[error("{}: makes token ids up to {last}, the model has {vocab_size} (config.json: vocab_size); use the \
             tokenizer that the model was trained with", path.display())]
    TooManyIds {
        /// The file.
        path: PathBuf,
        /// Largest id.
        last: u32,
        /// Ids of the model.
        vocab_size: usize,
    },
    /// The tokenizer knows too few of the model's ids.
    #[error("{}: knows {known} of the model's {vocab_size} token ids; use the tokenizer that the model was trained \
             with", path.display())]
    TooFewIds {
        /// The file.
        path: PathBuf,
        /// Ids it knows.
        known: usize,
        /// Ids of the model.
        vocab_size: usize,
    },
    /// A special token is not in the tokenizer.
    #[error("{}: has no token {id}, which config.json names as {field}; use the tokenizer that the model was \
             trained with", path.display())]
    Special {
        /// The file.
        path: PathBuf,
        /// The id.
        id: u32,
        /// `bos_token_id` or `eos_token_id`.
        field: &'static str,
    },
}

/// The texts of a checkpoint.
#[derive(Clone, Debug, Default)]
pub struct TextFiles {
    /// `tokenizer.json`.
    pub tokenizer: Option<Vec<u8>>,
    /// Jinja source.
    pub chat_template: Option<String>,
    /// Texts start with the bos token.
    pub add_bos: bool,
    /// What a user should know.
    pub warnings: Vec<String>,
}

impl TextFiles {
    /// Reads `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja`, those that there are, or what a GGUF file
    /// has in their place.
    ///
    /// # Errors
    ///
    /// Files that cannot be read, and a tokenizer that does not fit the model.
    pub fn open(dir: &Path, config: &Config) -> Result<Self, TextError> {
        if Gguf::is_one(dir) {
            return Self::of_gguf(&Gguf::open(dir)?, config);
        }
        let mut texts = Self::default();
        if let Some(bytes) = read(&dir.join("tokenizer.json"))? {
            texts.check(&dir.join("tokenizer.json"), &bytes, config)?;
            texts.tokenizer = Some(bytes);
        } else {
            let path = dir.join("tokenizer.json");
            texts.warnings.push(format!(
                "{}: not there; the bundle takes and gives token ids only",
                path.display()
            ));
        }
        let path = dir.join("tokenizer_config.json");
        if let Some(bytes) = read(&path)? {
            let json: Value =
                serde_json::from_slice(&bytes).map_err(|error| TextError::Json { path, error })?;
            texts.add_bos = json["add_bos_token"].as_bool().unwrap_or(false);
            texts.chat_template = chat_template(&json["chat_template"]);
        }
        if let Some(bytes) = read(&dir.join("chat_template.jinja"))? {
            texts.chat_template = Some(String::from_utf8_lossy(&bytes).into_owned());
        }
        Ok(texts)
    }

    fn of_gguf(file: &Gguf, config: &Config) -> Result<Self, TextError> {
        let Vocabulary { tokenizer, chat_template, add_bos, warnings } = file.vocabulary()?;
        let mut texts = Self { tokenizer, chat_template, add_bos, warnings };
        if let Some(bytes) = texts.tokenizer.take() {
            texts.check(file.path(), &bytes, config)?;
            texts.tokenizer = Some(bytes);
        }
        Ok(texts)
    }

    /// Checks that a tokenizer speaks the model's ids.
    fn check(&mut self, path: &Path, bytes: &[u8], config: &Config) -> Result<(), TextError> {
        let tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| TextError::Tokenizer {
            path: path.into(),
            error: error.to_string(),
        })?;
        let (vocab, vocab_size) = (tokenizer.get_vocab(true), config.vocab_size());
        let last = vocab.values().copied().max().unwrap_or(0);
        if last as usize >= vocab_size {
            return Err(TextError::TooManyIds { path: path.into(), last, vocab_size });
        }
        let unknown = vocab_size.saturating_sub(vocab.len());
        if unknown > vocab_size / MOST_UNKNOWN_SHARE {
            return Err(TextError::TooFewIds { path: path.into(), known: vocab.len(), vocab_size });
        }
        let bos = config.bos().map(|id| (id, "bos_token_id"));
        let special = bos.into_iter().chain(config.eos().iter().map(|id| (*id, "eos_token_id")));
        for (id, field) in special {
            if tokenizer.id_to_token(id).is_none() {
                return Err(TextError::Special { path: path.into(), id, field });
            }
        }
        if unknown > 0 {
            let path = path.display();
            self.warnings
                .push(format!("{path}: {unknown} of the model's {vocab_size} ids have no text"));
        }
        Ok(())
    }

    pub(super) fn into_sections(self) -> Vec<(SectionKind, Vec<u8>)> {
        let tokenizer = self.tokenizer.map(|bytes| (SectionKind::Tokenizer, bytes));
        let template =
            self.chat_template.map(|text| (SectionKind::ChatTemplate, text.into_bytes()));
        tokenizer.into_iter().chain(template).collect()
    }
}

/// A template is a string, or a list of named ones of which `default` is meant.
fn chat_template(json: &Value) -> Option<String> {
    if let Some(template) = json.as_str() {
        return Some(template.into());
    }
    let named = json.as_array()?.iter().find(|entry| entry["name"] == "default")?;
    named["template"].as_str().map(Into::into)
}

/// The bytes of a file; nothing if there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, TextError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(TextError::Read { path: path.into(), error }),
    }
}
