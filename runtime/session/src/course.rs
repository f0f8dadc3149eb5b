//! How the step behind a token went: for whoever shows it while it happens, or afterwards.

use std::time::Duration;

use dynamax_engine::Outcome;
use dynamax_governor::{Decision, Events, MeterFault, Mode};

use crate::metering::Unmeasured;

/// How the step behind a token went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Course {
    /// Milliseconds of the step alone, which is what a deadline is about: no sampling, no listener.
    pub step_ms: f64,
    /// What was decided, under a budget.
    pub steering: Option<Steering>,
    /// Why its energy is not known, where a meter should have told.
    pub fault: Option<MeterFault>,
    /// What the model makes of it then: an estimate.
    pub modelled_mj: Option<f64>,
    /// Tokens that had left early and were now compared with full depth.
    pub revealed: u32,
    /// Of these, how many were those of full depth.
    pub agreed: u32,
}

/// What the governor decided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steering {
    /// The score at which the token might leave; `None`: at none.
    pub threshold: Option<f32>,
    /// What the governor was busy with.
    pub mode: Mode,
    /// What happened since the token before.
    pub events: Events,
}

impl Course {
    /// The course of a step.
    pub(crate) fn new(
        outcome: &Outcome,
        elapsed: Duration,
        steering: Option<Steering>,
        unmeasured: Option<Unmeasured>,
    ) -> Self {
        Self {
            step_ms: elapsed.as_secs_f64() * 1e3,
            steering,
            fault: unmeasured.map(|unmeasured| unmeasured.fault),
            modelled_mj: unmeasured.map(|unmeasured| unmeasured.modelled.0 as f64 / 1e3),
            revealed: outcome.revealed,
            agreed: outcome.agreed,
        }
    }
}

impl From<&Decision> for Steering {
    fn from(decision: &Decision) -> Self {
        let may_leave = decision.threshold <= 1.0 && !decision.catch_up_now;
        Self {
            threshold: may_leave.then_some(decision.threshold),
            mode: decision.mode,
            events: decision.events,
        }
    }
}
