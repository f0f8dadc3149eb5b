//! Reads fields of `config.json`, or of what another file says in its place, and says by name which one is wrong.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{ConfigError, Tokens};

/// No size in a model is larger than this: products of three stay far from overflow.
const SIZE_MAX: usize = 1 << 20;

/// What to do about a wrong field.
const ADVICE: &str = "correct the file, or take it from the model's publisher";
/// What to do about a missing one.
const ADVICE_MISSING: &str = "take config.json from the model's publisher";

/// The object in a JSON file.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    path: PathBuf,
    map: Map<String, Value>,
    /// What fields are called in a file that is no `config.json`.
    names: Option<Names>,
}

/// What the fields of a `config.json` are called in another file, and what to do about one that is wrong there.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// Field, and its name in the file.
    pub(crate) names: Vec<(&'static str, String)>,
    /// What to do.
    pub(crate) advice: &'static str,
}

impl Fields {
    /// Parses `text`, which is JSON but for bare `Infinity`, `-Infinity` and `NaN`, as Python writes them.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let map = serde_json::from_str(&quote_floats(text));
        let map = map.map_err(|error| ConfigError::Json { path: path.into(), error })?;
        Ok(Self { path: path.into(), map, names: None })
    }

    /// Fields that another file gives, under names of its own.
    pub(super) fn named(path: &Path, map: Map<String, Value>, names: Names) -> Self {
        Self { path: path.into(), map, names: Some(names) }
    }

    /// Reads a file.
    pub(super) fn open(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| ConfigError::Read { path: path.into(), error })?;
        Self::parse(path, &text)
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A field's value; `null` is no value.
    pub(super) fn get(&self, field: &str) -> Option<&Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    /// The field is there, even if it is `null`.
    pub(super) fn has(&self, field: &str) -> bool {
        self.map.contains_key(field)
    }

    /// An object in a field.
    pub(super) fn object(&self, field: &str) -> Result<Option<Self>, ConfigError> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self { map: map.clone(), ..self.clone() })),
            Some(found) => Err(self.invalid(field, found, "an object")),
        }
    }

    /// A size from 1 up.
    pub(super) fn size(&self, field: &str) -> Result<usize, ConfigError> {
        let size = self.size_or(field, 0)?;
        if size == 0 { Err(self.missing(field, &size_expected(SIZE_MAX))) } else { Ok(size) }
    }

    /// A size from 1 up, or `default` if there is none.
    pub(super) fn size_or(&self, field: &str, default: usize) -> Result<usize, ConfigError> {
        self.size_up_to(field, default, SIZE_MAX)
    }

    /// A size from 1 to `max`, or `default` if there is none.
    pub(super) fn size_up_to(
        &self,
        field: &str,
        default: usize,
        max: usize,
    ) -> Result<usize, ConfigError> {
        let Some(found) = self.get(field) else { return Ok(default) };
        let size = found.as_u64().and_then(|size| usize::try_from(size).ok());
        let size = size.filter(|size| (1..=max).contains(size));
        size.ok_or_else(|| self.invalid(field, found, &size_expected(max)))
    }

    /// A number that `allowed` accepts, or `default` if there is none.
    pub(super) fn number_or(
        &self,
        field: &str,
        default: f64,
        expected: &str,
        allowed: impl Fn(f64) -> bool,
    ) -> Result<f64, ConfigError> {
        let Some(found) = self.get(field) else { return Ok(default) };
        float(found)
            .filter(|number| allowed(*number))
            .ok_or_else(|| self.invalid(field, found, expected))
    }

    /// A positive and finite number, or `default` if there is none.
    pub(super) fn positive_or(&self, field: &str, default: f64) -> Result<f64, ConfigError> {
        self.number_or(field, default, "a positive number", |number| {
            number > 0.0 && number.is_finite()
        })
    }

    /// `true` or `false`, or `default` if there is neither.
    pub(super) fn flag_or(&self, field: &str, default: bool) -> Result<bool, ConfigError> {
        let Some(found) = self.get(field) else { return Ok(default) };
        found.as_bool().ok_or_else(|| self.invalid(field, found, "true or false"))
    }

    /// A text, if there is one.
    pub(super) fn text(&self, field: &str) -> Result<Option<&str>, ConfigError> {
        let Some(found) = self.get(field) else { return Ok(None) };
        found.as_str().map(Some).ok_or_else(|| self.invalid(field, found, "a string"))
    }

    /// The only activation that is known.
    pub(super) fn check_silu(&self) -> Result<(), ConfigError> {
        match self.text("hidden_act")? {
            None | Some("silu" | "swish") => Ok(()),
            Some(found) => Err(self.invalid("hidden_act", format!("{found:?}"), "\"silu\"")),
        }
    }

    /// Tokens with a meaning.
    pub(super) fn tokens(&self, vocab_size: usize) -> Result<Tokens, ConfigError> {
        let bos = self.token_ids("bos_token_id", vocab_size)?.first().copied();
        Ok(Tokens { bos, eos: self.token_ids("eos_token_id", vocab_size)? })
    }

    /// No, one or several token ids.
    pub(super) fn token_ids(
        &self,
        field: &str,
        vocab_size: usize,
    ) -> Result<Vec<u32>, ConfigError> {
        let Some(found) = self.get(field) else { return Ok(Vec::new()) };
        let ids = found.as_array().map_or_else(|| std::slice::from_ref(found), Vec::as_slice);
        let known =
            |id: &Value| id.as_u64().filter(|id| *id < vocab_size as u64).map(|id| id as u32);
        let ids: Option<Vec<u32>> = ids.iter().map(known).collect();
        let most = dynamax_bundle::TokenIds::MOST;
        ids.filter(|ids| ids.len() <= most).ok_or_else(|| {
            self.invalid(
                field,
                found,
                &format!("up to {most} token ids below vocab_size ({vocab_size})"),
            )
        })
    }

    /// The error for a field that is not there.
    pub(super) fn missing(&self, field: &str, expected: &str) -> ConfigError {
        ConfigError::Missing {
            path: self.path.clone(),
            field: self.name(field),
            expected: expected.into(),
            advice: self.names.as_ref().map_or(ADVICE_MISSING, |names| names.advice),
        }
    }

    /// The error for a field that holds something else.
    pub(super) fn invalid(&self, field: &str, found: impl ToString, expected: &str) -> ConfigError {
        ConfigError::Invalid {
            path: self.path.clone(),
            field: self.name(field),
            found: found.to_string(),
            expected: expected.into(),
            advice: self.names.as_ref().map_or(ADVICE, |names| names.advice),
        }
    }

    /// What the file calls a field.
    fn name(&self, field: &str) -> String {
        let names = self.names.iter().flat_map(|names| &names.names);
        let name = names.clone().find(|(known, _)| *known == field).map(|(_, name)| name.as_str());
        name.unwrap_or(field).into()
    }
}

fn size_expected(max: usize) -> String {
    format!("a whole number from 1 to {max}")
}

/// A number; also those that JSON has no word for, as transformers 5 writes them.
pub(super) fn float(value: &Value) -> Option<f64> {
    match value.get("__float__").and_then(Value::as_str) {
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some("NaN") => Some(f64::NAN),
        Some(_) => None,
        None => value.as_f64(),
    }
}

/// Turns bare `Infinity`, `-Infinity` and `NaN` outside of strings into what transformers 5 writes for them.
fn quote_floats(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let (mut in_string, mut is_escaped) = (false, false);
    while let Some(next) = rest.chars().next() {
        let word = ["-Infinity", "Infinity", "NaN"].into_iter().find(|word| rest.starts_with(word));
        if let Some(word) = word.filter(|_| !in_string) {
            out.push_str("{\"__float__\":\"");
            out.push_str(word);
            out.push_str("\"}");
            rest = rest.strip_prefix(word).unwrap_or_default();
            continue;
        }
        if next == '"' && !is_escaped {
            in_string = !in_string;
        }
        is_escaped = in_string && next == '\\' && !is_escaped;
        out.push(next);
        rest = rest.strip_prefix(next).unwrap_or_default();
    }
    out
}
