//! The boards that are known by name: `targets/boards`, inside this binary.

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::quantity::Bytes;

/// What a plan needs to know of a board.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Board {
    /// For people.
    pub(crate) name: String,
    /// The best kernels that its cores run.
    pub(crate) isa: String,
    /// CPU cores.
    pub(crate) cores: u32,
    memory: String,
    reserved: String,
    /// Peak of the data sheet.
    pub(crate) bandwidth_gb_s: f64,
}

macro_rules! boards {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../targets/boards/", $name, ".toml")))),*]
    };
}

/// Names and files.
const BOARDS: &[(&str, &str)] = boards![
    "jetson-orin-nano-8gb",
    "jetson-orin-nano-super-8gb",
    "jetson-orin-nx-16gb",
    "jetson-agx-orin-64gb",
    "jetson-xavier-nx-8gb",
    "jetson-agx-xavier-32gb",
    "raspberry-pi-5-8gb",
];

impl Board {
    /// The board of this name.
    pub(crate) fn named(name: &str) -> Result<Self> {
        let Some((_, text)) = BOARDS.iter().find(|(known, _)| *known == name) else {
            let names: Vec<_> = BOARDS.iter().map(|(name, _)| *name).collect();
            bail!("--board {name}: not known; there are {}", names.join(", "));
        };
        toml::from_str(text).with_context(|| format!("targets/boards/{name}.toml"))
    }

    /// Bytes that a model may take.
    pub(crate) fn usable_bytes(&self) -> Result<u64> {
        let parse = |text: &str| text.parse::<Bytes>().map_err(anyhow::Error::msg);
        let (memory, reserved) = (parse(&self.memory)?, parse(&self.reserved)?);
        memory.0.checked_sub(reserved.0).context("the board reserves more memory than it has")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_board_is_read_and_has_memory() {
        for (name, _) in BOARDS {
            let board = Board::named(name).unwrap();
            assert!(board.usable_bytes().unwrap() > 1 << 30, "{name}: {board:?}");
            assert!(board.cores > 0 && board.bandwidth_gb_s > 1.0, "{name}: {board:?}");
            assert!(["neon", "neon-dotprod"].contains(&board.isa.as_str()), "{name}: {board:?}");
        }
    }

    #[test]
    fn every_file_is_known_by_name() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../targets/boards");
        let files = std::fs::read_dir(folder).unwrap().count();
        assert_eq!(files, BOARDS.len(), "targets/boards and the list above");
    }

    #[test]
    fn an_unknown_board_is_refused_with_the_known_ones() {
        let error = Board::named("toaster").unwrap_err().to_string();
        assert!(error.contains("jetson-orin-nano-8gb"), "{error}");
    }
}
