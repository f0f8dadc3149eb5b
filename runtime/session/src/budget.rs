//! The governor at work: what is known of a bundle and a board, turned into a decision before each token.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dynamax_bundle::{Bundle, Program, StateMode};
use dynamax_config::{DeviceConfig, ExitMode, StatePolicy};
use dynamax_engine::{Decide, ExitSettings, Outcome, Probed};
use dynamax_governor::{
    Calibration, CostModel, Decision, Events, Governor, Level, MAX_LEVELS, MAX_SEGMENTS,
    MeterState, Metering, Microjoules, NEVER, Outlook, Revealed, Sample,
};

use crate::machine::Machine;
use crate::modes::in_mode_of_now;
use crate::traffic::Ladder;

/// Keeps the budgets of a configuration for one bundle.
#[derive(Clone, Debug)]
pub struct Budget {
    governor: Governor,
    settings: ExitSettings,
    /// The segment that each exit stands behind.
    segments: Arc<[u8]>,
    is_profiled: bool,
    /// What has happened so far.
    events: Events,
}

/// What the governor allows for one token, and since when it runs.
#[derive(Clone, Debug)]
pub struct Running {
    decision: Decision,
    segments: Arc<[u8]>,
    start: Instant,
}

impl Decide for Running {
    fn foregone(&self, exit: usize) -> Option<bool> {
        self.decision.foregone_behind(self.segments[exit].into())
    }

    fn leaves(&self, probed: Probed) -> bool {
        let elapsed_us = self.start.elapsed().as_micros().min(u32::MAX.into()) as u32;
        let segment = usize::from(self.segments[probed.exit]);
        self.decision.leaves_behind(segment, probed.score, elapsed_us)
    }
}

impl Running {
    /// What was decided.
    #[must_use]
    pub fn decision(&self) -> &Decision {
        &self.decision
    }

    /// Time since the token was started.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

impl Budget {
    /// A governor for `bundle`, with costs that are the profile's or else follow from the board's rates.
    ///
    /// # Errors
    ///
    /// A configuration or a calibration that makes no sense; more segments than the governor can count.
    pub fn new(
        bundle: &Bundle<'_>,
        program: &Program<'_>,
        config: &DeviceConfig,
        machine: &Machine<'_>,
    ) -> Result<Self> {
        let segments = program.segments.len();
        ensure!(
            segments <= MAX_SEGMENTS,
            "the bundle has {segments} segments, and a budget can be kept for at most {MAX_SEGMENTS}: build it with \
             fewer exits"
        );
        let settings = exit_settings(config);
        let ladder = Ladder::of(program);
        let board = config.board().map_err(anyhow::Error::msg)?;
        let (measured_in, costs) = match machine.profile {
            Some(profile) => (profile.power_mode, profile.model),
            None => {
                let rates = board.rates(machine.threads as u32);
                let costs = CostModel::from_traffic(&ladder.segments, ladder.head, &rates);
                (None, costs.context("the board's rates make no costs")?)
            }
        };
        let costs = in_mode_of_now(machine.root, &board, measured_in, &costs);
        let calibration = calibration(bundle, program)?;
        let waiting = settings.pending_max as u16;
        let governor =
            Governor::new(config.governor(waiting), costs, calibration, Metering::Measured)?;
        let exits = program.exits.iter().map(|exit| exit.segment as u8).collect();
        let is_profiled = machine.profile.is_some();
        Ok(Self { governor, settings, segments: exits, is_profiled, events: Events::NONE })
    }

    /// How exits are used.
    #[must_use]
    pub fn settings(&self) -> ExitSettings {
        self.settings
    }

    /// What the configuration will come to at a context.
    #[must_use]
    pub fn outlook(&self, context: u32) -> Outlook {
        self.governor.outlook(context)
    }

    /// Whether costs were measured beforehand.
    #[must_use]
    pub fn is_profiled(&self) -> bool {
        self.is_profiled
    }

    /// The governor.
    #[must_use]
    pub fn governor(&self) -> &Governor {
        &self.governor
    }

    /// What has happened so far: which goal gave way, what was reported of the meter.
    #[must_use]
    pub fn events(&self) -> Events {
        self.events
    }

    /// Starts a new sequence.
    pub fn begin_sequence(&mut self) {
        self.governor.begin_sequence();
    }

