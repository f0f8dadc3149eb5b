//! The energy counters of Intel's and AMD's processors, in the kernel's powercap.
//!
//! `/sys/class/powercap/intel-rapl:N` is a package, `intel-rapl:N:M` a part of it. A package does not contain its memory, so that
//! parts named "dram" are added. Counters wrap around at `max_energy_range_uj`. Since 2020 only root may read them.
//!
//! A processor that runs draws power: while the counter of any package stands still, nothing has been measured. What others counted
//! meanwhile is kept until it moves.

use std::format;
use std::path::{Path, PathBuf};
use std::string::String;
use std::vec::Vec;

use super::files::{NumberFile, entries, number, text};
use super::{Draw, Meter, Source};
use crate::integrator::MeterFault;
use crate::units::{Microjoules, Microseconds};

/// Packages and their memory, added up.
#[derive(Debug)]
pub struct Rapl {
    counters: Vec<Counter>,
    /// What was counted while a package stood still.
    kept_uj: u64,
}

#[derive(Debug)]
struct Counter {
    file: NumberFile,
    is_package: bool,
    range_uj: u64,
    last_uj: Option<u64>,
}

impl Rapl {
    /// Opens the counters below `root`, which is `/` on a machine.
    ///
    /// # Errors
    ///
    /// Why there are none.
    pub fn open(root: &Path) -> Result<Self, String> {
        let mut counters = Vec::new();
        for folder in entries(&root.join("sys/class/powercap")) {
            if is_counted(&folder) {
                counters.push(open(&folder)?);
            }
        }
        if counters.is_empty() {
            return Err(
                "the kernel shows no energy counters (sys/class/powercap): use another meter"
                    .into(),
            );
        }
        Ok(Self { counters, kept_uj: 0 })
    }
}

/// Packages, and the memory that they do not contain.
fn is_counted(folder: &Path) -> bool {
    let name =
        folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let Some(numbers) = name.strip_prefix("intel-rapl:") else { return false };
    match (numbers.contains(':'), text(&folder.join("name")).as_deref()) {
        (false, Some(name)) => name.starts_with("package"),
        (true, Some(name)) => name == "dram",
        _ => false,
    }
}

fn open(folder: &Path) -> Result<Counter, String> {
    let path: PathBuf = folder.join("energy_uj");
    let file = NumberFile::open(&path).map_err(|error| {
        format!("{} cannot be read ({error}): only root may, or who is given leave", path.display())
    })?;
    let range =
        number(&folder.join("max_energy_range_uj")).and_then(|range| u64::try_from(range).ok());
    let is_package = text(&folder.join("name")).is_some_and(|name| name.starts_with("package"));
    Ok(Counter { file, is_package, range_uj: range.unwrap_or(u64::from(u32::MAX)), last_uj: None })
}

impl Counter {
    /// Microjoules since it was last asked; the first time, none.
    fn step(&mut self) -> Result<u64, MeterFault> {
        let now = u64::try_from(self.file.read()?).map_err(|_| MeterFault::Nonsense)?;
        let step = match self.last_uj.replace(now) {
            None => 0,
            Some(last) if now >= last => now - last,
            // It has wrapped around.
            Some(last) => (self.range_uj + now).checked_sub(last).ok_or(MeterFault::Nonsense)?,
        };
        Ok(step)
    }
}

impl Meter for Rapl {
    fn source(&self) -> Source {
        Source::Rapl
    }

    fn sample(&mut self, _now: Microseconds) -> Result<Draw, MeterFault> {
        let (mut sum, mut is_still) = (core::mem::take(&mut self.kept_uj), false);
        for counter in &mut self.counters {
            let step = counter.step()?;
            sum += step;
            is_still |= counter.is_package && step == 0;
        }
        if is_still {
            self.kept_uj = sum;
            return Ok(Draw::Energy(Microjoules(0)));
        }
        Ok(Draw::Energy(Microjoules(sum)))
    }
}
