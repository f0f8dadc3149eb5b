//! How deep tokens go: through all layers, or until an exit is sure enough.

use anyhow::{Result, bail, ensure};
use dynamax_bundle::check::MAX_EXITS;
use dynamax_bundle::{Bundle, Certificate, Program, StateMode};
use dynamax_config::{DeviceConfig, ExitMode};
use dynamax_engine::exits::Decay;
use dynamax_engine::{ExitSettings, Thresholds};

use crate::budget::{Budget, exit_settings};
use crate::machine::Machine;
use crate::rounds::Rounds;

/// How deep tokens go.
#[derive(Clone, Debug, Default)]
pub enum Depth {
    /// Through all layers.
    #[default]
    Full,
    /// Until an exit scores enough.
    Fixed(Fixed),
    /// As deep as a budget allows.
    Budget(Box<Budget>),
    /// Early, as drafts that the last layer verifies.
    Verified(Box<Rounds>),
}

/// Fixed thresholds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fixed {
    /// What happens to skipped layers.
    pub settings: ExitSettings,
    /// A threshold for each exit; a score of at least this leaves.
    pub thresholds: [f32; MAX_EXITS],
    /// How fast thresholds fall along an answer (CALM's τ); `None`: not at all.
    pub decay: Option<f32>,
}

impl Depth {
    /// How exits are used, if they are.
    #[must_use]
    pub fn settings(&self) -> Option<ExitSettings> {
        match self {
            Self::Full => None,
            Self::Fixed(fixed) => Some(fixed.settings),
            Self::Budget(budget) => Some(budget.settings()),
            Self::Verified(rounds) => Some(rounds.settings()),
        }
    }

    /// The governor at work, if one is.
    #[must_use]
    pub fn budget(&self) -> Option<&Budget> {
        match self {
            Self::Full | Self::Fixed(_) => None,
            Self::Budget(budget) => Some(budget),
            Self::Verified(rounds) => Some(rounds.budget()),
        }
    }

    /// The same, to be told of changes.
    pub fn budget_mut(&mut self) -> Option<&mut Budget> {
        match self {
            Self::Full | Self::Fixed(_) => None,
            Self::Budget(budget) => Some(budget),
            Self::Verified(rounds) => Some(rounds.budget_mut()),
        }
    }

    /// The decision of an answer that starts at a position and is `length` tokens long at most. A budget decides token by
    /// token instead: see [`Budget::decide`].
    #[must_use]
    pub fn decision(&self, start: u32, length: u32) -> Thresholds {
        match self {
            Self::Full | Self::Budget(_) | Self::Verified(_) => Thresholds::all(f32::INFINITY),
            Self::Fixed(fixed) => Thresholds {
                exits: fixed.thresholds,
                decay: fixed.decay.map(|rate| Decay { rate, start, length }),
            },
        }
    }
}

/// How deep tokens go on a device. A bundle without exits runs at full depth, whatever is asked for; its tokens may be verified
/// all the same, as drafts need no exits where they have been said before.
///
/// # Errors
///
/// A mode that is not there, thresholds that are missing, a budget that makes no sense.
pub fn of_device(
    config: &DeviceConfig,
    bundle: &Bundle<'_>,
    program: &Program<'_>,
    machine: &Machine<'_>,
) -> Result<Depth> {
    if program.exits.is_empty() && config.exit.mode != ExitMode::Verified {
        return Ok(Depth::Full);
    }
    match config.exit.mode {
        ExitMode::Off => Ok(Depth::Full),
        ExitMode::Fixed => {
            let settings = exit_settings(config);
            let given: Vec<f32> = config.exit.threshold.iter().map(|t| *t as f32).collect();
            let thresholds = thresholds(bundle, &given, settings.state)?;
            Ok(Depth::Fixed(Fixed { settings, thresholds, decay: None }))
        }
        ExitMode::Budget => {
            let budget = Budget::new(bundle, program, config, machine)?;
            Ok(Depth::Budget(Box::new(budget)))
        }
        ExitMode::Verified => {
            let budget = Budget::new(bundle, program, config, machine)?;
            Ok(Depth::Verified(Box::new(Rounds::new(budget))))
        }
    }
}

/// Thresholds for `fixed` mode: the given ones (one for all exits, or one each), or those of the bundle's certificate for
/// this treatment of skipped state.
///
/// # Errors
///
/// A bundle without exits, as many thresholds as fit no exit, one out of range, or none and no certificate.
pub fn thresholds(
    bundle: &Bundle<'_>,
    given: &[f32],
    state: StateMode,
) -> Result<[f32; MAX_EXITS]> {
    let exits = bundle.counts().exits;
    ensure!(exits > 0, dynamax_engine::ExitError::NoExits);
    if given.is_empty() {
        return certificate(bundle, state).map(|certificate| certificate.thresholds);
    }
    ensure!(
        given.len() == 1 || given.len() == exits,
        "--threshold has {} values and the bundle {exits} exits: give one value for all, or one for each",
        given.len()
    );
    let outside = given.iter().find(|threshold| !(0.0..=1.0).contains(*threshold));
    if let Some(found) = outside {
        bail!("--threshold {found} is out of range: give a probability from 0 to 1");
    }
    Ok(std::array::from_fn(|exit| given[exit.min(given.len() - 1)]))
}

/// The certificate for a treatment of skipped state.
fn certificate(bundle: &Bundle<'_>, state: StateMode) -> Result<Certificate> {
    let calibration = bundle.calibration()?;
    let found = calibration.and_then(|calibration| calibration.certificate(state));
    found.ok_or_else(|| {
        let known: Vec<_> = calibration
            .iter()
            .flat_map(|calibration| calibration.certificates().map(|c| c.state.name()))
            .collect();
        let known = if known.is_empty() {
            "none is certified".to_owned()
        } else {
            format!("certified: {}", known.join(", "))
        };
        anyhow::anyhow!(
            "this bundle has no certified thresholds for --state {} ({known}): give --threshold, or certify some with \
             dynamax calibrate",
            state.name()
        )
    })
}