    /// The meter answers again: for what was stopped when it broke, and so would never see it measure.
    pub fn meter_is_whole(&mut self) {
        self.governor.meter_is(MeterState::Whole);
    }

    /// The board changed its power mode: everything takes this much more time and energy.
    pub fn power_mode_changed(&mut self, time_ratio: f32, energy_ratio: f32) {
        self.governor.power_mode_changed(time_ratio, energy_ratio);
    }

    /// The battery's charge, of 1.
    pub fn battery_is(&mut self, level: f32) {
        self.governor.battery_is(level);
    }

    /// Decides about the next token, which starts now.
    pub fn decide(&mut self, context: u32) -> Running {
        let decision = self.governor.decide(context);
        self.events.add(decision.events);
        Running { decision, segments: Arc::clone(&self.segments), start: Instant::now() }
    }

    /// Guesses to verify instead of what was decided, see [`Governor::lookup_length`].
    #[must_use]
    pub fn lookup_length(&self, matched: usize) -> usize {
        self.governor.lookup_length(matched).into()
    }

    /// What a match led to was right or wrong, see [`Governor::judge_lookup`].
    pub fn judge_lookup(&mut self, matched: usize, is_right: bool) {
        self.governor.judge_lookup(matched, is_right);
    }

    /// Learns what became of it. `energy` is what the meter says, be it a sensor or the model.
    pub fn observe(&mut self, outcome: &Outcome, elapsed: Duration, energy: Option<Microjoules>) {
        let revealed = (outcome.revealed > 0)
            .then_some(Revealed { agreed: outcome.agreed as u16, of: outcome.revealed as u16 });
        self.observe_sample(Sample {
            catch_up_rows: outcome.caught_up as u16,
            energy,
            revealed,
            asked: outcome.asked,
            ..Sample::new(outcome.segment as u8, microseconds(elapsed))
        });
    }

    /// Learns what became of a token, or of a round of drafts.
    pub fn observe_sample(&mut self, sample: Sample) {
        self.governor.observe(sample);
    }
}

/// To the nearest: small models take few.
pub(crate) fn microseconds(elapsed: Duration) -> u32 {
    ((elapsed.as_nanos() + 500) / 1000).min(u32::MAX.into()) as u32
}

/// How a configuration uses exits; catch-ups reveal how often early tokens agree.
pub(crate) fn exit_settings(config: &DeviceConfig) -> ExitSettings {
    let state = match config.exit.state {
        StatePolicy::Copy => StateMode::Copy,
        StatePolicy::Propagate => StateMode::Propagate,
        StatePolicy::Skip => StateMode::Skip,
        StatePolicy::Deferred => StateMode::Deferred,
    };
    let drafts = config.exit.mode == ExitMode::Verified;
    ExitSettings {
        state,
        // Of drafts as many as were planned.
        pending_max: if drafts { 0 } else { WAITING },
        reveals: state == StateMode::Deferred && !drafts,
        drafts,
    }
}

/// Rows that may wait under a budget: enough to spread the weights over, few enough for a deadline.
const WAITING: u32 = 15;

/// The calibration of a bundle as the governor wants it: thresholds from strict to lenient, agreement falling.
fn calibration(bundle: &Bundle<'_>, program: &Program<'_>) -> Result<Calibration> {
    let segments = program.segments.len();
    let Some(known) = bundle.calibration()? else { return Ok(Calibration::none(segments)) };
    let points: Vec<_> = known.points().filter(|point| point.threshold < NEVER.min(1.0)).collect();
    let stride = points.len().div_ceil(MAX_LEVELS - 1).max(1);
    let (mut levels, mut agreement) = (Vec::new(), 1.0_f32);
    for point in points.iter().step_by(stride) {
        agreement = agreement.min(point.agreement);
        let mut exits = [0.0; MAX_SEGMENTS];
        for (exit, left) in program.exits.iter().zip(point.left) {
            exits[usize::from(exit.segment)] = left;
        }
        exits[segments - 1] = (1.0 - exits.iter().sum::<f32>()).max(0.0);
        levels.push(Level { threshold: point.threshold, agreement, exits });
    }
    let mut forced = vec![0.0; segments];
    for (exit, agreement) in program.exits.iter().zip(known.forced()) {
        forced[usize::from(exit.segment)] = agreement;
    }
    forced[segments - 1] = 1.0;
    Calibration::new(&levels, &forced)
        .context("the bundle's calibration cannot be used: calibrate it again")
}
