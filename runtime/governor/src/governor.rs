//! The governor: before each token it decides how far the token may go, after it it learns what that cost.
//!
//! It turns one number, a *position* between full depth and the most lenient threshold of the calibration:
//!
//! - energy asks for a position: where the expected cost is what the window leaves to each of the next tokens;
//! - agreement allows one: the most lenient whose expected disagreements keep the floor;
//! - if energy asks for more than agreement allows, the one that the user ranks lower gives way.
//!
//! Two limits stand beside it and hold for the single token: the deepest segment that is in time, and the deepest that the
//! window can pay for.

mod costs;
mod drafts;
mod learn;
mod limits;
mod outlook;

pub use outlook::{Outlook, Verdict};

use crate::agreement::Evidence;
use crate::calibration::{Calibration, NEVER};
use crate::config::{Exits, GovernorConfig};
use crate::correction::{Correction, PARTS, Slowest};
use crate::cost::{CostModel, MAX_SEGMENTS, context_bucket};
use crate::decision::{Decision, Sample};
use crate::draft::{Drafting, RoundCost};
use crate::error::GovernorError;
use crate::event::Events;
use crate::mode::Mode;
use crate::shortfall::Shortfall;
use crate::units::{Microjoules, Microseconds};
use crate::waiting::Waiting;
use crate::window::EnergyWindow;

/// How much of a change towards strict is made at once. One towards lenient is made whole: better early than that the window's
/// limit holds a token back.
const TIGHTENING: f32 = 0.35;

/// Whether energy comes from a meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metering {
    /// Samples bring it; one without it is a fault.
    Measured,
    /// It is the cost model's, and called so.
    Modelled,
}

/// Keeps the budgets.
#[derive(Clone, Debug)]
pub struct Governor {
    config: GovernorConfig,
    model: CostModel,
    calibration: Calibration,
    metering: Metering,
    correction: Correction,
    slowest: Slowest,
    window: EnergyWindow,
    evidence: Evidence,
    shortfall: Shortfall,
    drafting: Drafting,
    waiting: Waiting,
    mode: Mode,
    events: Events,
    position: f32,
    /// How much more lenient a position must be on this text than the calibration says, to cost what it says.
    bias: f32,
    /// The same in the mean of some windows: what is hard here may be easy soon.
    habit: f32,
    /// Mean surprise of the last tokens, and its mean size: alike where a part of another kind has begun.
    surprises: (f32, f32),
    /// Share of tokens that leave early, seen and expected, and expected disagreements of forced exits.
    early: (f32, f32),
    forced: f32,
    /// Time factor that counts as normal.
    normal: f32,
    throttled: bool,
    battery_low: bool,
    /// Tokens in a row without, or (while broken) with, a measurement.
    streak: u8,
    conflict_left: u8,
    /// What the last decision allowed.
    last: Allowed,
}

/// Chance that a draft is right, where nothing is known of exits.
const UNKNOWN_ACCEPTANCE: f32 = 0.7;

/// What the last decision allowed.
#[derive(Clone, Copy, Debug, Default)]
struct Allowed {
    bucket: usize,
    /// The deepest segment, and what it would be if energy were no matter.
    deepest: usize,
    in_time: usize,
    expected_uj: f32,
    drafts: u8,
    /// Guesses at most, and what a round costs.
    lookups: u8,
    round: RoundCost,
}

