//! What a token teaches: how long things take, where tokens leave on this text, whether the meter lives.

use super::costs::Costs;
use super::{Governor, Metering};
use crate::config::{Exits, OnMeterFault};
use crate::correction::PARTS;
use crate::cost::Cost;
use crate::event::Events;
use crate::mode::Cause;
use crate::units::Microjoules;

/// How fast the mix of exits is learned.
const MIX_RATE: f32 = 1.0 / 20.0;

/// How much faster while surprises have one sign (Trigg and Leach 1967), beyond what chance does.
const MIX_SURGE: f32 = 0.2;
const CHANCE: f32 = 0.2;

/// How fast the sign and the size of surprises are learned.
const SURPRISE_RATE: f32 = 1.0 / 16.0;

/// Windows over which a text's habit is learned: savings are worth making only for what comes before they are forgotten.
const HABIT_WINDOWS: f32 = 12.0;

/// Tokens without a measurement after which the meter counts as broken, and with one after which it counts as whole.
const FAULT_AFTER: u8 = 4;

/// Factor by which time must change to be called throttling.
const THROTTLED: f32 = 1.15;

impl Governor {
    /// Learns how long tokens take; returns measured over predicted.
    pub(super) fn learn_time(&mut self, parts: &[Cost; PARTS], elapsed_us: u32) -> f32 {
        let ratio = self.correction.time.learn(&parts.map(|part| part.us), elapsed_us as f32);
        self.slowest.learn(ratio);
        let common = self.correction.time.common();
        if !self.throttled && common > self.normal * THROTTLED {
            self.throttled = true;
            self.events.add(Events::THROTTLED);
        } else if self.throttled && common < self.normal * (1.0 + (THROTTLED - 1.0) / 2.0) {
            self.throttled = false;
            self.events.add(Events::RECOVERED);
        } else if !self.throttled {
            self.normal += (common - self.normal) / 1024.0;
        }
        ratio
    }

    /// Learns where tokens leave on this text, and what that means for their agreement.
    pub(super) fn learn_exit(&mut self, exit: usize, costs: &Costs) {
        let end = self.model.count() - 1;
        let is_forced = exit < end && exit >= self.last.deepest;
        // A token that was held back would have gone on; how far is not known, so as far as it could.
        let spent = costs.steady_uj[if is_forced { self.last.in_time.max(exit) } else { exit }];
        let range = (costs.steady_uj[end] - costs.steady_uj[0]).max(f32::MIN_POSITIVE);
        let surprise = (spent - self.last.expected_uj) / range;
        if self.position > 0.0 {
            let last = self.calibration.last();
            let rate = self.mix_rate(surprise);
            self.bias = (self.bias + rate * surprise * last).clamp(-last, last);
            let rate = 1.0 / (HABIT_WINDOWS * self.config.window as f32);
            self.habit += rate * (self.bias - self.habit);
        }
        self.shortfall.add_token();
        let early = f32::from(u8::from(exit < end));
        self.early.0 += (early - self.early.0) / 128.0;
        self.early.1 += (self.calibration.early(self.position) - self.early.1) / 128.0;
        let wrong = 1.0 - self.calibration.forced(exit);
        self.forced += (if is_forced { wrong } else { 0.0 } - self.forced) / 256.0;
        if exit < end {
            self.evidence.expect(if is_forced { wrong } else { self.chance(self.position) });
        }
    }

    /// How much of a surprise is believed: more, if those before it had the same sign.
    fn mix_rate(&mut self, surprise: f32) -> f32 {
        let (sum, size) = &mut self.surprises;
        *sum += SURPRISE_RATE * (surprise - *sum);
        *size += SURPRISE_RATE * (surprise.abs() - *size);
        let alike = sum.abs() / size.max(1e-3);
        MIX_RATE + MIX_SURGE * (alike - CHANCE).max(0.0)
    }

    pub(super) fn learn_agreement(&mut self, agreed: u32, of: u32) {
        let before = self.evidence.bounds().0;
        self.evidence.reveal(agreed, of);
        self.shortfall.reveal(of - agreed, 1.0 - self.config.min_agreement);
        if self.evidence.bounds().0 > before.max(0.99) {
            self.events.add(Events::CALIBRATION_REFUTED);
        }
    }

    /// Chance that a token that leaves early at a position disagrees.
    pub(super) fn chance(&self, position: f32) -> f32 {
        let early = self.calibration.early(position).max(1e-3);
        ((1.0 - self.calibration.agreement(position)) / early).clamp(0.0, 1.0)
    }

    /// Notices a meter that falls silent, and one that is back.
    pub(super) fn notice_meter(&mut self, energy: Option<Microjoules>) {
        if self.metering == Metering::Modelled {
            return;
        }
        if energy.is_some() == self.mode.is_fault() {
            self.streak = self.streak.saturating_add(1);
        } else {
            self.streak = 0;
        }
        if self.streak >= FAULT_AFTER {
            if self.mode.is_fault() { self.find_meter() } else { self.lose_meter() }
        }
    }

    pub(super) fn lose_meter(&mut self) {
        let cause = match self.config.on_meter_fault {
            OnMeterFault::Continue => Cause::Lost,
            OnMeterFault::Stop => Cause::Halt,
        };
        (self.mode, self.streak) = (self.mode.next(cause), 0);
        self.events.add(Events::METER_LOST);
    }

    pub(super) fn find_meter(&mut self) {
        (self.mode, self.streak) = (self.mode.next(Cause::Back), 0);
        self.events.add(Events::METER_BACK);
    }

    pub(super) fn move_rows(&mut self, exit: usize, took_along: bool) {
        let end = self.model.count() - 1;
        if self.config.rows_that_may_wait == 0 || self.config.exits != Exits::Final {
            return;
        }
        if took_along {
            self.waiting.take_along(exit);
        }
        if exit < end {
            self.waiting.add(exit);
        }
        self.waiting.arrive(end);
    }
}
