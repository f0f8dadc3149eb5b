//! Bytes in text: "3.5 GiB" in, "3.50 GiB" out.

use std::str::FromStr;

/// A number of bytes, as a user writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

const UNITS: [(&str, f64); 8] = [
    ("B", 1.0),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("", 1.0),
];

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || {
            format!(
                "\"{text}\" is no number of bytes; write one like \"512 MiB\", \"3.5 GiB\" or 4096"
            )
        };
        let text = text.trim();
        let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let number: f64 = text[..split].trim().parse().map_err(|_| refused())?;
        let unit = UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(&text[split..]))
            .ok_or_else(refused)?;
        let bytes = number * unit.1;
        if bytes.is_finite() && (0.0..1e18).contains(&bytes) {
            Ok(Self(bytes as u64))
        } else {
            Err(refused())
        }
    }
}

/// Bytes for people.
pub(crate) fn show(bytes: u64) -> String {
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
        let bytes = |text: &str| text.parse::<Bytes>().map(|bytes| bytes.0);
        assert_eq!(bytes("3.5 GiB"), Ok(3_758_096_384), "binary");
        assert_eq!(bytes("512MiB"), Ok(536_870_912), "no space");
        assert_eq!(bytes("4096"), Ok(4096), "plain");
        assert_eq!(bytes("2 GB"), Ok(2_000_000_000), "decimal");
        assert!(bytes("-1 GiB").is_err(), "negative");
        assert!(bytes("many").is_err(), "words");
    }
}
