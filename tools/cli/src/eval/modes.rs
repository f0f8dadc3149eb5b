//! What is compared: full depth, and beside it what was asked for.

use anyhow::{Result, ensure};
use dynamax_bundle::StateMode;
use dynamax_bundle::check::MAX_EXITS;
use dynamax_engine::{ExitError, ExitSettings};
use dynamax_session::depth::Fixed;
use dynamax_session::{Depth, Session};

use super::report::Mode;
use crate::session::DecodeArguments;

/// A way to decode, with its name.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    /// Its name in the report.
    pub(crate) mode: Mode,
    /// How deep tokens go.
    pub(crate) depth: Depth,
}

/// Full depth first; then the mode that the flags ask for; then, for a sweep, `count` thresholds with every treatment of
/// skipped state.
pub(crate) fn ways(
    session: &Session<'_>,
    decode: &DecodeArguments,
    sweep: Option<usize>,
) -> Result<Vec<Way>> {
    let mut ways = vec![Way { mode: Mode::full_depth(), depth: Depth::Full }];
    match decode.steady_depth(session)? {
        Depth::Fixed(fixed) => ways.push(way(session, fixed)),
        depth @ Depth::Verified(_) => {
            let mode = Mode { exit: "verified".into(), ..Mode::full_depth() };
            ways.push(Way { mode, depth });
        }
        Depth::Full | Depth::Budget(_) => {}
    }
    let Some(count) = sweep else { return Ok(ways) };
    ensure!(!session.model().program().exits.is_empty(), ExitError::NoExits);
    ensure!((2..=100).contains(&count), "--sweep {count}: give 2 to 100 thresholds");
    for state in StateMode::ALL {
        for threshold in thresholds(count) {
            let settings = ExitSettings { state, ..ExitSettings::default() };
            let fixed = Fixed { settings, thresholds: [threshold; MAX_EXITS], decay: None };
            ways.push(way(session, fixed));
        }
    }
    Ok(ways)
}

fn way(session: &Session<'_>, fixed: Fixed) -> Way {
    let exits = session.model().program().exits;
    let kinds: Vec<_> = exits.iter().map(|exit| exit.classifier.name()).collect();
    let classifier = kinds.first().filter(|first| kinds.iter().all(|kind| kind == *first));
    Way {
        mode: Mode {
            exit: "fixed".into(),
            threshold: fixed.thresholds[..exits.len().max(1)].first().map(|t| f64::from(*t)),
            state: Some(fixed.settings.state.name().into()),
            classifier: classifier.map(|kind| (*kind).to_owned()),
        },
        depth: Depth::Fixed(fixed),
    }
}

/// From sure to unsure, in equal steps of log-odds: 99.8 % down to 27 %.
fn thresholds(count: usize) -> impl Iterator<Item = f32> {
    (0..count).map(move |index| {
        let log_odds = 6.2 - 7.2 * index as f32 / (count - 1) as f32;
        1.0 / (1.0 + (-log_odds).exp())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_falls_from_sure_to_unsure() {
        let all: Vec<f32> = thresholds(12).collect();
        assert!(all.windows(2).all(|pair| pair[1] < pair[0]), "descending");
        assert!(all[0] > 0.99 && all[11] < 0.3, "{all:?}");
    }
}
