//! A TOML file as sections and typed values. Every refusal names the line.

use core::ops::{Range, RangeInclusive};
use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{ConfigError, Kind};
use crate::nearest::nearest;
use crate::quantity::QuantityError;

/// A parsed file.
#[derive(Debug)]
pub(crate) struct Document<'t> {
    file: &'t str,
    text: &'t str,
    root: DeTable<'t>,
}

/// A table of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section<'d> {
    document: &'d Document<'d>,
    name: &'d str,
    table: Option<&'d DeTable<'d>>,
}

impl<'t> Document<'t> {
    pub(crate) fn parse(file: &'t str, text: &'t str) -> Result<Self, ConfigError> {
        match DeTable::parse(text) {
            Ok(root) => Ok(Self { file, text, root: root.into_inner() }),
            Err(error) => Err(ConfigError {
                kind: Kind::Syntax,
                file: file.to_owned(),
                line: error.span().map(|span| line(text, &span)),
                key: String::new(),
                problem: format!("this is no TOML: {}", error.message().replace('\n', ", ")),
            }),
        }
    }

    /// Refuses sections and bare keys that are not among `known`.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), ConfigError> {
        self.root_section().only(known)
    }

    /// What stands outside of any section.
    pub(crate) fn root_section(&self) -> Section<'_> {
        Section { document: self, name: "", table: Some(&self.root) }
    }

    /// The section of this name; one that is not there is empty.
    pub(crate) fn section<'d>(&'d self, name: &'d str) -> Result<Section<'d>, ConfigError> {
        self.root_section().inner(name, name)
    }

    /// A refusal for what several keys say together.
    pub(crate) fn contradiction(&self, key: &str, problem: String) -> ConfigError {
        let path: Vec<_> = key.trim_start_matches('[').split("] ").collect();
        let value = self.root.get(path[0]).and_then(|section| match path.get(1) {
            Some(name) => section.get_ref().get(*name).or(Some(section)),
            None => Some(section),
        });
        ConfigError {
            kind: Kind::Relation,
            file: self.file.to_owned(),
            line: value.map(|value| line(self.text, &value.span())),
            key: key.to_owned(),
            problem,
        }
    }
}

