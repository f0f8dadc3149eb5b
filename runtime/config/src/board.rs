//! The boards that are known by name: `targets/boards`, inside this binary.

use dynamax_governor::Milliwatts;

use crate::document::{Document, Section, twice};
use crate::error::{ConfigError, Kind};
use crate::nearest::nearest;
use crate::quantity::{Bytes, Microohms, power};

/// What is known of a board.
#[derive(Clone, Debug, PartialEq)]
pub struct Board {
    /// For people.
    pub name: String,
    /// The best kernels that its cores run; `None`: ask the machine.
    pub isa: Option<Isa>,
    /// CPU cores; `None`: ask the machine.
    pub cores: Option<u32>,
    /// All of its memory; `None`: ask the machine.
    pub memory: Option<Bytes>,
    /// What the system keeps for itself.
    pub reserved: Bytes,
    /// Peak of the data sheet.
    pub bandwidth_gb_s: f64,
    /// What it draws when it does nothing: an estimate.
    pub idle: Milliwatts,
    /// Energy to move a byte from memory, above idle: an estimate.
    pub picojoules_per_byte: f64,
    /// Energy of a product and its sum, above idle: an estimate.
    pub picojoules_per_mac: f64,
    /// The I2C bus of the power sensors.
    pub bus: Option<String>,
    /// Power rails that are measured.
    pub rails: Vec<Rail>,
    /// Power modes, as `nvpmodel` numbers them.
    pub modes: Vec<Mode>,
}

/// Kernels for an instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Arm's vectors of 128 bits.
    Neon,
    /// The same, with dot products.
    NeonDotprod,
    /// Intel's vectors of 256 bits.
    Avx2,
    /// Intel's vectors of 512 bits, with dot products.
    Avx512Vnni,
}

const ISAS: &[(&str, Isa)] = &[
    ("neon", Isa::Neon),
    ("neon-dotprod", Isa::NeonDotprod),
    ("avx2", Isa::Avx2),
    ("avx512-vnni", Isa::Avx512Vnni),
];

impl Isa {
    /// Its name, as kernels print it.
    #[must_use]
    pub fn name(self) -> &'static str {
        ISAS.iter().find(|(_, isa)| *isa == self).map_or("", |(name, _)| name)
    }
}

/// A rail: a channel of an INA3221.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rail {
    /// The label that the kernel gives it.
    pub name: String,
    /// The chip's address.
    pub address: u8,
    /// The chip's channel, from 1.
    pub channel: u8,
    /// The resistor.
    pub shunt: Microohms,
    /// Whether it is part of the board's total.
    pub is_in_total: bool,
}

/// A power mode.
#[derive(Clone, Debug, PartialEq)]
pub struct Mode {
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Peak bandwidth of the memory in it.
    pub bandwidth_gb_s: f64,
    /// Whether the board starts in it.
    pub is_default: bool,
}

macro_rules! boards {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../targets/boards/", $name, ".toml")))),*]
    };
}

/// Names and files.
const BOARDS: &[(&str, &str)] = boards![
    "generic",
    "jetson-orin-nano-8gb",
    "jetson-orin-nano-super-8gb",
    "jetson-orin-nx-16gb",
    "jetson-agx-orin-64gb",
    "jetson-xavier-nx-8gb",
    "jetson-agx-xavier-32gb",
    "raspberry-pi-5-8gb",
];

impl Board {
    /// The names of all boards.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BOARDS.iter().map(|(name, _)| *name)
    }

    /// The board of this name.
    ///
    /// # Errors
    ///
    /// What is wrong with the name, and the names there are.
    ///
    /// # Panics
    ///
    /// Panics if a board's file is wrong, which a test rules out.
    pub fn named(name: &str) -> Result<Self, String> {
        let Some((_, text)) = BOARDS.iter().find(|(known, _)| *known == name) else {
            let hint =
                nearest(name, Self::names()).map(|meant| format!("; did you mean \"{meant}\"?"));
            let names: Vec<_> = Self::names().collect();
            return Err(format!(
                "is \"{name}\": there are {}{}",
                names.join(", "),
                hint.unwrap_or_default()
            ));
        };
        match Self::from_text(&format!("targets/boards/{name}.toml"), text) {
            Ok(board) => Ok(board),
            Err(error) => panic!("a board inside this binary is wrong: {error}"),
        }
    }

    /// Reads a board's file.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it.
    pub fn from_text(file: &str, text: &str) -> Result<Self, ConfigError> {
        let document = Document::parse(file, text)?;
        let top = document.root_section();
        top.only(&[
            "name",
            "isa",
            "cores",
            "memory",
            "reserved",
            "bandwidth_gb_s",
            "idle",
            "picojoules_per_byte",
            "picojoules_per_mac",
            "bus",
            "rail",
            "mode",
        ])?;
        let board = Self {
            name: top.need("name", top.text("name")?)?.to_owned(),
            isa: top.choice("isa", ISAS)?,
            cores: top.integer("cores", 1..=256)?,
            memory: top.quantity("memory", Bytes::with_unit)?,
            reserved: top.need("reserved", top.quantity("reserved", Bytes::with_unit)?)?,
            bandwidth_gb_s: top
                .need("bandwidth_gb_s", top.number("bandwidth_gb_s", 0.1..=10_000.0)?)?,
            idle: top.need("idle", top.quantity("idle", power)?)?,
            picojoules_per_byte: top
                .need("picojoules_per_byte", top.number("picojoules_per_byte", 1.0..=1e5)?)?,
            picojoules_per_mac: top
                .need("picojoules_per_mac", top.number("picojoules_per_mac", 0.0..=1e5)?)?,
            bus: top.text("bus")?.map(str::to_owned),
            rails: top.each("rail")?.into_iter().map(rail).collect::<Result<_, _>>()?,
            modes: top.each("mode")?.into_iter().map(mode).collect::<Result<_, _>>()?,
        };
        match board.contradiction() {
            Some((key, problem)) => Err(top.refusal(Kind::Relation, key, problem)),
            None => Ok(board),
        }
    }

    /// Bytes that a model may take, where the memory is known.
    #[must_use]
    pub fn usable_bytes(&self) -> Option<u64> {
        self.memory.map(|memory| memory.0.saturating_sub(self.reserved.0))
    }

    fn contradiction(&self) -> Option<(&'static str, String)> {
        if self.memory.is_some_and(|memory| memory <= self.reserved) {
            return Some((
                "reserved",
                "is not less than memory: nothing is left for a model".to_owned(),
            ));
        }
        if let Some(name) = twice(self.rails.iter().map(|rail| rail.name.as_str())) {
            return Some(("rail", format!("stands twice with the name \"{name}\"")));
        }
        if let Some(id) = twice(self.modes.iter().map(|mode| mode.id)) {
            return Some(("mode", format!("stands twice with the id {id}")));
        }
        let defaults = self.modes.iter().filter(|mode| mode.is_default).count();
        if !self.modes.is_empty() && defaults != 1 {
            return Some(("mode", format!("is the default {defaults} times: once was expected")));
        }
        let faster = self.modes.iter().find(|mode| mode.bandwidth_gb_s > self.bandwidth_gb_s)?;
        Some((
            "mode",
            format!("\"{}\" is faster than the board: bandwidth_gb_s is its peak", faster.name),
        ))
    }
}

