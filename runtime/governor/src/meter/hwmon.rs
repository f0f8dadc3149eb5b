//! Power sensors that the kernel shows: JetPack 4, 5 and 6, and any other board.
//!
//! ```text
//! JetPack 5, 6   /sys/class/hwmon/hwmon*/{name, inN_label, inN_input (mV), currN_input (mA)}
//!                /sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon*/…               the same files
//! others         /sys/class/hwmon/hwmon*/{name, powerN_label, powerN_input (uW)}
//! JetPack 4      /sys/bus/i2c/drivers/ina3221x/*/iio:device*/{rail_name_N, in_powerN_input (mW)}
//! ```
//!
//! The number behind `hwmon` changes from boot to boot, so that rails are found by label. Labels "NC" are not connected; the
//! seventh input is a sum of shunt voltages and no rail; inputs 4 to 6 are shunt voltages.

use std::path::{Path, PathBuf};
use std::string::String;
use std::vec::Vec;
use std::{format, vec};

use super::files::{NumberFile, entries, number, text};
use super::{Draw, Meter, Source};
use crate::integrator::MeterFault;
use crate::units::{Microseconds, Milliwatts};

/// A rail that the kernel shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HwmonRail {
    /// Its label; of a sensor without labels, the chip's name and the number.
    pub name: String,
    /// The chip's name.
    pub chip: String,
    files: Files,
}

/// Where its power stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Files {
    /// Millivolts and milliamperes.
    Product(PathBuf, PathBuf),
    /// Power, and how many of its units are a milliwatt.
    Power(PathBuf, i64),
}

/// All rails below `root`, which is `/` on a machine.
#[must_use]
pub fn rails(root: &Path) -> Vec<HwmonRail> {
    let mut found: Vec<HwmonRail> = Vec::new();
    for folder in entries(&root.join("sys/class/hwmon")) {
        add_hwmon(&folder, &mut found);
    }
    for driver in ["ina3221", "ina3221x"] {
        for device in entries(&root.join("sys/bus/i2c/drivers").join(driver)) {
            for folder in entries(&device.join("hwmon")) {
                add_hwmon(&folder, &mut found);
            }
            for folder in entries(&device) {
                if folder
                    .file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with("iio:device"))
                {
                    add_iio(&folder, &mut found);
                }
            }
        }
    }
    found
}

/// Rails of one `hwmon` folder, but for those that are known by another path.
fn add_hwmon(folder: &Path, found: &mut Vec<HwmonRail>) {
    let Some(chip) = text(&folder.join("name")) else { return };
    for index in 1..=3 {
        let path = |name: String| folder.join(name);
        let label = text(&path(format!("in{index}_label")))
            .or_else(|| text(&path(format!("power{index}_label"))));
        let is_enabled = number(&path(format!("in{index}_enable"))) != Some(0);
        let (volts, amperes) =
            (path(format!("in{index}_input")), path(format!("curr{index}_input")));
        let watts = [format!("power{index}_input"), format!("power{index}_average")].map(path);
        let files = match watts.into_iter().find(|watts| watts.exists()) {
            Some(watts) => Files::Power(watts, 1000),
            None if volts.exists() && amperes.exists() => Files::Product(volts, amperes),
            None => continue,
        };
        let name = label.unwrap_or_else(|| format!("{chip}.{index}"));
        add(HwmonRail { name, chip: chip.clone(), files }, is_enabled, found);
    }
}

/// Rails of JetPack 4.
fn add_iio(folder: &Path, found: &mut Vec<HwmonRail>) {
    for index in 0..3 {
        let power = folder.join(format!("in_power{index}_input"));
        if let (Some(name), true) =
            (text(&folder.join(format!("rail_name_{index}"))), power.exists())
        {
            add(
                HwmonRail { name, chip: "ina3221x".into(), files: Files::Power(power, 1) },
                true,
                found,
            );
        }
    }
}

fn add(rail: HwmonRail, is_enabled: bool, found: &mut Vec<HwmonRail>) {
    let is_rail = is_enabled && rail.name != "NC" && !rail.name.starts_with("sum of");
    if is_rail && !found.iter().any(|known| known.name == rail.name && known.chip == rail.chip) {
        found.push(rail);
    }
}

