//! What tokens cost in joules: measured where there is a sensor, modelled where there is none, and always labelled which.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dynamax_config::{DeviceConfig, Meter};
use dynamax_engine::Outcome;
use dynamax_governor::meter::{self, Modelled, Sampler, Source};
use dynamax_governor::{MeterFault, Microjoules, Microseconds, Reading};

use crate::traffic::Ladder;

/// Measures, or models, the energy of each token.
#[derive(Debug)]
pub struct Metering {
    /// What measures, and what it said last; without it, energy is modelled.
    sensor: Option<(Sampler, Reading)>,
    modelled: Modelled,
    ladder: Ladder,
}

/// A token whose energy a meter should have told, and did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unmeasured {
    /// Why not.
    pub fault: MeterFault,
    /// What the model makes of it: an estimate.
    pub modelled: Microjoules,
}

impl Metering {
    /// Opens the meter that `config` names, whose files are below `root`, which is `/` but for tests. With `auto` and no sensor,
    /// energy is modelled.
    ///
    /// # Errors
    ///
    /// A meter that is named and does not answer.
    pub fn open(
        config: &DeviceConfig,
        root: &Path,
        ladder: Ladder,
        threads: usize,
    ) -> Result<Self> {
        let board = config.board().map_err(anyhow::Error::msg)?;
        let modelled = Modelled::new(board.rates(threads as u32));
        let Some(mut wanted) = config.meter() else {
            return Ok(Self { sensor: None, modelled, ladder });
        };
        wanted.root = root.into();
        let sensor = match meter::open(&wanted) {
            Ok(meter) => {
                let sampler = Sampler::start(meter, config.power.interval)
                    .context("the thread that samples the meter cannot be started")?;
                let last = sampler.read();
                Some((sampler, last))
            }
            Err(_) if config.power.meter == Meter::Auto => None,
            Err(error) => bail!(
                "{error}: check [power] in the configuration, or use the meter \"model\" for estimates"
            ),
        };
        Ok(Self { sensor, modelled, ladder })
    }

    /// Where the numbers come from.
    #[must_use]
    pub fn source(&self) -> Source {
        self.sensor.as_ref().map_or(self.modelled.source(), |(sampler, _)| sampler.source())
    }

    /// Starts to count here.
    pub fn start(&mut self) {
        if let Some((sampler, last)) = &mut self.sensor {
            *last = sampler.read();
        }
    }

    /// The energy since the last token, or since the start.
    ///
    /// # Errors
    ///
    /// Why the meter does not know, and what the model makes of it.
    pub fn token(
        &mut self,
        outcome: &Outcome,
        context: u64,
        elapsed: Duration,
    ) -> Result<Microjoules, Unmeasured> {
        let Some((sampler, last)) = &mut self.sensor else {
            return Ok(self.model(outcome, context, elapsed));
        };
        let now = sampler.read();
        let energy = now.since(last);
        *last = now;
        energy.map_err(|fault| {
            let modelled = self.model(outcome, context, elapsed);
            Unmeasured { fault, modelled }
        })
    }

    fn model(&self, outcome: &Outcome, context: u64, elapsed: Duration) -> Microjoules {
        self.modelled.energy(
            self.ladder.step_bytes(outcome, context),
            self.ladder.step_macs(outcome),
            Microseconds(elapsed.as_micros() as u64),
        )
    }

    /// Whether it can be believed now.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.sensor.as_ref().is_none_or(|(sampler, _)| sampler.read().fault.is_none())
    }

    /// Waits until the meter has been seen to work; short, because samples come often.
    pub fn settle(&self) {
        let start = Instant::now();
        while !self.is_whole() && start.elapsed() < Duration::from_millis(200) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
