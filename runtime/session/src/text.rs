//! Tokens ⇄ text, with the tokenizer in the bundle.

use anyhow::{Context, Result, anyhow};
use dynamax_bundle::{Bundle, SectionKind};
use tokenizers::Tokenizer;

/// The tokenizer of a bundle; a bundle may lack one.
#[derive(Debug)]
pub struct Text {
    tokenizer: Option<Tokenizer>,
    bos: Option<u32>,
}

impl Text {
    /// Reads the tokenizer of `bundle`.
    ///
    /// # Errors
    ///
    /// A tokenizer that cannot be read.
    pub fn of(bundle: &Bundle<'_>) -> Result<Self> {
        let parse = |bytes| Tokenizer::from_bytes(bytes).map_err(|error| anyhow!("{error}"));
        let tokenizer = bundle.find(SectionKind::Tokenizer).map(parse).transpose();
        let tokenizer =
            tokenizer.context("the bundle's tokenizer cannot be read: build the bundle again")?;
        Ok(Self { tokenizer, bos: bundle.meta().bos })
    }

    /// Remembers no words from here on: a tokenizer keeps how it has cut up to ten thousand of them, and memory would grow
    /// with what is said, for hours.
    #[must_use]
    pub fn without_memory(mut self) -> Self {
        if let Some(tokenizer) = &mut self.tokenizer {
            let mut model = tokenizer.get_model().clone();
            model.resize_cache(0);
            tokenizer.with_model(model);
        }
        self
    }

    /// The ids of a prompt, with the bos token where the model wants one.
    ///
    /// # Errors
    ///
    /// A bundle without a tokenizer.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.ids(text, true)?;
        if let Some(bos) = self.bos
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// The ids of a text that says itself where special tokens stand, as one from a chat template does.
    ///
    /// # Errors
    ///
    /// A bundle without a tokenizer.
    pub fn encode_as_written(&self, text: &str) -> Result<Vec<u32>> {
        self.ids(text, false)
    }

    fn ids(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        let tokenizer = self.tokenizer.as_ref().context(
            "the bundle has no tokenizer, so it cannot read text: give token ids with --tokens-in, or build it from a \
             directory with a tokenizer.json",
        )?;
        let encoding = tokenizer
            .encode(text, add_special_tokens)
            .map_err(|error| anyhow!("the prompt cannot be tokenized: {error}"))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// How the tokenizer writes `id`, special tokens included.
    #[must_use]
    pub fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.as_ref()?.id_to_token(id)
    }

    /// How the token is written that texts start with: what the bundle says, or else what the tokenizer puts first.
    #[must_use]
    pub fn bos_token(&self) -> Option<String> {
        let first = || self.ids("", true).ok()?.first().copied();
        self.token(self.bos.or_else(first)?)
    }

    /// The text of some ids; ids without text are left out.
    #[must_use]
    pub fn decode(&self, ids: &[u32]) -> String {
        self.tokenizer
            .as_ref()
            .and_then(|tokenizer| tokenizer.decode(ids, true).ok())
            .unwrap_or_default()
    }
}

/// Turns a stream of ids into a stream of text: a character may need several ids.
#[derive(Debug)]
pub struct TextStream<'t> {
    text: &'t Text,
    ids: Vec<u32>,
    /// Ids before this one are settled and only give context.
    settled: usize,
    shown: usize,
}

/// Ids of context that are decoded with a new one, for the spaces between words.
const CONTEXT_IDS: usize = 8;

impl<'t> TextStream<'t> {
    /// Starts behind `prompt`.
    #[must_use]
    pub fn new(text: &'t Text, prompt: &[u32]) -> Self {
        let ids = prompt[prompt.len().saturating_sub(CONTEXT_IDS)..].to_vec();
        let shown = text.decode(&ids).len();
        Self { text, ids, settled: 0, shown }
    }

    /// The text that `id` completes; empty while a character is incomplete.
    pub fn push(&mut self, id: u32) -> String {
        if self.text.tokenizer.is_none() {
            return format!("{id} ");
        }
        self.ids.push(id);
        let text = self.text.decode(&self.ids[self.settled..]);
        if text.ends_with('\u{fffd}') || !text.is_char_boundary(self.shown.min(text.len())) {
            return String::new();
        }
        let new = text[self.shown.min(text.len())..].to_owned();
        self.shown = text.len();
        if self.ids.len() - self.settled > 4 * CONTEXT_IDS {
            self.settled = self.ids.len() - CONTEXT_IDS;
            self.shown = self.text.decode(&self.ids[self.settled..]).len();
        }
        new
    }
}