fn rail(section: Section<'_>) -> Result<Rail, ConfigError> {
    section.only(&["name", "address", "channel", "shunt", "in_total"])?;
    Ok(Rail {
        name: section.need("name", section.text("name")?)?.to_owned(),
        address: section.need("address", section.integer("address", 0x40..=0x43)?)? as u8,
        channel: section.need("channel", section.integer("channel", 1..=3)?)? as u8,
        shunt: section.need("shunt", section.quantity("shunt", str::parse)?)?,
        is_in_total: section.flag("in_total")?.unwrap_or(false),
    })
}

fn mode(section: Section<'_>) -> Result<Mode, ConfigError> {
    section.only(&["id", "name", "bandwidth_gb_s", "default"])?;
    Ok(Mode {
        id: section.need("id", section.integer("id", 0..=99)?)?,
        name: section.need("name", section.text("name")?)?.to_owned(),
        bandwidth_gb_s: section
            .need("bandwidth_gb_s", section.number("bandwidth_gb_s", 0.1..=10_000.0)?)?,
        is_default: section.flag("default")?.unwrap_or(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_board_is_read_and_has_memory() {
        for name in Board::names().filter(|name| *name != "generic") {
            let board = Board::named(name).unwrap();
            assert!(board.usable_bytes() > Some(1 << 30), "{name}: {board:?}");
            assert!(board.cores > Some(1) && board.isa.is_some(), "{name}: {board:?}");
            assert!(board.bus.is_none() || !board.rails.is_empty(), "{name}: a bus for nothing");
            let total = board.rails.iter().filter(|rail| rail.is_in_total).count();
            assert!(board.rails.is_empty() || total > 0, "{name}: no rail makes up its total");
        }
    }

    #[test]
    fn every_file_is_known_by_name() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../targets/boards");
        let files = std::fs::read_dir(folder).unwrap().count();
        assert_eq!(files, BOARDS.len(), "targets/boards and the list above");
    }

    #[test]
    fn the_generic_board_asks_the_machine() {
        let board = Board::named("generic").unwrap();
        assert_eq!((board.isa, board.cores, board.usable_bytes()), (None, None, None), "{board:?}");
    }

    #[test]
    fn an_unknown_board_is_refused_with_the_known_ones() {
        let error = Board::named("toaster").unwrap_err();
        assert!(error.contains("jetson-orin-nano-8gb"), "{error}");
        let error = Board::named("jetson-orin-nano-8g").unwrap_err();
        assert!(error.contains("did you mean \"jetson-orin-nano-8gb\"?"), "{error}");
    }

    #[test]
    fn a_board_that_contradicts_itself_is_refused() {
        let good = "name = \"b\"\nreserved = \"1 GiB\"\nbandwidth_gb_s = 10\nidle = \"1 W\"\npicojoules_per_byte = 100\n\
                    picojoules_per_mac = 1\n";
        let rail = "[[rail]]\nname = \"A\"\naddress = 0x40\nchannel = 1\nshunt = \"5 mOhm\"\n";
        let mode = "[[mode]]\nid = 1\nname = \"m\"\nbandwidth_gb_s = 11\n";
        assert!(Board::from_text("b", good).is_ok(), "the least a board needs");
        let cases = [
            (format!("memory = \"1 GiB\"\n{good}"), "nothing is left"),
            (format!("{good}{rail}{rail}"), "twice with the name \"A\""),
            (format!("{good}{mode}{mode}"), "twice with the id 1"),
            (format!("{good}{mode}"), "default 0 times"),
            (format!("{good}{mode}default = true\n"), "faster than the board"),
            (format!("colour = 1\n{good}"), "colour is not known"),
            (good.replace("idle = \"1 W\"\n", ""), "idle is missing"),
            (
                format!("{good}{rail}").replace("channel = 1", "channel = 4"),
                "[rail] channel is 4: 1 to 3",
            ),
        ];
        for (text, what) in cases {
            let error = Board::from_text("b", &text).unwrap_err().to_string();
            assert!(error.contains(what), "{what}: {error}");
        }
    }
}
