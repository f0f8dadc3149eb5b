//! Opens the meter that `device.toml` asks for.

use core::fmt;
use std::boxed::Box;
use std::format;
use std::path::PathBuf;
use std::string::String;
use std::vec::Vec;

use super::{Battery, Channel, Hwmon, Meter, Rapl, Trace};

/// A kind of meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The best that answers.
    Auto,
    /// An INA3221: through the kernel, else over I2C.
    Ina3221,
    /// Any sensor of the kernel's hwmon.
    Hwmon,
    /// An INA226 over I2C.
    Ina226,
    /// An INA219 over I2C.
    Ina219,
    /// Energy counters.
    Rapl,
    /// A battery.
    Battery,
    /// A recording.
    Trace,
}

/// What is wanted of a meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its kind.
    pub kind: Kind,
    /// Rails to add up, by label; none: the board's whole.
    pub rails: Vec<String>,
    /// The file system: `/`, but for tests.
    pub root: PathBuf,
    /// The I2C bus.
    pub bus: Option<PathBuf>,
    /// Channels to add up, where the kernel shows none.
    pub channels: Vec<Channel>,
    /// The recording.
    pub trace: Option<PathBuf>,
}

impl Wanted {
    /// A kind of meter on this machine.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            rails: Vec::new(),
            root: "/".into(),
            bus: None,
            channels: Vec::new(),
            trace: None,
        }
    }
}

/// No meter, and what each that was tried said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenError(pub Vec<String>);

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no power meter: {}", self.0.join("; "))
    }
}

impl core::error::Error for OpenError {}

/// Opens a meter that answers.
///
/// # Errors
///
/// What each that was tried said.
pub fn open(wanted: &Wanted) -> Result<Box<dyn Meter + Send>, OpenError> {
    let tried: &[Kind] = match wanted.kind {
        Kind::Auto => &[Kind::Ina3221, Kind::Rapl, Kind::Battery, Kind::Hwmon],
        _ => core::slice::from_ref(&wanted.kind),
    };
    let mut said = Vec::new();
    for kind in tried {
        match open_one(*kind, wanted) {
            Ok(mut meter) => match meter.sample(Default::default()) {
                Ok(_) => return Ok(meter),
                Err(fault) => said.push(format!("{}: {fault}", meter.source())),
            },
            Err(problem) => said.push(problem),
        }
    }
    Err(OpenError(said))
}

fn open_one(kind: Kind, wanted: &Wanted) -> Result<Box<dyn Meter + Send>, String> {
    match kind {
        Kind::Ina3221 => match hwmon_ina3221(wanted) {
            Ok(meter) => Ok(Box::new(meter)),
            Err(by_kernel) => {
                over_i2c(kind, wanted).map_err(|by_bus| format!("{by_kernel}; {by_bus}"))
            }
        },
        Kind::Ina226 | Kind::Ina219 => over_i2c(kind, wanted),
        Kind::Rapl => Ok(Box::new(Rapl::open(&wanted.root)?)),
        Kind::Battery => Ok(Box::new(Battery::open(&wanted.root)?)),
        Kind::Trace => {
            let path =
                wanted.trace.as_deref().ok_or("no recording was given: set [power] trace")?;
            Ok(Box::new(Trace::read(path, wanted.rails.first().map(String::as_str))?))
        }
        Kind::Hwmon | Kind::Auto => Ok(Box::new(Hwmon::open(&wanted.root, &wanted.rails)?)),
    }
}

fn hwmon_ina3221(wanted: &Wanted) -> Result<Hwmon, String> {
    let meter = Hwmon::open(&wanted.root, &wanted.rails)?;
    match meter.source() {
        super::Source::Ina3221 => Ok(meter),
        _ => Err("the kernel shows no INA3221".into()),
    }
}

#[cfg(all(feature = "i2c-dev", target_os = "linux"))]
fn over_i2c(kind: Kind, wanted: &Wanted) -> Result<Box<dyn Meter + Send>, String> {
    use super::{Chip, I2cDev, Ina};

    let chip = match kind {
        Kind::Ina226 => Chip::Ina226,
        Kind::Ina219 => Chip::Ina219,
        _ => Chip::Ina3221,
    };
    let path =
        wanted.bus.as_deref().ok_or("no I2C bus is known: set [power] bus, like \"/dev/i2c-1\"")?;
    let bus = I2cDev::open(path)
        .map_err(|error| format!("{} cannot be opened: {error}", path.display()))?;
    let ina = Ina::new(bus, chip, &wanted.channels)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Box::new(ina))
}

#[cfg(not(all(feature = "i2c-dev", target_os = "linux")))]
fn over_i2c(_kind: Kind, _wanted: &Wanted) -> Result<Box<dyn Meter + Send>, String> {
    Err("this program was built without I2C buses (feature i2c-dev)".into())
}
