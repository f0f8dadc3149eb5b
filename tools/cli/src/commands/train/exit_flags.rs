//! The flags that say which exits are trained with a model, and how.

use anyhow::{Result, ensure};
use clap::Args;
use dynamax_models::exits::ExitConfig;
use dynamax_models::train::{ExitsRecipe, Recipe};

use crate::commands::exit_places::{self, Kind};

/// Exits, as far as they were given.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct ExitFlags {
    /// Train exits with the model: numbers of layers, or shares of the depth; without a list, in the latter half.
    #[arg(
        long,
        help_heading = "Exits",
        value_name = "AT,…",
        num_args = 0..=1,
        default_missing_value = exit_places::LATTER_HALF
    )]
    exits: Option<String>,
    /// What decides who leaves [default: ffn].
    #[arg(long, help_heading = "Exits", value_enum, requires = "exits")]
    classifier: Option<Kind>,
    /// Width of an adapter in front of the head, or none [default: none].
    #[arg(long, help_heading = "Exits", value_name = "WIDTH", requires = "exits")]
    adapter: Option<String>,
    /// A token may leave if its best next token is among this many best of full depth [default: 1].
    #[arg(long, help_heading = "Exits", requires = "exits")]
    top_k: Option<usize>,
    /// Weight of the losses of all exits, where that of full depth is 1 [default: 0.3].
    #[arg(long, help_heading = "Exits", requires = "exits")]
    exit_loss: Option<f64>,
    /// Weight of how far all exits are from full depth [default: 1].
    #[arg(long, help_heading = "Exits", requires = "exits")]
    exit_distill: Option<f64>,
    /// Chance that a step leaves the last layer out; earlier layers have a smaller one [default: 0].
    #[arg(long, help_heading = "Exits", requires = "exits")]
    layer_dropout: Option<f64>,
}

impl ExitFlags {
    /// The recipe, with defaults for what was not given; `None` without exits.
    pub(super) fn recipe(&self, d_model: usize, layers: usize) -> Result<Option<ExitsRecipe>> {
        let Some(at) = &self.exits else { return Ok(None) };
        let kind = self.classifier.unwrap_or_default();
        let adapter = exit_places::adapter(self.adapter.as_deref())?;
        let exits = exit_places::exits(at, layers, kind.narrow(d_model), adapter)?;
        ensure!(!exits.is_empty(), "--exits {at}: no place for an exit in {layers} layers");
        Ok(Some(ExitsRecipe {
            exits,
            top_k: self.top_k.unwrap_or(1),
            exit_loss: self.exit_loss.unwrap_or(0.3),
            exit_distill: self.exit_distill.unwrap_or(1.0),
            layer_dropout: self.layer_dropout.unwrap_or(0.0),
        }))
    }

    /// The first flag that was given and is not what `recipe` has.
    pub(super) fn differs_from(&self, recipe: &Recipe) -> Result<Option<String>> {
        if self.exits.is_none() {
            return Ok(None);
        }
        let (given, stored) = (self.recipe(recipe.d_model, recipe.layers)?, &recipe.exits);
        let (Some(given), Some(stored)) = (given, stored) else {
            return Ok(Some("exits".into()));
        };
        let places =
            |exits: &[ExitConfig]| exits.iter().map(|exit| exit.after_layer).collect::<Vec<_>>();
        let each = |differs: fn(&ExitConfig, &ExitConfig) -> bool| {
            given.exits.iter().zip(&stored.exits).any(|(given, stored)| differs(given, stored))
        };
        let other = |given: Option<f64>, stored: f64| {
            given.is_some_and(|given| given.total_cmp(&stored).is_ne())
        };
        // Flags that were not given are as they are there.
        let differs = [
            ("exits", places(&given.exits) != places(&stored.exits)),
            ("classifier", self.classifier.is_some() && each(|a, b| a.classifier != b.classifier)),
            ("adapter", self.adapter.is_some() && each(|a, b| a.adapter != b.adapter)),
            ("top-k", self.top_k.is_some_and(|top_k| top_k != stored.top_k)),
            ("exit-loss", other(self.exit_loss, stored.exit_loss)),
            ("exit-distill", other(self.exit_distill, stored.exit_distill)),
            ("layer-dropout", other(self.layer_dropout, stored.layer_dropout)),
        ];
        Ok(differs.into_iter().find(|(_, differs)| *differs).map(|(name, _)| name.into()))
    }
}