impl<'d> Section<'d> {
    /// Refuses keys that are not among `known`, with the nearest that is.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), ConfigError> {
        for key in self.table.into_iter().flat_map(DeTable::keys) {
            let found: &str = key.get_ref();
            if !known.contains(&found) {
                let problem = match nearest(found, known.iter().copied()) {
                    Some(meant) => format!("is not known; did you mean \"{meant}\"?"),
                    None => format!("is not known; there are {}", known.join(", ")),
                };
                return Err(self.error(Kind::Unknown, found, Some(&key.span()), problem));
            }
        }
        Ok(())
    }

    /// A table inside this one, and what messages call it; one that is not there is empty.
    pub(crate) fn inner(&self, key: &str, name: &'d str) -> Result<Self, ConfigError> {
        let table = match self.get(key) {
            None => None,
            Some(value) => match value.get_ref() {
                DeValue::Table(table) => Some(table),
                _ => return Err(self.wrong(key, value, "a section")),
            },
        };
        Ok(Self { document: self.document, name, table })
    }

    /// The tables of an array `[[name]]`.
    pub(crate) fn each(&self, name: &'d str) -> Result<Vec<Self>, ConfigError> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let DeValue::Array(items) = value.get_ref() else {
            return Err(self.wrong(name, value, "sections like [[…]]"));
        };
        let table = |item: &'d Spanned<DeValue<'d>>| match item.get_ref() {
            DeValue::Table(table) => Ok(Self { document: self.document, name, table: Some(table) }),
            _ => Err(self.wrong(name, item, "sections like [[…]]")),
        };
        items.iter().map(table).collect()
    }

    pub(crate) fn is_there(&self) -> bool {
        self.table.is_some()
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&'d str>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.get_ref() {
            DeValue::String(text) if !text.is_empty() => Ok(Some(text)),
            _ => Err(self.wrong(key, value, "text in quotes")),
        }
    }

    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<&'d str>>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wanted = "a list of texts, like [\"a\", \"b\"]";
        let DeValue::Array(items) = value.get_ref() else {
            return Err(self.wrong(key, value, wanted));
        };
        let text = |item: &'d Spanned<DeValue<'d>>| {
            item.get_ref().as_str().ok_or_else(|| self.wrong(key, item, wanted))
        };
        items.iter().map(text).collect::<Result<_, _>>().map(Some)
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.get_ref().as_bool().map(Some).ok_or_else(|| self.wrong(key, value, "true or false"))
    }

    pub(crate) fn integer(
        &self,
        key: &str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let Some(integer) = value.get_ref().as_integer() else {
            return Err(self.wrong(key, value, "a whole number"));
        };
        match i64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .and_then(|i| u32::try_from(i).ok())
        {
            Some(integer) if range.contains(&integer) => Ok(Some(integer)),
            _ => {
                let shown = self.shown(value);
                let figure = |bound: &u32| match shown.starts_with("0x") {
                    true => format!("{bound:#04x}"),
                    false => bound.to_string(),
                };
                let (least, most) = (figure(range.start()), figure(range.end()));
                let problem = format!("is {shown}: {least} to {most} are possible");
                Err(self.error(Kind::Range, key, Some(&value.span()), problem))
            }
        }
    }

    /// A number without unit, within a range.
    pub(crate) fn number(
        &self,
        key: &str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f64>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = match value.get_ref() {
            DeValue::Float(float) => float.as_str().parse().unwrap_or(f64::NAN),
            DeValue::Integer(integer) => integer.as_str().parse().unwrap_or(f64::NAN),
            _ => {
                let wanted = format!("a number from {} to {}", range.start(), range.end());
                return Err(self.wrong(key, value, &wanted));
            }
        };
        if range.contains(&number) {
            return Ok(Some(number));
        }
        let problem =
            format!("is {}: {} to {} are possible", self.shown(value), range.start(), range.end());
        Err(self.error(Kind::Range, key, Some(&value.span()), problem))
    }

    /// A list of exactly `N` numbers without unit.
    pub(crate) fn numbers<const N: usize>(
        &self,
        key: &str,
    ) -> Result<Option<[f64; N]>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong = || self.wrong(key, value, "a list of numbers");
        let DeValue::Array(items) = value.get_ref() else { return Err(wrong()) };
        let number = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
            DeValue::Float(float) => float.as_str().parse().map_err(|_| wrong()),
            DeValue::Integer(integer) => integer.as_str().parse().map_err(|_| wrong()),
            _ => Err(wrong()),
        };
        let numbers = items.iter().map(number).collect::<Result<Vec<f64>, _>>()?;
        let found = numbers.len();
        <[f64; N]>::try_from(numbers).map(Some).map_err(|_| {
            self.refusal(Kind::Value, key, format!("has {found} numbers: {N} were expected"))
        })
    }

    /// A quantity with its unit, as `parse` reads it.
    pub(crate) fn quantity<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, QuantityError>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let refused =
            |error: QuantityError| self.error(Kind::Value, key, Some(&value.span()), error.0);
        match value.get_ref() {
            DeValue::String(text) => parse(text).map(Some).map_err(refused),
            // The parser knows the example; what it says in quotes is no text here.
            _ => Err(match parse("0") {
                Err(QuantityError(what)) => {
                    refused(QuantityError(what.replacen("\"0\"", self.shown(value), 1)))
                }
                Ok(_) => self.wrong(key, value, "text with a unit"),
            }),
        }
    }

    /// One of the named choices.
    pub(crate) fn choice<T: Copy>(
        &self,
        key: &str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, ConfigError> {
        let Some(found) = self.text(key)? else { return Ok(None) };
        self.chosen(key, found, choices).map(Some)
    }

    /// The choice that `found`, a value of `key`, names.
    pub(crate) fn chosen<T: Copy>(
        &self,
        key: &str,
        found: &str,
        choices: &[(&str, T)],
    ) -> Result<T, ConfigError> {
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == found) {
            return Ok(*choice);
        }
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let meant = nearest(found, names.iter().copied());
        let hint = meant.map(|meant| format!("; did you mean \"{meant}\"?")).unwrap_or_default();
        let problem = format!("is \"{found}\": {} are possible{hint}", names.join(", "));
        Err(self.error(Kind::Value, key, self.span(key).as_ref(), problem))
    }

    /// The value, or a refusal of a file without it.
    pub(crate) fn need<T>(&self, key: &str, value: Option<T>) -> Result<T, ConfigError> {
        let missing = || self.error(Kind::Missing, key, None, "is missing: write it".to_owned());
        value.ok_or_else(missing)
    }

    /// A refusal of a key's value.
    pub(crate) fn refusal(&self, kind: Kind, key: &str, problem: String) -> ConfigError {
        self.error(kind, key, self.span(key).as_ref(), problem)
    }

    fn get(&self, key: &str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.table?.get(key)
    }

    fn span(&self, key: &str) -> Option<Range<usize>> {
        self.get(key).map(Spanned::span)
    }

    /// The value as it stands in the file.
    fn shown(&self, value: &Spanned<DeValue<'_>>) -> &'d str {
        let text: &'d str = self.document.text;
        text.get(value.span()).and_then(|text| text.lines().next()).unwrap_or("…")
    }

    fn wrong(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) -> ConfigError {
        let problem = format!("is {}: {wanted} was expected", self.shown(value));
        self.error(Kind::Value, key, Some(&value.span()), problem)
    }

    fn error(
        &self,
        kind: Kind,
        key: &str,
        span: Option<&Range<usize>>,
        problem: String,
    ) -> ConfigError {
        let key =
            if self.name.is_empty() { key.to_owned() } else { format!("[{}] {key}", self.name) };
        let line = span.map(|span| line(self.document.text, span));
        ConfigError { kind, file: self.document.file.to_owned(), line, key, problem }
    }
}

/// A name that stands twice among `names`.
pub(crate) fn twice<T: Copy + Ord>(names: impl IntoIterator<Item = T>) -> Option<T> {
    let mut seen = BTreeSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}

/// The line of a span, from 1.
fn line(text: &str, span: &Range<usize>) -> usize {
    1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count()
}