impl Governor {
    /// A governor over a model of costs and what is known of exits.
    ///
    /// # Errors
    ///
    /// Settings that make no sense, or a calibration of another number of segments.
    pub fn new(
        config: GovernorConfig,
        model: CostModel,
        calibration: Calibration,
        metering: Metering,
    ) -> Result<Self, GovernorError> {
        config.validate()?;
        if calibration.segments() != model.count() {
            return Err(GovernorError::Segments { found: calibration.segments() });
        }
        let known = calibration.agreement_capped(0.0, 0);
        let first_acceptance = if known > 0.0 { known } else { UNKNOWN_ACCEPTANCE };
        let budget = config.energy_per_token.map_or(0, |energy| energy.0 as u32);
        let mut governor = Self {
            config,
            model,
            calibration,
            metering,
            correction: Correction::new(),
            slowest: Slowest::new(),
            window: EnergyWindow::new(config.window, budget),
            evidence: Evidence::new(),
            shortfall: Shortfall::default(),
            drafting: Drafting::new(config.exits.most_drafts(), first_acceptance),
            waiting: Waiting::default(),
            mode: Mode::Ample,
            events: Events::NONE,
            position: 0.0,
            bias: 0.0,
            habit: 0.0,
            surprises: (0.0, 0.3),
            early: (0.0, 0.0),
            forced: 0.0,
            normal: 1.0,
            throttled: false,
            battery_low: false,
            streak: 0,
            conflict_left: 0,
            last: Allowed::default(),
        };
        // Begin where the budget will be, not at full depth, so that the first tokens run up no debt.
        if let Some(budget) = governor.budget_uj() {
            let costs = governor.costs(0);
            governor.position = governor.position_of(&costs, model.count() - 1, budget);
        }
        Ok(governor)
    }

    /// Decides about the next token, at a context of so many tokens.
    pub fn decide(&mut self, context: u32) -> Decision {
        let bucket = context_bucket(context);
        let costs = self.costs(bucket);
        let end = self.model.count() - 1;
        if self.config.exits != Exits::Final {
            return self.decide_drafts(bucket, &costs);
        }
        let mut limits = self.limit_time(&costs);
        let (asked, allowed) = (self.asked(&costs, &mut limits), self.allowed());
        let target = self.resolve(asked, allowed, &mut limits);
        let rate = if target > self.position { 1.0 } else { TIGHTENING };
        self.position += rate * (target - self.position);
        if self.position < 0.02 && target <= 0.0 {
            self.position = 0.0;
        }
        let in_time = limits.deepest;
        self.limit_energy(&costs, &mut limits);
        let catch_up_now = self.must_catch_up(&costs, &mut limits);
        let deepest = if catch_up_now { end } else { limits.deepest };
        self.last = Allowed {
            bucket,
            deepest,
            in_time,
            expected_uj: self.expected_uj(&costs, in_time),
            ..Allowed::default()
        };
        self.change_mode(&limits, &costs);
        let mut decision = Decision {
            stop: self.mode == Mode::Stopped,
            threshold: if self.position > 0.0 {
                self.calibration.threshold(self.position)
            } else {
                NEVER
            },
            last_segment: deepest as u8,
            deadline_us: limits.deadline_us,
            latest_start_us: [u32::MAX; MAX_SEGMENTS],
            catch_up_now,
            draft_length: 0,
            mode: self.mode,
            events: core::mem::take(&mut self.events),
        };
        if let (Some(deadline), false) = (limits.deadline_us, catch_up_now) {
            self.set_latest_starts(&costs, deadline, &mut decision);
        }
        decision
    }

    /// Learns what became of the token that the last decision was about.
    pub fn observe(&mut self, sample: Sample) {
        let exit = usize::from(sample.exit_segment).min(self.model.count() - 1);
        let costs = self.costs(self.last.bucket);
        let owed_before = self.owed_uj();
        let parts = self.parts(exit, &sample);
        let ratio = self.learn_time(&parts, sample.elapsed_us);
        let predicted_uj: f32 =
            (0..PARTS).map(|part| self.correction.of(part, parts[part]).uj).sum();
        self.notice_meter(sample.energy);
        let energy_uj = match sample.energy {
            Some(energy) if !self.mode.is_fault() => {
                self.correction.energy.learn(&parts.map(|part| part.uj), energy.0 as f32);
                energy.0 as f32
            }
            // What takes longer at the same clocks also costs more: idle power flows all the while.
            _ => predicted_uj * ratio.clamp(0.5, 2.0),
        };
        self.move_rows(exit, sample.catch_up_rows > 0);
        let accrued = (energy_uj + self.owed_uj() - owed_before).max(0.0);
        let tokens = sample.tokens.max(1);
        for _ in 0..tokens {
            self.window.push((accrued / f32::from(tokens)) as u32);
        }
        match self.config.exits {
            Exits::Final => self.learn_exit(exit, &costs),
            Exits::Drafts { .. } => self.learn_drafts(&sample, energy_uj),
        }
        if let (Some(rows), Exits::Final) = (sample.revealed, self.config.exits) {
            self.learn_agreement(u32::from(rows.agreed.min(rows.of)), u32::from(rows.of));
        }
    }

