//! Where exits stand and what they are made of, as it is said on the command line.

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use dynamax_models::exits::{ClassifierConfig, ExitConfig};

/// Four places in the latter half, as in DYNAMAX, where there are enough layers.
pub(crate) const LATTER_HALF: &str = "0.5,0.625,0.75,0.875";

/// What decides who leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// One layer.
    Calm,
    /// A narrow feed-forward network.
    #[default]
    Ffn,
    /// A narrow Mamba block.
    Mamba,
}

impl Kind {
    /// In its default width.
    pub(crate) fn narrow(self, d_model: usize) -> ClassifierConfig {
        let name = match self {
            Self::Calm => "calm",
            Self::Ffn => "ffn",
            Self::Mamba => "mamba",
        };
        ClassifierConfig::narrow(name, d_model).unwrap_or(ClassifierConfig::Calm)
    }
}

/// A width, or `none`.
pub(crate) fn adapter(text: Option<&str>) -> Result<Option<usize>> {
    let Some(text) = text.filter(|text| *text != "none") else { return Ok(None) };
    let width = text.parse().ok().filter(|width| *width > 0);
    Ok(Some(width.with_context(|| format!("--adapter {text}: give a width, or none"))?))
}

/// Exits after the layers that `at` names: numbers with a point are shares of the depth, others count layers. Shares
/// that come to one layer are one exit; so in few layers there are fewer.
pub(crate) fn exits(
    at: &str,
    layers: usize,
    classifier: ClassifierConfig,
    adapter: Option<usize>,
) -> Result<Vec<ExitConfig>> {
    let place = |part: &str| {
        let part = part.trim();
        let wrong = || {
            format!(
                "exit at {part:?}: give a number of layers as 4, or a share of the depth as 0.5"
            )
        };
        if part.contains('.') {
            let share: f64 = part.parse().ok().with_context(wrong)?;
            ensure!(
                share > 0.0 && share < 1.0,
                "exit at {part}: a share of the depth is between 0 and 1"
            );
            Ok(((share * layers as f64).round() as usize).clamp(1, layers.saturating_sub(1)))
        } else {
            part.parse().ok().with_context(wrong)
        }
    };
    let mut places = at.split(',').map(place).collect::<Result<Vec<usize>>>()?;
    places.sort_unstable();
    places.dedup();
    if let Some(place) = places.iter().find(|place| **place == 0 || **place >= layers) {
        anyhow::bail!(
            "exit after layer {place}: this model has {layers} layers, an exit stands after 1 to {}",
            layers.saturating_sub(1)
        );
    }
    let exit = |after_layer| ExitConfig { after_layer, classifier, adapter };
    Ok(places.into_iter().map(exit).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(at: &str, layers: usize) -> Result<Vec<usize>> {
        let exits = exits(at, layers, ClassifierConfig::Calm, None)?;
        Ok(exits.into_iter().map(|exit| exit.after_layer).collect())
    }

    #[test]
    fn shares_and_numbers_of_layers_name_the_same_places() {
        assert_eq!(places(LATTER_HALF, 8).unwrap(), [4, 5, 6, 7], "every layer of the latter half");
        assert_eq!(places(LATTER_HALF, 32).unwrap(), [16, 20, 24, 28], "every fourth");
        assert_eq!(places("4, 6,0.5", 8).unwrap(), [4, 6], "once each");
        assert_eq!(places(LATTER_HALF, 2).unwrap(), [1], "there is only one place");
    }

    #[test]
    fn places_that_are_none_are_refused() {
        for (at, part) in
            [("8", "1 to 7"), ("0", "1 to 7"), ("1.5", "between 0 and 1"), ("x", "\"x\"")]
        {
            let error = places(at, 8).unwrap_err().to_string();
            assert!(error.contains(part), "{at}: {error}");
        }
    }
}
