//! Why a file is refused, in one sentence.

use core::fmt;

/// What sort of fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The file cannot be read.
    File,
    /// It is no TOML.
    Syntax,
    /// A key or section that does not exist.
    Unknown,
    /// A key that must be there is not.
    Missing,
    /// A value of the wrong type, without its unit, or not one of the choices.
    Value,
    /// A value outside its range.
    Range,
    /// Two keys that contradict each other.
    Relation,
}

/// A file that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// What sort of fault it is.
    pub kind: Kind,
    /// The file's name, as it was given.
    pub file: String,
    /// The line, from 1, where one is to blame.
    pub line: Option<usize>,
    /// The key as it stands in the file, such as `[budget] window`; empty for the whole file.
    pub key: String,
    /// What was found, what was expected, what to do.
    pub problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            write!(f, "{} ", self.key)?;
        }
        f.write_str(&self.problem)
    }
}

impl core::error::Error for ConfigError {}