/// Rails that contain all others of their board, where there is one.
const WHOLE: [&str; 2] = ["VDD_IN", "POM_5V_IN"];

/// Rails, added up.
#[derive(Debug)]
pub struct Hwmon {
    source: Source,
    rails: Vec<Open>,
    names: Vec<String>,
}

/// A rail's files, open.
#[derive(Debug)]
enum Open {
    Product(NumberFile, NumberFile),
    Power(NumberFile, i64),
}

impl Hwmon {
    /// Opens the rails that are `wanted`; with none, the one that contains all others, and without such a one, those of INA
    /// chips, or else all.
    ///
    /// # Errors
    ///
    /// The rails there are, if one that is wanted is not among them; or what the kernel says.
    pub fn open(root: &Path, wanted: &[String]) -> Result<Self, String> {
        let all = rails(root);
        let chosen = choose(&all, wanted)?;
        let mut hwmon = Self { source: source_of(&chosen[0].chip), rails: vec![], names: vec![] };
        for rail in chosen {
            let open = |path: &PathBuf| {
                NumberFile::open(path)
                    .map_err(|error| format!("{} cannot be read: {error}", path.display()))
            };
            hwmon.names.push(rail.name.clone());
            hwmon.rails.push(match &rail.files {
                Files::Product(volts, amperes) => Open::Product(open(volts)?, open(amperes)?),
                Files::Power(power, unit) => Open::Power(open(power)?, *unit),
            });
        }
        Ok(hwmon)
    }

    /// The rails that are added up.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

fn choose<'r>(all: &'r [HwmonRail], wanted: &[String]) -> Result<Vec<&'r HwmonRail>, String> {
    if all.is_empty() {
        return Err(
            "the kernel shows no power sensor: load its driver (ina3221), or use another meter"
                .into(),
        );
    }
    let named = |name: &str| all.iter().find(|rail| rail.name == name);
    if wanted.is_empty() {
        let whole = WHOLE.iter().find_map(|name| named(name)).map(|rail| vec![rail]);
        let of_ina: Vec<_> = all.iter().filter(|rail| rail.chip.starts_with("ina")).collect();
        let any = || all.iter().collect();
        return Ok(whole.unwrap_or_else(|| if of_ina.is_empty() { any() } else { of_ina }));
    }
    let find = |name: &String| {
        let names: Vec<_> = all.iter().map(|rail| rail.name.as_str()).collect();
        named(name)
            .ok_or_else(|| format!("there is no rail \"{name}\": there are {}", names.join(", ")))
    };
    wanted.iter().map(find).collect()
}

fn source_of(chip: &str) -> Source {
    match chip {
        "ina3221" | "ina3221x" => Source::Ina3221,
        "ina226" => Source::Ina226,
        "ina219" => Source::Ina219,
        _ => Source::Hwmon,
    }
}

impl Open {
    /// Microwatts.
    fn read(&mut self) -> Result<i64, MeterFault> {
        let product = match self {
            Self::Product(volts, amperes) => volts.read()?.checked_mul(amperes.read()?),
            Self::Power(power, unit) => power.read()?.checked_mul(1000 / *unit),
        };
        product.filter(|microwatts| microwatts.abs() < 1_000_000_000).ok_or(MeterFault::Nonsense)
    }
}

impl Meter for Hwmon {
    fn source(&self) -> Source {
        self.source
    }

    fn sample(&mut self, _now: Microseconds) -> Result<Draw, MeterFault> {
        let mut sum = 0;
        for rail in &mut self.rails {
            sum += rail.read()?;
        }
        // Offsets of an idle rail may be a little below nothing; more than that is no offset.
        match sum {
            ..-1_000_000 => Err(MeterFault::Nonsense),
            _ => Ok(Draw::Power(Milliwatts(
                u32::try_from((sum.max(0) + 500) / 1000).unwrap_or(u32::MAX),
            ))),
        }
    }
}
