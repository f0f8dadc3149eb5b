//! Where the exits of a model are, and of what kind.

use serde::{Deserialize, Serialize};

/// All exits of a backbone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExitsConfig {
    /// Width of the residual stream.
    pub d_model: usize,
    /// Added to the mean square by every norm.
    pub norm_eps: f64,
    /// In the order of the layers.
    pub exits: Vec<ExitConfig>,
}

impl ExitsConfig {
    /// Checks that exits stand where exits can stand: in order, behind one layer at least and before the last.
    ///
    /// # Errors
    ///
    /// What is wrong with which.
    pub fn check(&self, n_layers: usize) -> Result<(), String> {
        let mut before = 0;
        for ExitConfig { after_layer, classifier, adapter } in &self.exits {
            if *after_layer == 0 || *after_layer >= n_layers {
                return Err(format!(
                    "an exit after layer {after_layer} of {n_layers}: it has to be after 1 to {}",
                    n_layers.saturating_sub(1)
                ));
            }
            if *after_layer <= before {
                return Err(format!("an exit after layer {after_layer} behind one after {before}"));
            }
            before = *after_layer;
            let is_empty = match classifier {
                ClassifierConfig::Calm => false,
                ClassifierConfig::Ffn { width } => *width == 0,
                ClassifierConfig::Mamba { width, d_state } => *width == 0 || *d_state == 0,
            };
            if is_empty || *adapter == Some(0) {
                return Err(format!("the exit after layer {after_layer} has a width of 0"));
            }
        }
        Ok(())
    }
}

/// One exit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExitConfig {
    /// Layers that a token has passed here: at least one, and not all.
    pub after_layer: usize,
    /// What decides.
    pub classifier: ClassifierConfig,
    /// Width inside the adapter, if there is one.
    pub adapter: Option<usize>,
}

/// Kind and widths of a classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum ClassifierConfig {
    /// One layer.
    Calm,
    /// A feed-forward network.
    Ffn {
        /// Inside the network.
        width: usize,
    },
    /// A Mamba block.
    Mamba {
        /// Channels of the block.
        width: usize,
        /// Numbers of state per channel.
        d_state: usize,
    },
}

impl ClassifierConfig {
    /// The kind of this name in its default width, which costs a few hundredths of a layer of this `d_model`.
    #[must_use]
    pub fn narrow(name: &str, d_model: usize) -> Option<Self> {
        // Whole blocks of weights: 32 inputs are quantized together.
        let width = |share: usize| (d_model / share).next_multiple_of(32).max(32);
        match name {
            "calm" => Some(Self::Calm),
            "ffn" => Some(Self::Ffn { width: width(16) }),
            "mamba" => Some(Self::Mamba { width: width(16), d_state: 16 }),
            _ => None,
        }
    }

    /// Its name on the command line and in `exits.json`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Ffn { .. } => "ffn",
            Self::Mamba { .. } => "mamba",
        }
    }
}
