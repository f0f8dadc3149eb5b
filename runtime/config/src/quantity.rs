//! Numbers with units: "900 mJ", "120 ms", "3.5 GiB". A bare number is refused: it would be read as the wrong unit.

use core::fmt;
use std::str::FromStr;

use dynamax_governor::{Microjoules, Microseconds, Milliwatts};

/// Names of units and what one is in the base unit.
type Units = &'static [(&'static str, f64)];

const ENERGY: Units = &[("mJ", 1e3), ("J", 1e6), ("uJ", 1.0), ("µJ", 1.0), ("kJ", 1e9)];
const TIME: Units = &[("ms", 1e3), ("s", 1e6), ("us", 1.0), ("µs", 1.0)];
const POWER: Units = &[("W", 1e3), ("mW", 1.0)];
const RESISTANCE: Units = &[("mOhm", 1e3), ("uOhm", 1.0), ("Ohm", 1e6), ("mΩ", 1e3)];
const BYTES: Units = &[
    ("GiB", 1_073_741_824.0),
    ("MiB", 1_048_576.0),
    ("KiB", 1024.0),
    ("GB", 1e9),
    ("MB", 1e6),
    ("kB", 1e3),
    ("B", 1.0),
];

/// Text that is no quantity: what is wrong with it, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantityError(pub(crate) String);

impl fmt::Display for QuantityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for QuantityError {}

/// Energy in text, such as "900 mJ" or "0.9 J".
///
/// # Errors
///
/// Text without a number, with a negative one, or without a known unit.
pub fn energy(text: &str) -> Result<Microjoules, QuantityError> {
    Ok(Microjoules(base_units(text, ENERGY, "900 mJ")? as u64))
}

/// Time in text, such as "120 ms", in whole microseconds, rounded up.
///
/// # Errors
///
/// Text without a number, with a negative one, or without a known unit.
pub fn time(text: &str) -> Result<Microseconds, QuantityError> {
    Ok(Microseconds(base_units(text, TIME, "120 ms")?.ceil() as u64))
}

/// Power in text, such as "4.5 W".
///
/// # Errors
///
/// Text without a number, with a negative one, or without a known unit.
pub fn power(text: &str) -> Result<Milliwatts, QuantityError> {
    let mw = base_units(text, POWER, "4.5 W")?;
    let too_much = || QuantityError(format!("is \"{text}\", more than any board: at most 4 MW"));
    Milliwatts::from_watts_round(mw / 1e3).ok_or_else(too_much)
}

/// A resistance, in whole microohms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Microohms(pub u32);

impl FromStr for Microohms {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let microohms = base_units(text, RESISTANCE, "5 mOhm")?;
        if (1.0..=1e9).contains(&microohms) {
            return Ok(Self(microohms as u32));
        }
        Err(QuantityError(format!(
            "is \"{text}\", no shunt: between 1 uOhm and 1000 Ohm are possible"
        )))
    }
}

/// A number of bytes. On a command line a bare number counts bytes; in a file it needs its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    /// Bytes in text, such as "3.5 GiB".
    ///
    /// # Errors
    ///
    /// Text without a number, with a negative one, or without a known unit.
    pub fn with_unit(text: &str) -> Result<Self, QuantityError> {
        Ok(Self(base_units(text, BYTES, "3.5 GiB")? as u64))
    }
}

impl FromStr for Bytes {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        match text.trim().parse() {
            Ok(bytes) => Ok(Self(bytes)),
            Err(_) => Self::with_unit(text),
        }
    }
}

/// The number times its unit.
fn base_units(text: &str, units: Units, example: &str) -> Result<f64, QuantityError> {
    let refused =
        |what: &str| QuantityError(format!("is \"{text}\", {what}: write it like \"{example}\""));
    let trimmed = text.trim();
    let number = trimmed.trim_end_matches(|c: char| c.is_alphabetic());
    let unit = &trimmed[number.len()..];
    let number = match number.trim().parse::<f64>() {
        Ok(number) if number.is_finite() => number,
        _ => return Err(refused("which does not begin with a number")),
    };
    if unit.is_empty() {
        return Err(refused("a number without a unit"));
    }
    // Letter case matters where it changes the size: mJ is not MJ. It does not for bytes.
    let same = |name: &str| name == unit || (units == BYTES && name.eq_ignore_ascii_case(unit));
    let Some((_, one)) = units.iter().find(|(name, _)| same(name)) else {
        let names: Vec<_> = units.iter().map(|(name, _)| *name).collect();
        let is_cased = names.iter().any(|name| name.eq_ignore_ascii_case(unit));
        let hint = if is_cased { " (letter case matters)" } else { "" };
        return Err(refused(&format!(
            "where \"{unit}\" is none of the units {}{hint}",
            names.join(", ")
        )));
    };
    let value = number * one;
    if number < 0.0 {
        return Err(refused("which is negative"));
    }
    if !(0.0..1e18).contains(&value) {
        return Err(refused("which is too large"));
    }
    Ok(value)
}

/// Bytes for people.
#[must_use]
pub fn show_bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.2} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_understood() {
        assert_eq!(energy("900 mJ"), energy("0.9 J"), "one quantity");
        assert_eq!(energy(" 0.9J "), Ok(Microjoules(900_000)), "blanks");
        assert_eq!(energy("12 µJ"), Ok(Microjoules(12)), "a Greek letter");
        assert_eq!(time("1e2 ms"), Ok(Microseconds(100_000)), "an exponent");
        assert_eq!(time("0.1 us"), Ok(Microseconds(1)), "up");
        assert_eq!(power("4.5 W"), Ok(Milliwatts(4500)), "power");
        assert_eq!("5 mOhm".parse(), Ok(Microohms(5000)), "a shunt");
    }

    #[test]
    fn bytes_may_be_bare_on_a_command_line_only() {
        let bytes = |text: &str| text.parse::<Bytes>().map(|bytes| bytes.0);
        assert_eq!(bytes("3.5 GiB"), Ok(3_758_096_384), "binary");
        assert_eq!(bytes("512mib"), Ok(536_870_912), "no space, small letters");
        assert_eq!(bytes("4096"), Ok(4096), "plain");
        assert_eq!(bytes("2 GB"), Ok(2_000_000_000), "decimal");
        assert!(Bytes::with_unit("4096").is_err(), "plain, in a file");
    }

    #[test]
    fn what_is_no_quantity_is_refused_with_an_example() {
        let cases = [
            ("900", "a number without a unit"),
            ("mJ", "does not begin with a number"),
            ("NaN mJ", "does not begin with a number"),
            ("-1 mJ", "negative"),
            ("1 MJ", "none of the units mJ, J, uJ, µJ, kJ (letter case matters):"),
            ("1 W", "none of the units mJ, J, uJ, µJ, kJ:"),
            ("1e30 J", "too large"),
            ("", "does not begin with a number"),
        ];
        for (text, what) in cases {
            let error = energy(text).unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("900 mJ"), "{text}: {error}");
        }
        assert!(power("1e9 W").is_err(), "more than a u32");
        assert!("0 Ohm".parse::<Microohms>().is_err(), "a shunt of nothing");
    }
}
