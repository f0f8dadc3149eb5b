//! What a bundle says about its model.

#[cfg(feature = "alloc")]
use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::check::MAX_WIDTH;
use crate::error::BundleError;
use crate::program::DType;

/// Most tokens that may end a text.
const MAX_EOS: usize = 8;
/// Most rows in a chunk.
const MAX_ROWS: u32 = 1 << 16;

/// Up to 8 token ids, of which [`TokenIds::as_slice`] are in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TokenIds {
    count: u8,
    ids: [u32; MAX_EOS],
}

impl TokenIds {
    /// Most ids it can hold.
    pub const MOST: usize = MAX_EOS;

    /// Holds `ids`; `None` if there are more than [`TokenIds::MOST`].
    #[must_use]
    pub fn new(ids: &[u32]) -> Option<Self> {
        let mut held = Self { count: u8::try_from(ids.len()).ok()?, ids: [0; MAX_EOS] };
        held.ids.get_mut(..ids.len())?.copy_from_slice(ids);
        Some(held)
    }

    /// The ids in use.
    #[must_use]
    pub fn as_slice(&self) -> &[u32] {
        self.ids.get(..usize::from(self.count)).unwrap_or(&self.ids)
    }

    /// Whether `token` is one of them.
    #[must_use]
    pub fn contains(&self, token: u32) -> bool {
        self.as_slice().contains(&token)
    }
}

/// What a bundle says about its model, borrowed from the bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta<'a> {
    /// The family: `mistral`, `llama`, `qwen2`, `qwen3`, `mamba`, `mamba2`. For people; the Program says what to do.
    pub architecture: &'a str,
    /// The model's name, for people.
    pub name: &'a str,
    /// The program that wrote the bundle, with its version.
    pub created_by: &'a str,
    /// How most weights are stored.
    pub quant: DType,
    /// Numbers that were trained.
    pub params: u64,
    /// Width of the residual stream.
    pub d_model: u32,
    /// Layers of the backbone.
    pub n_layers: u32,
    /// Width of the logits; every token is below it.
    pub vocab_size: u32,
    /// Most positions that the model may see; `u32::MAX` where only time sets a limit.
    pub context_max: u32,
    /// Positions to plan for unless asked otherwise.
    pub context: u32,
    /// Rows of a chunk to plan for unless asked otherwise.
    pub max_rows: u32,
    /// How the caches of attention are stored: f32 or f16.
    pub kv: DType,
    /// Put before every text, if the model was trained so.
    pub bos: Option<u32>,
    /// Each ends a text.
    pub eos: TokenIds,
}

impl Meta<'_> {
    /// Checks every field alone; what the Program must agree with is checked with the Program.
    pub(crate) fn check(&self) -> Result<(), BundleError> {
        if self.architecture.is_empty() {
            return Err(BundleError::MetaEmpty { field: "architecture" });
        }
        if !matches!(self.kv, DType::F32 | DType::F16) {
            return Err(BundleError::MetaCache { found: self.kv });
        }
        let last_token = self.vocab_size.saturating_sub(1);
        within("d_model", self.d_model, 1, MAX_WIDTH)?;
        within("n_layers", self.n_layers, 0, u32::from(u16::MAX))?;
        within("vocab_size", self.vocab_size, 1, MAX_WIDTH)?;
        within("context_max", self.context_max, 1, u32::MAX)?;
        within("context", self.context, 1, self.context_max)?;
        within("max_rows", self.max_rows, 1, MAX_ROWS)?;
        within("bos", self.bos.unwrap_or(0), 0, last_token)?;
        within("eos.count", u32::from(self.eos.count), 0, MAX_EOS as u32)?;
        let used = usize::from(self.eos.count);
        for (index, &id) in self.eos.ids.iter().enumerate() {
            within("eos", id, 0, if index < used { last_token } else { 0 })?;
        }
        Ok(())
    }

    /// Copies the strings.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn to_buf(&self) -> MetaBuf {
        MetaBuf {
            architecture: self.architecture.into(),
            name: self.name.into(),
            created_by: self.created_by.into(),
            quant: self.quant,
            params: self.params,
            d_model: self.d_model,
            n_layers: self.n_layers,
            vocab_size: self.vocab_size,
            context_max: self.context_max,
            context: self.context,
            max_rows: self.max_rows,
            kv: self.kv,
            bos: self.bos,
            eos: self.eos,
        }
    }
}

fn within(field: &'static str, found: u32, least: u32, most: u32) -> Result<(), BundleError> {
    match (least..=most).contains(&found) {
        true => Ok(()),
        false => Err(BundleError::MetaRange { field, found, least, most }),
    }
}

/// [`Meta`] with its own strings: what the writer takes.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaBuf {
    /// See [`Meta::architecture`].
    pub architecture: String,
    /// See [`Meta::name`].
    pub name: String,
    /// See [`Meta::created_by`].
    pub created_by: String,
    /// See [`Meta::quant`].
    pub quant: DType,
    /// See [`Meta::params`].
    pub params: u64,
    /// See [`Meta::d_model`].
    pub d_model: u32,
    /// See [`Meta::n_layers`].
    pub n_layers: u32,
    /// See [`Meta::vocab_size`].
    pub vocab_size: u32,
    /// See [`Meta::context_max`].
    pub context_max: u32,
    /// See [`Meta::context`].
    pub context: u32,
    /// See [`Meta::max_rows`].
    pub max_rows: u32,
    /// See [`Meta::kv`].
    pub kv: DType,
    /// See [`Meta::bos`].
    pub bos: Option<u32>,
    /// See [`Meta::eos`].
    pub eos: TokenIds,
}

#[cfg(feature = "alloc")]
impl MetaBuf {
    /// Borrows the strings.
    #[must_use]
    pub fn as_meta(&self) -> Meta<'_> {
        Meta {
            architecture: &self.architecture,
            name: &self.name,
            created_by: &self.created_by,
            quant: self.quant,
            params: self.params,
            d_model: self.d_model,
            n_layers: self.n_layers,
            vocab_size: self.vocab_size,
            context_max: self.context_max,
            context: self.context,
            max_rows: self.max_rows,
            kv: self.kv,
            bos: self.bos,
            eos: self.eos,
        }
    }
}
