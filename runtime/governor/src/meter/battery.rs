//! The battery's own gauge: coarse and slow, but on every laptop and many robots.
//!
//! `/sys/class/power_supply/*` with `type` "Battery" has `power_now` (uW), or `current_now` (uA) and `voltage_now` (uV); its charge is
//! `capacity` (%). While it is not discharging, it says nothing of what the board draws.

use std::path::{Path, PathBuf};
use std::string::String;

use super::files::{entries, number, text};
use super::{Draw, Meter, Source};
use crate::integrator::MeterFault;
use crate::units::{Microseconds, Milliwatts};

/// A battery.
#[derive(Debug)]
pub struct Battery(PathBuf);

impl Battery {
    /// The first battery that feeds the board, below `root`, which is `/` on a machine.
    ///
    /// # Errors
    ///
    /// That there is none.
    pub fn open(root: &Path) -> Result<Self, String> {
        let is_battery = |folder: &PathBuf| {
            // A mouse has a battery, too; its scope is "Device".
            text(&folder.join("type")).as_deref() == Some("Battery")
                && text(&folder.join("scope")).as_deref() != Some("Device")
        };
        let found = entries(&root.join("sys/class/power_supply")).into_iter().find(is_battery);
        found.map(Self).ok_or_else(|| {
            "the kernel shows no battery (sys/class/power_supply): use another meter".into()
        })
    }

    /// Its charge, of 1.
    #[must_use]
    pub fn level(&self) -> Option<f32> {
        let percent = number(&self.0.join("capacity"))?;
        (0..=100).contains(&percent).then_some(percent as f32 / 100.0)
    }

    /// Whether it feeds the board.
    #[must_use]
    pub fn is_discharging(&self) -> bool {
        text(&self.0.join("status")).as_deref() == Some("Discharging")
    }
}

impl Meter for Battery {
    fn source(&self) -> Source {
        Source::Battery
    }

    fn sample(&mut self, _now: Microseconds) -> Result<Draw, MeterFault> {
        if !self.0.exists() {
            return Err(MeterFault::Gone);
        }
        if !self.is_discharging() {
            return Err(MeterFault::OnMains);
        }
        // Some gauges count what flows out as negative.
        let value = |name: &str| number(&self.0.join(name)).map(i64::unsigned_abs);
        let microwatts = value("power_now").or_else(|| {
            let (ua, uv) = (value("current_now")?, value("voltage_now")?);
            Some(u64::try_from(u128::from(ua) * u128::from(uv) / 1_000_000).unwrap_or(u64::MAX))
        });
        let milliwatts = microwatts.ok_or(MeterFault::Nonsense)? / 1000;
        Ok(Draw::Power(Milliwatts(u32::try_from(milliwatts).unwrap_or(u32::MAX))))
    }
}
