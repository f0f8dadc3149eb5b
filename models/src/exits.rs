//! Exits: places behind a layer where a token may leave, once a classifier says that the rest would not change it.
//!
//! ```text
//! residual stream after a layer ─┬─▶ classifier ─▶ [go on, exit] ─ softmax ─▶ score
//!                                └─▶ adapter, if there is one ─▶ the backbone's final norm ─▶ its head ─▶ token
//! ```
//!
//! As in DYNAMAX (arXiv 2504.20922) the head is only evaluated after the decision, so the classifier sees the residual
//! stream alone. The backbone is not touched: without its exits it is what it was.
//!
//! An exit is a Burn module like a backbone: `scores` and `adapt` take whole sequences and are differentiable,
//! `step_score` and `step_adapt` are written with the operators that devices have.

mod adapter;
mod classifier;
mod config;
mod decide;
mod deployed;
pub mod distill;
mod error;
mod evaluate;
mod metrics;
mod skip;
mod store;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::step::States;

pub use adapter::Adapter;
pub use classifier::{Calm, Classifier, Ffn, MambaBlock};
pub use config::{ClassifierConfig, ExitConfig, ExitsConfig};
pub use deployed::WithExits;
pub use error::ExitsError;
pub use evaluate::{AGREEMENTS, AtThreshold, Evaluation, ExitReport, THRESHOLDS, Trade};
pub use skip::State;
pub use store::{open, sources, write};

pub(crate) use decide::{Balance, decide};
pub(crate) use evaluate::Subject;

/// All exits of a backbone, in the order of its layers.
#[derive(Module, Debug)]
pub struct Exits {
    /// First to last.
    pub exits: Vec<Exit>,
}

impl Exits {
    /// Makes exits whose parameters are drawn at their first use.
    #[must_use]
    pub fn new(config: &ExitsConfig, device: &Device) -> Self {
        Self { exits: config.exits.iter().map(|exit| Exit::new(config, exit, device)).collect() }
    }

    /// Makes scores probabilities: what training with balanced classes did to them is undone in the last biases.
    #[must_use]
    pub(crate) fn calibrated(mut self, balance: &Balance) -> Self {
        for (index, exit) in self.exits.iter_mut().enumerate() {
            let decision = exit.classifier.decision_mut();
            let shift = balance.shift(index) as f32;
            let shifted = |bias: Tensor<1>| {
                let shift = Tensor::<1>::from_data([0.0, shift], &bias.device());
                bias + shift
            };
            decision.bias = decision.bias.take().map(|bias| bias.map(shifted));
        }
        self
    }
}

/// One exit.
#[derive(Module, Debug)]
pub struct Exit {
    /// Decides.
    pub classifier: Classifier,
    /// Makes the residual stream more like that of the last layer.
    pub adapter: Option<Adapter>,
    /// Layers that a token has passed here.
    pub after_layer: usize,
}

impl Exit {
    /// Makes one exit of `all`.
    #[must_use]
    pub fn new(all: &ExitsConfig, config: &ExitConfig, device: &Device) -> Self {
        let (d_model, eps) = (all.d_model, all.norm_eps);
        Self {
            classifier: Classifier::new(&config.classifier, d_model, eps, device),
            adapter: config.adapter.map(|width| Adapter::new(d_model, width, eps, device)),
            after_layer: config.after_layer,
        }
    }

    /// Scores every token: logits of going on, then of leaving.
    ///
    /// # Shapes
    ///
    /// - `residual`: `[batch, seq, d_model]`
    /// - returned: `[batch, seq, 2]`
    #[must_use]
    pub fn scores(&self, residual: Tensor<3>) -> Tensor<3> {
        self.classifier.forward(residual)
    }

    /// Adapts every token, before the backbone's final norm; without an adapter, nothing changes.
    ///
    /// # Shapes
    ///
    /// - `residual`, and returned: `[batch, seq, d_model]`
    #[must_use]
    pub fn adapt(&self, residual: Tensor<3>) -> Tensor<3> {
        match &self.adapter {
            Some(adapter) => adapter.forward(residual),
            None => residual,
        }
    }

    /// Adds the states that the classifier keeps along a sequence.
    pub fn add_states(&self, states: &mut States, device: &Device) {
        self.classifier.add_states(states, device);
    }

    /// Scores the last row, as deployed.
    ///
    /// # Shapes
    ///
    /// - `residual`: `[rows, d_model]`
    /// - returned: `[1, 2]`
    #[must_use]
    pub fn step_score(&self, residual: Tensor<2>, states: &mut States) -> Tensor<2> {
        self.classifier.step(residual, states)
    }

    /// Adapts the row that leaves, as deployed.
    ///
    /// # Shapes
    ///
    /// - `selected`, and returned: `[1, d_model]`
    #[must_use]
    pub fn step_adapt(&self, selected: Tensor<2>) -> Tensor<2> {
        match &self.adapter {
            Some(adapter) => adapter.step(selected),
            None => selected,
        }
    }
}
