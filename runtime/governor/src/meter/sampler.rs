//! A thread that samples a meter beside decoding, and a snapshot that is read without a lock.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use std::boxed::Box;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use super::{Draw, Meter, Source};
use crate::integrator::{Integrator, MeterFault, Plausible, Reading};
use crate::units::{Microjoules, Microseconds, Milliwatts};

/// Samples a meter until it is dropped.
#[derive(Debug)]
pub struct Sampler {
    shared: Arc<Shared>,
    source: Source,
    start: Instant,
    gap: Microseconds,
    thread: Option<JoinHandle<()>>,
}

/// The last reading, as atomics: a writer makes `version` odd while it writes, and a reader that saw it odd or changed reads
/// again.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    version: AtomicU32,
    at_us: AtomicU64,
    energy_uj: AtomicU64,
    power_mw: AtomicU32,
    faults: AtomicU32,
    /// The codes of the fault that holds, and of the last there was; 0: none.
    fault: AtomicU32,
    last_fault: AtomicU32,
}

impl Shared {
    fn write(&self, reading: &Reading) {
        self.version.fetch_add(1, Ordering::SeqCst);
        self.at_us.store(reading.at.0, Ordering::SeqCst);
        self.energy_uj.store(reading.energy.0, Ordering::SeqCst);
        self.power_mw.store(reading.power.0, Ordering::SeqCst);
        self.faults.store(reading.faults, Ordering::SeqCst);
        let code = |fault: Option<MeterFault>| fault.map_or(0, |fault| u32::from(fault.code()));
        self.fault.store(code(reading.fault), Ordering::SeqCst);
        self.last_fault.store(code(reading.last_fault), Ordering::SeqCst);
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    fn read(&self) -> Reading {
        loop {
            let before = self.version.load(Ordering::SeqCst);
            let fault = |code: &AtomicU32| {
                MeterFault::from_code(
                    u16::try_from(code.load(Ordering::SeqCst)).unwrap_or(u16::MAX),
                )
            };
            let reading = Reading {
                at: Microseconds(self.at_us.load(Ordering::SeqCst)),
                energy: Microjoules(self.energy_uj.load(Ordering::SeqCst)),
                power: Milliwatts(self.power_mw.load(Ordering::SeqCst)),
                faults: self.faults.load(Ordering::SeqCst),
                fault: fault(&self.fault),
                last_fault: fault(&self.last_fault),
            };
            if before.is_multiple_of(2) && before == self.version.load(Ordering::SeqCst) {
                return reading;
            }
            core::hint::spin_loop();
        }
    }
}

impl Sampler {
    /// Starts sampling, once every `interval`.
    ///
    /// # Errors
    ///
    /// What the system says, if it has no thread to give.
    pub fn start(meter: Box<dyn Meter + Send>, interval: Microseconds) -> std::io::Result<Self> {
        let plausible = Plausible::every(interval);
        let (source, start) = (meter.source(), Instant::now());
        let shared = Arc::new(Shared::default());
        shared.write(&Integrator::new(plausible).last());
        let (theirs, gap) = (Arc::clone(&shared), plausible.gap);
        let interval = Duration::from_micros(interval.0);
        let thread = std::thread::Builder::new()
            .name("dynamax-meter".into())
            .spawn(move || sample(meter, &theirs, start, (interval, plausible)))?;
        Ok(Self { shared, source, start, gap, thread: Some(thread) })
    }

    /// Where the numbers come from.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// Where the meter stands now. Two readings give the energy between them: [`Reading::since`].
    #[must_use]
    pub fn read(&self) -> Reading {
        self.shared.read().at(micros(self.start), self.gap)
    }

    /// Sleeps, and says what the board drew meanwhile: its idle power, if nothing else runs.
    ///
    /// # Errors
    ///
    /// What was wrong with the meter.
    pub fn mean_power(&self, over: Duration) -> Result<Milliwatts, MeterFault> {
        let before = self.read();
        std::thread::sleep(over);
        let after = self.read();
        let elapsed = after.at.since(before.at).0.max(1);
        let milliwatts = after.since(&before)?.0.saturating_mul(1000) / elapsed;
        Ok(Milliwatts(u32::try_from(milliwatts).unwrap_or(u32::MAX)))
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A meter that panicked has no one left to tell.
            let _ = thread.join();
        }
    }
}

fn sample(
    mut meter: Box<dyn Meter + Send>,
    shared: &Shared,
    start: Instant,
    (interval, plausible): (Duration, Plausible),
) {
    let mut integrator = Integrator::new(plausible);
    let mut next = start;
    while !shared.stop.load(Ordering::SeqCst) {
        let before = micros(start);
        match meter.sample(before) {
            Ok(Draw::Power(power)) => integrator.add(middle(before, micros(start)), Ok(power)),
            Ok(Draw::Energy(energy)) => integrator.add_energy(micros(start), energy),
            Err(fault) => integrator.add(micros(start), Err(fault)),
        }
        shared.write(&integrator.last());
        // What was missed is missed: no burst of samples after a pause.
        next = (next + interval).max(Instant::now());
        std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
    }
}

/// A sample is of some moment while it was taken.
fn middle(from: Microseconds, to: Microseconds) -> Microseconds {
    Microseconds(from.0 + to.since(from).0 / 2)
}

fn micros(start: Instant) -> Microseconds {
    Microseconds(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX))
}
