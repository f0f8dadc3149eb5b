//! What tokens cost in joules: measured where there is a sensor, modelled where there is none, and always labelled which.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dynamax_config::{Board, DeviceConfig, Meter};
use dynamax_engine::Outcome;
use dynamax_governor::meter::{self, Modelled, Sampler, Source};
use dynamax_governor::{MeterFault, Microjoules, Microseconds, Reading};

use crate::traffic::Ladder;

/// Measures, or models, the energy of each token.
#[derive(Debug)]
pub struct Metering {
    how: How,
    ladder: Ladder,
}

#[derive(Debug)]
enum How {
    Measured { sampler: Sampler, last: Reading },
    Modelled(Modelled),
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
        let modelled = |board: &Board| How::Modelled(Modelled::new(board.rates(threads as u32)));
        let Some(mut wanted) = config.meter() else {
            return Ok(Self { how: modelled(&board), ladder });
        };
        wanted.root = root.into();
        let how = match meter::open(&wanted) {
            Ok(meter) => {
                let sampler = Sampler::start(meter, config.power.interval)
                    .context("the thread that samples the meter cannot be started")?;
                let last = sampler.read();
                How::Measured { sampler, last }
            }
            Err(_) if config.power.meter == Meter::Auto => modelled(&board),
            Err(error) => bail!(
                "{error}: check [power] in the configuration, or use the meter \"model\" for estimates"
            ),
        };
        Ok(Self { how, ladder })
    }

    /// Where the numbers come from.
    #[must_use]
    pub fn source(&self) -> Source {
        match &self.how {
            How::Measured { sampler, .. } => sampler.source(),
            How::Modelled(modelled) => modelled.source(),
        }
    }

    /// Starts to count here.
    pub fn start(&mut self) {
        if let How::Measured { sampler, last } = &mut self.how {
            *last = sampler.read();
        }
    }

    /// The energy since the last token, or since the start.
    ///
    /// # Errors
    ///
    /// Why the meter does not know.
    pub fn token(
        &mut self,
        outcome: &Outcome,
        context: u64,
        elapsed: Duration,
    ) -> Result<Microjoules, MeterFault> {
        match &mut self.how {
            How::Measured { sampler, last } => {
                let now = sampler.read();
                let energy = now.since(last);
                *last = now;
                energy
            }
            How::Modelled(modelled) => Ok(modelled.energy(
                self.ladder.step_bytes(outcome, context),
                self.ladder.step_macs(outcome),
                Microseconds(elapsed.as_micros() as u64),
            )),
        }
    }

    /// Whether it can be believed now.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        match &self.how {
            How::Measured { sampler, .. } => sampler.read().fault.is_none(),
            How::Modelled(_) => true,
        }
    }

    /// Waits until the meter has been seen to work; short, because samples come often.
    pub fn settle(&self) {
        let How::Measured { sampler, .. } = &self.how else { return };
        let (first, start) = (sampler.read(), Instant::now());
        while sampler.read().at == first.at && start.elapsed() < Duration::from_millis(200) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