    /// A new sequence begins: no rows wait.
    pub fn begin_sequence(&mut self) {
        self.waiting = Waiting::default();
        self.evidence.forget_waiting();
    }

    /// The meter is broken, or whole again: for what happens between tokens.
    pub fn meter_is(&mut self, state: MeterState) {
        match (state, self.mode.is_fault()) {
            (MeterState::Broken, false) => self.lose_meter(),
            (MeterState::Whole, true) => self.find_meter(),
            _ => {}
        }
    }

    /// The board changed its power mode: time and energy of everything change by these factors at once.
    pub fn power_mode_changed(&mut self, time_ratio: f32, energy_ratio: f32) {
        self.correction.time.jump(time_ratio);
        self.correction.energy.jump(energy_ratio);
        self.normal = self.correction.time.common();
        self.events.add(Events::POWER_MODE);
    }

    /// The battery's charge, of 1.
    pub fn battery_is(&mut self, level: f32) {
        let Some((below, budget)) = self.config.below_battery else { return };
        // A little more charge is needed to leave than to enter, so that a gauge that trembles changes nothing.
        let is_low = level < if self.battery_low { below + 0.02 } else { below };
        if is_low == self.battery_low {
            return;
        }
        self.battery_low = is_low;
        self.events.add(if is_low { Events::BATTERY_LOW } else { Events::BATTERY_BACK });
        let budget = if is_low { Some(budget) } else { self.config.energy_per_token };
        self.window.restart(budget.map_or(0, |energy| energy.0 as u32));
    }

    /// What the governor is busy with.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Mean energy of the tokens of the window, waiting rows included.
    #[must_use]
    pub fn mean_energy(&self) -> Microjoules {
        Microjoules(self.window.mean_uj().max(0.0) as u64)
    }

    /// The position that was chosen last: 0 is full depth, [`Calibration::last`] the most lenient.
    #[must_use]
    pub fn position(&self) -> f32 {
        self.position
    }

    /// Time and energy that a token at full depth is expected to take now.
    #[must_use]
    pub fn full_depth_costs(&self, context: u32) -> (Microseconds, Microjoules) {
        let cost = self.costs(context_bucket(context)).to_exit[self.model.count() - 1];
        (Microseconds(cost.us as u64), Microjoules(cost.uj as u64))
    }

    /// How often exits disagree, as a multiple of what the calibration says, with bounds that hold at all times.
    #[must_use]
    pub fn disagreement_factor(&self) -> (f32, (f32, f32)) {
        (self.evidence.factor(), self.evidence.bounds())
    }

    /// The model of costs, as it was given.
    #[must_use]
    pub fn model(&self) -> &CostModel {
        &self.model
    }

    /// The calibration.
    #[must_use]
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &GovernorConfig {
        &self.config
    }

    /// What is known of drafts.
    #[must_use]
    pub fn drafting(&self) -> &Drafting {
        &self.drafting
    }

    /// The corrections that measurements made to the model.
    #[must_use]
    pub fn correction(&self) -> &Correction {
        &self.correction
    }
}

/// Whether a meter can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeterState {
    /// It does not answer, or what it answers makes no sense.
    Broken,
    /// It answers.
    Whole,
}

impl Governor {
    fn budget_uj(&self) -> Option<f32> {
        match self.window.budget_uj() {
            0 => None,
            budget => Some(budget as f32),
        }
    }
}
