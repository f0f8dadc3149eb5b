//! What shape a model has: read from `config.json`, checked once, and written again after training.
//!
//! Names are this project's, not Hugging Face's. Reading is as lenient as transformers 4 and 5 together about how a
//! thing is written, and strict about what it says.

mod error;
mod fields;
mod mamba;
mod read;
mod transformer;
mod write;

use std::path::Path;

use serde_json::{Map, Value};

use crate::gguf::Gguf;

pub use error::{ConfigError, SUPPORTED};
pub(crate) use fields::Names;
pub use mamba::{Mamba2Config, MambaConfig, TimeStep};
pub use transformer::{Rope, RopeScaling, TransformerConfig, TransformerKind};

/// Tokens with a meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Begins a text.
    pub bos: Option<u32>,
    /// Each of these ends a text.
    pub eos: Vec<u32>,
}

/// The shape of any backbone.
#[derive(Clone, Debug, PartialEq)]
pub enum Config {
    /// Llama, Mistral, Qwen 2, Qwen 3.
    Transformer(TransformerConfig),
    /// Mamba.
    Mamba(MambaConfig),
    /// Mamba-2.
    Mamba2(Mamba2Config),
}

impl Config {
    /// Reads `config.json` in `dir`, and the tokens that end a text from `generation_config.json` if it names any. A GGUF
    /// file says both itself.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, an architecture that is not supported, or a field that does not fit.
    pub fn open(dir: &Path) -> Result<Self, ConfigError> {
        if Gguf::is_one(dir) {
            return Gguf::open(dir)?.config();
        }
        let mut config = Self::read(&dir.join("config.json"))?;
        let generation = dir.join("generation_config.json");
        if generation.exists() {
            let eos = fields::Fields::open(&generation)?
                .token_ids("eos_token_id", config.vocab_size())?;
            if !eos.is_empty() {
                config.tokens_mut().eos = eos;
            }
        }
        Ok(config)
    }

    /// Reads one file.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        read::config(&fields::Fields::open(path)?)
    }

    /// Parses the text of a `config.json`.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        read::config(&fields::Fields::parse(Path::new("config.json"), text)?)
    }

    /// Reads the fields of a `config.json` that another file gives.
    pub(crate) fn of_fields(
        path: &Path,
        map: Map<String, Value>,
        names: Names,
    ) -> Result<Self, ConfigError> {
        read::config(&fields::Fields::named(path, map, names))
    }

    /// The text of a `config.json` that transformers reads, and this module.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{:#}\n", write::json(self))
    }

    /// The name of the architecture, as `config.json` has it.
    #[must_use]
    pub fn architecture(&self) -> &'static str {
        match self {
            Self::Transformer(config) => match config.kind {
                TransformerKind::Llama => "llama",
                TransformerKind::Mistral => "mistral",
                TransformerKind::Qwen2 => "qwen2",
                TransformerKind::Qwen3 => "qwen3",
            },
            Self::Mamba(_) => "mamba",
            Self::Mamba2(_) => "mamba2",
        }
    }

    /// Width of the residual stream.
    #[must_use]
    pub fn d_model(&self) -> usize {
        match self {
            Self::Transformer(config) => config.d_model,
            Self::Mamba(config) => config.d_model,
            Self::Mamba2(config) => config.d_model,
        }
    }

    /// Layers.
    #[must_use]
    pub fn n_layers(&self) -> usize {
        match self {
            Self::Transformer(config) => config.n_layers,
            Self::Mamba(config) => config.n_layers,
            Self::Mamba2(config) => config.n_layers,
        }
    }

    /// Tokens in the table.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Transformer(config) => config.vocab_size,
            Self::Mamba(config) => config.vocab_size,
            Self::Mamba2(config) => config.vocab_size,
        }
    }

    /// Added to the mean square by every norm.
    #[must_use]
    pub fn norm_eps(&self) -> f64 {
        match self {
            Self::Transformer(config) => config.norm_eps,
            Self::Mamba(config) => config.norm_eps,
            Self::Mamba2(config) => config.norm_eps,
        }
    }

    /// The head is the token table.
    #[must_use]
    pub fn is_tied(&self) -> bool {
        match self {
            Self::Transformer(config) => config.is_tied,
            Self::Mamba(config) => config.is_tied,
            Self::Mamba2(config) => config.is_tied,
        }
    }

    /// Longest context in tokens; `u32::MAX` where nothing bounds it.
    #[must_use]
    pub fn context_max(&self) -> u32 {
        match self {
            Self::Transformer(config) => u32::try_from(config.context_max).unwrap_or(u32::MAX),
            Self::Mamba(_) | Self::Mamba2(_) => u32::MAX,
        }
    }

    /// Begins a text, if the model knows such a token.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.tokens().bos
    }

    /// Each of these ends a text.
    #[must_use]
    pub fn eos(&self) -> &[u32] {
        &self.tokens().eos
    }

    /// Tokens with a meaning.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        match self {
            Self::Transformer(config) => &config.tokens,
            Self::Mamba(config) => &config.tokens,
            Self::Mamba2(config) => &config.tokens,
        }
    }

    fn tokens_mut(&mut self) -> &mut Tokens {
        match self {
            Self::Transformer(config) => &mut config.tokens,
            Self::Mamba(config) => &mut config.tokens,
            Self::Mamba2(config) => &mut config.tokens,
        }
    }
}
