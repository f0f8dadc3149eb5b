//! GGUF: a whole model in one file, as llama.cpp reads it. Configuration, vocabulary and weights are keys and tensors.
//!
//! ```text
//! "GGUF" version tensors keys │ key type value … │ name dimensions type offset … │ padding │ tensors
//! ```
//!
//! A file is untrusted input. All of it is checked when it is opened, against the bytes that are there; what is kept are
//! positions in the mapped file, so that a file can claim any size and still takes little memory.

mod config;
mod cursor;
mod error;
mod names;
mod parse;
mod pre_tokenizers;
mod value;
mod vocabulary;

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::checkpoint::{Encoding, map};

pub use error::GgufError;
pub(crate) use names::{Tensor, tensors};
pub use vocabulary::Vocabulary;

use value::Value;

/// A mapped file whose keys and tensors lie within it.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    map: Mmap,
    keys: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Stored>,
}

/// Where a tensor lies.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// How its numbers are written.
    pub(crate) encoding: Encoding,
    /// Rows first, as everywhere here; the file has them last.
    pub(crate) shape: Vec<usize>,
    /// Its bytes in the file.
    pub(crate) bytes: Range<usize>,
}

impl Gguf {
    /// True for a file that is named, or begins, as one of these.
    #[must_use]
    pub fn is_one(path: &Path) -> bool {
        use std::io::Read;
        let is_named = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
        let mut magic = [0; 4];
        let mut begins = || File::open(path)?.read_exact(&mut magic);
        path.is_file() && (is_named || begins().is_ok_and(|()| magic == parse::MAGIC))
    }

    /// Maps a file and checks its structure.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, is cut off, or does not say what it must.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let read = |error| GgufError::Read { path: path.into(), error };
        let map = map(&File::open(path).map_err(read)?).map_err(read)?;
        let (keys, tensors) =
            parse::parse(&map).map_err(|what| GgufError::Broken { path: path.into(), what })?;
        let gguf = Self { path: path.into(), map, keys, tensors };
        if gguf.unsigned("split.count")?.is_some_and(|count| count > 1) {
            return Err(gguf.wrong(
                "split.count",
                "more than 1",
                "a whole model; join the parts first",
            ));
        }
        Ok(gguf)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The architecture, which is also the prefix of its keys.
    ///
    /// # Errors
    ///
    /// A file that does not name one.
    pub fn architecture(&self) -> Result<&str, GgufError> {
        self.needed("general.architecture", self.text("general.architecture")?, "a name")
    }

    /// A tensor, if it is there.
    pub(crate) fn tensor(&self, name: &str) -> Option<&Stored> {
        self.tensors.get(name)
    }

    /// Names of all tensors.
    pub(crate) fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Gives the map away, once nothing else is wanted of the file.
    pub(crate) fn into_map(self) -> Mmap {
        self.map
    }

    /// The numbers of a small tensor.
    fn numbers(&self, name: &str) -> Option<Vec<f32>> {
        let stored = self.tensor(name)?;
        let mut numbers = Vec::new();
        stored.encoding.decode(self.map.get(stored.bytes.clone())?, &mut numbers);
        Some(numbers)
    }

    /// A whole number that is not negative.
    fn unsigned(&self, key: &str) -> Result<Option<u64>, GgufError> {
        let number = |value: &Value| match *value {
            Value::Unsigned(number) => Some(number),
            Value::Signed(number) => u64::try_from(number).ok(),
            _ => None,
        };
        self.value(key, number, "a whole number that is not negative")
    }

    /// A number.
    fn float(&self, key: &str) -> Result<Option<f64>, GgufError> {
        let number = |value: &Value| match *value {
            Value::Float(number) => Some(number),
            Value::Unsigned(number) => Some(number as f64),
            Value::Signed(number) => Some(number as f64),
            _ => None,
        };
        self.value(key, number, "a number")
    }

    /// True or false.
    fn flag(&self, key: &str) -> Result<Option<bool>, GgufError> {
        let flag = |value: &Value| match *value {
            Value::Flag(flag) => Some(flag),
            _ => None,
        };
        self.value(key, flag, "true or false")
    }

    /// A text.
    fn text(&self, key: &str) -> Result<Option<&str>, GgufError> {
        let text = |value: &Value| match value {
            Value::Text(bytes) => std::str::from_utf8(self.map.get(bytes.clone())?).ok(),
            _ => None,
        };
        self.value(key, text, "a text in UTF-8")
    }

    /// A list of texts.
    fn texts(&self, key: &str) -> Result<Option<Vec<&str>>, GgufError> {
        let texts = |value: &Value| value.as_texts(&self.map);
        self.value(key, texts, "a list of texts in UTF-8")
    }

    /// A list of numbers.
    fn list(&self, key: &str) -> Result<Option<Vec<f64>>, GgufError> {
        self.value(key, |value: &Value| value.as_numbers(&self.map), "a list of numbers")
    }

    fn value<'g, T>(
        &'g self,
        key: &str,
        read: impl Fn(&'g Value) -> Option<T>,
        expected: &str,
    ) -> Result<Option<T>, GgufError> {
        let Some(found) = self.keys.get(key) else { return Ok(None) };
        read(found).map(Some).ok_or_else(|| self.wrong(key, found.name(), expected))
    }

    fn needed<T>(&self, key: &str, value: Option<T>, expected: &str) -> Result<T, GgufError> {
        value.ok_or_else(|| self.wrong(key, "missing", expected))
    }

    fn wrong(&self, field: &str, found: impl ToString, expected: impl ToString) -> GgufError {
        GgufError::Field {
            path: self.path.clone(),
            field: field.into(),
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }
}
