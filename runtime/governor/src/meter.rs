//! Power meters behind one trait: chips on an I2C bus, and with `std` the kernel's files, counters, batteries and recordings.
//!
//! A meter says what it saw when it is asked; adding up is the [`Integrator`](crate::Integrator)'s part. What it saw is labelled with
//! its [`Source`], always: a number from a model is never called measured.

#[cfg(feature = "std")]
mod battery;
#[cfg(feature = "std")]
mod files;
#[cfg(feature = "std")]
mod hwmon;
#[cfg(all(feature = "i2c-dev", target_os = "linux"))]
mod i2c_dev;
mod ina;
mod modelled;
#[cfg(feature = "std")]
mod open;
#[cfg(feature = "std")]
mod power_mode;
#[cfg(feature = "std")]
mod rapl;
#[cfg(feature = "std")]
mod sampler;
#[cfg(feature = "std")]
mod trace;

use core::fmt;

#[cfg(feature = "std")]
pub use battery::Battery;
#[cfg(feature = "std")]
pub use hwmon::{Hwmon, HwmonRail, rails};
#[cfg(all(feature = "i2c-dev", target_os = "linux"))]
pub use i2c_dev::{I2cDev, I2cDevError};
pub use ina::{Channel, Chip, Ina, InaError, MAX_CHANNELS};
pub use modelled::Modelled;
#[cfg(feature = "std")]
pub use open::{Kind, OpenError, Wanted, open};
#[cfg(feature = "std")]
pub use power_mode::power_mode;
#[cfg(feature = "std")]
pub use rapl::Rapl;
#[cfg(feature = "std")]
pub use sampler::Sampler;
#[cfg(feature = "std")]
pub use trace::Trace;

use crate::integrator::MeterFault;
use crate::units::{Microjoules, Microseconds, Milliwatts};

/// Where a number comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An INA3221, through the kernel or over I2C.
    Ina3221,
    /// An INA226, likewise.
    Ina226,
    /// An INA219, likewise.
    Ina219,
    /// Another sensor of the kernel's hwmon.
    Hwmon,
    /// The processor's energy counters.
    Rapl,
    /// The battery's gauge.
    Battery,
    /// A recording.
    Trace,
    /// An estimate from bytes and products.
    Model,
}

impl Source {
    /// The label that reports carry.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Ina3221 => "ina3221",
            Self::Ina226 => "ina226",
            Self::Ina219 => "ina219",
            Self::Hwmon => "hwmon",
            Self::Rapl => "rapl",
            Self::Battery => "battery",
            Self::Trace => "trace",
            Self::Model => "model",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// What a meter saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// Power at this moment.
    Power(Milliwatts),
    /// Energy since it was last asked.
    Energy(Microjoules),
}

/// A power meter.
pub trait Meter {
    /// Where its numbers come from.
    fn source(&self) -> Source;

    /// What it sees at the moment `now`, counted from any start.
    ///
    /// # Errors
    ///
    /// Why it sees nothing.
    fn sample(&mut self, now: Microseconds) -> Result<Draw, MeterFault>;
}
