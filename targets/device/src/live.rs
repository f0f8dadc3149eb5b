//! What is known about the service while it runs: read by `/metrics`, `/v1/dynamax` and the page.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dynamax_governor::{Events, MeterFault};

use crate::health::Health;
use crate::job::{Budget, Said, Summary};

/// Tokens over which recent means are kept.
const RECENT_TOKENS: usize = 64;
/// Events of the governor that go into the log.
const OF_OPERATORS: [(Events, &str); 2] = [
    (Events::BATTERY_LOW, "the battery is low: the budget of [power] below_battery holds"),
    (Events::BATTERY_BACK, "the battery is charged: the budget of [budget] holds again"),
];
/// Upper bounds of the histograms, in seconds.
pub(crate) const BOUNDS_S: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// How many values fell below each bound.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Histogram {
    pub(crate) counts: [u64; BOUNDS_S.len()],
    pub(crate) count: u64,
    pub(crate) sum_s: f64,
}

impl Histogram {
    fn add(&mut self, seconds: f64) {
        for (count, bound) in self.counts.iter_mut().zip(BOUNDS_S) {
            *count += u64::from(seconds <= bound);
        }
        self.count += 1;
        self.sum_s += seconds;
    }
}

/// What is loaded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) name: String,
    pub(crate) architecture: String,
    pub(crate) hash: String,
    pub(crate) slot: String,
    pub(crate) counter: Option<u64>,
    pub(crate) context: u32,
    pub(crate) planned_bytes: u64,
    pub(crate) isa: &'static str,
    pub(crate) threads: usize,
    pub(crate) segments: usize,
    /// The sensor that measures energy, or `model` where it is an estimate.
    pub(crate) energy_source: &'static str,
    pub(crate) has_chat_template: bool,
    pub(crate) memory_locked: bool,
    pub(crate) since_epoch_s: u64,
}

impl Loaded {
    /// Tokens that a sequence may hold; `None` without limit, as recurrent models are.
    pub(crate) fn context(&self) -> Option<u32> {
        (self.context != u32::MAX).then_some(self.context)
    }
}

/// Sums since the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) tokens: u64,
    pub(crate) prompt_tokens: u64,
    pub(crate) reused_tokens: u64,
    pub(crate) answers: u64,
    pub(crate) cancelled: u64,
    pub(crate) token: Histogram,
    pub(crate) first_token: Histogram,
    pub(crate) energy_mj: Option<f64>,
    pub(crate) loaded: Loaded,
    pub(crate) budget: Budget,
    pub(crate) meter: Health,
    pub(crate) power_mode: Option<u32>,
    recent: VecDeque<Said>,
}

/// Means over the last tokens; `None` where nothing was measured.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recent {
    pub(crate) ms_per_token: Option<f64>,
    pub(crate) depth: Option<f64>,
    pub(crate) energy_mj_per_token: Option<f64>,
}

/// Shared by all.
#[derive(Debug)]
pub(crate) struct Live {
    totals: Mutex<Totals>,
    started: Instant,
    /// Milliseconds after `started` when the thread that decodes last got on; 0 while it has nothing to do.
    busy_since_ms: AtomicU64,
    pub(crate) waiting: AtomicUsize,
    pub(crate) connections: AtomicUsize,
    pub(crate) requests: AtomicU64,
    pub(crate) refused: AtomicU64,
    /// No new requests are taken.
    pub(crate) draining: AtomicBool,
    /// Answers are not finished.
    cut: AtomicBool,
    /// The thread that decodes is ready.
    pub(crate) ready: AtomicBool,
}

impl Live {
    pub(crate) fn new(budget: Budget) -> Self {
        Self {
            totals: Mutex::new(Totals { budget, ..Totals::default() }),
            started: Instant::now(),
            busy_since_ms: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            ready: AtomicBool::new(false),
        }
    }

    /// The sums, held still.
    pub(crate) fn totals(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Answers that are under way end now.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// The thread that decodes is getting on.
    pub(crate) fn progress(&self) {
        let now = (self.started.elapsed().as_millis() as u64).max(1);
        self.busy_since_ms.store(now, Ordering::Relaxed);
    }

    /// The thread that decodes has nothing to do.
    pub(crate) fn idle(&self) {
        self.busy_since_ms.store(0, Ordering::Relaxed);
    }

    /// How long the thread that decodes has been at one step.
    pub(crate) fn stuck_for(&self) -> Duration {
        let since = self.busy_since_ms.load(Ordering::Relaxed);
        if since == 0 {
            return Duration::ZERO;
        }
        self.started.elapsed().saturating_sub(Duration::from_millis(since))
    }

    /// A token was made; the first of an answer has waited for its prompt.
    pub(crate) fn token(&self, said: &Said, is_first: bool) {
        let mut totals = self.totals();
        totals.tokens += 1;
        let seconds = said.ms / 1e3;
        if is_first {
            totals.first_token.add(seconds);
            return;
        }
        totals.token.add(seconds);
        if let Some(energy_mj) = said.energy_mj {
            *totals.energy_mj.get_or_insert(0.0) += energy_mj;
        }
        if totals.recent.len() == RECENT_TOKENS {
            totals.recent.pop_front();
        }
        totals.recent.push_back(said.clone());
    }

    /// A token's energy was measured, or this was wrong with the meter.
    pub(crate) fn metered(&self, fault: Option<MeterFault>) {
        if let Some(line) = self.totals().meter.saw(fault) {
            eprintln!("dynamaxd: {line}");
        }
    }

    /// What the governor told with a token. What concerns the operator goes into the log.
    pub(crate) fn steered(&self, events: Option<Events>) {
        for (event, line) in OF_OPERATORS {
            if events.is_some_and(|events| events.contains(event)) {
                eprintln!("dynamaxd: {line}");
            }
        }
    }

    /// The power mode that the board was seen in.
    pub(crate) fn power_mode_is(&self, mode: Option<u32>) {
        let before = std::mem::replace(&mut self.totals().power_mode, mode);
        if let (Some(before), Some(now)) = (before, mode.filter(|_| before != mode)) {
            eprintln!("dynamaxd: the power mode was {before} and is {now}");
        }
    }

    /// An answer is over.
    pub(crate) fn answered(&self, summary: &Summary, cancelled: bool) {
        let mut totals = self.totals();
        totals.answers += 1;
        totals.cancelled += u64::from(cancelled);
        totals.prompt_tokens += summary.prompt_tokens as u64;
        totals.reused_tokens += summary.reused_tokens as u64;
    }
}

impl Totals {
    /// Means over the last tokens.
    pub(crate) fn recent(&self) -> Recent {
        let mean = |value: fn(&Said) -> Option<f64>| {
            let values: Vec<f64> = self.recent.iter().filter_map(value).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        Recent {
            ms_per_token: mean(|said| Some(said.ms)),
            depth: mean(|said| Some(said.depth)),
            energy_mj_per_token: mean(|said| said.energy_mj),
        }
    }
}
