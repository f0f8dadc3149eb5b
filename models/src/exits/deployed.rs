//! A backbone with its exits, as it is deployed.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use dynamax_burn::ops;

use super::{Classifier, Exit, Exits, ExitsConfig};
use crate::backbone::Backbone;
use crate::config::Config;
use crate::step::{ExitOutput, States, Step, StepOutput};

/// A backbone and exits behind some of its layers. All exits are asked in every step; a device asks only those that it
/// needs.
#[derive(Module, Debug)]
pub struct WithExits {
    /// What speaks.
    pub backbone: Backbone,
    /// Where it may leave.
    pub exits: Exits,
}

impl WithExits {
    /// Makes both; their parameters are drawn at their first use.
    #[must_use]
    pub fn new(config: &Config, exits: &ExitsConfig, device: &Device) -> Self {
        Self { backbone: Backbone::new(config, device), exits: Exits::new(exits, device) }
    }

    fn exit_states(&self, device: &Device) -> States {
        let mut states = States::new();
        for exit in &self.exits.exits {
            exit.add_states(&mut states, device);
        }
        states
    }

    fn ask(&self, exit: &Exit, residual: Tensor<2>, states: &mut States) -> ExitOutput {
        let last = residual.dims()[0] - 1;
        let score = exit.step_score(residual.clone(), states);
        let row = exit.step_adapt(ops::select(residual, last));
        ExitOutput {
            after_layer: exit.after_layer,
            classifier: exit.classifier.kind(),
            score,
            logits: self.backbone.step_head(row),
        }
    }
}

impl Step for WithExits {
    fn states(&self, capacity: usize, device: &Device) -> States {
        self.backbone.states(capacity, device).join(self.exit_states(device))
    }

    fn step(
        &self,
        tokens: Tensor<1, Int>,
        position: Tensor<1, Int>,
        mut states: States,
    ) -> StepOutput {
        let own = self.exit_states(&tokens.device()).len();
        let mut exit_states = states.split_off(states.len() - own);
        let mut out = self.backbone.step(tokens, position, states);
        for exit in &self.exits.exits {
            let residual = out.residuals[exit.after_layer - 1].clone();
            out.exits.push(self.ask(exit, residual, &mut exit_states));
        }
        StepOutput { states: out.states.join(exit_states.finish()), ..out }
    }
}

impl Classifier {
    /// The kind, as the Program names it.
    #[must_use]
    pub fn kind(&self) -> dynamax_bundle::Classifier {
        match self {
            Self::Calm(_) => dynamax_bundle::Classifier::Calm,
            Self::Ffn(_) => dynamax_bundle::Classifier::Ffn,
            Self::Mamba(_) => dynamax_bundle::Classifier::Mamba,
        }
    }
}
