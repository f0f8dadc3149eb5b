//! A backbone and its exits, trained as one.

use burn::module::Module;
use burn::tensor::{Device, Gradients, Int, Tensor};

use super::heads::{Heads, Stream, StreamOutput};
use super::{ExitsRecipe, Recipe};
use crate::backbone::Backbone;
use crate::config::Config;
use crate::exits::{Balance, Exits, decide};

/// What is trained.
#[derive(Module, Debug)]
pub(super) struct Model {
    /// The backbone.
    pub(super) backbone: Backbone,
    /// Its exits; there may be none.
    pub(super) exits: Exits,
}

impl Model {
    /// Makes a model, and exits if the recipe has some, whose parameters are drawn at their first use.
    pub(super) fn new(recipe: &Recipe, config: &Config, device: &Device) -> Self {
        let exits = recipe.exits.as_ref().map(|exits| Exits::new(&exits.config(config), device));
        Self {
            backbone: Backbone::new(config, device),
            exits: exits.unwrap_or(Exits { exits: Vec::new() }),
        }
    }
}

/// What a step came to.
#[derive(Debug)]
pub(super) struct Losses {
    /// At full depth.
    pub(super) full: f32,
    /// At each exit: the loss, the divergence, agreement with full depth, and the loss of the classifier.
    pub(super) exits: Vec<ExitLosses>,
}

/// What a step came to at one exit.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExitLosses {
    /// The mean of `-log p(next token)`.
    pub loss: f64,
    /// The mean divergence from full depth.
    pub divergence: f64,
    /// The share of tokens whose best next token is that of full depth.
    pub agreement: f64,
    /// The balanced cross-entropy of the classifier.
    pub decision: f64,
}

impl Losses {
    /// Is any of it no number?
    pub(super) fn broken(&self) -> Option<f32> {
        let exits = self.exits.iter().flat_map(|exit| [exit.loss, exit.decision]);
        core::iter::once(self.full).chain(exits.map(|loss| loss as f32)).find(|x| !x.is_finite())
    }
}

/// One batch, and how it is run.
pub(super) struct Pass<'p> {
    pub(super) inputs: Tensor<2, Int>,
    pub(super) targets: &'p [i32],
    /// What the loss is made of.
    pub(super) exits: Option<&'p ExitsRecipe>,
    /// Layers that are left out of this step.
    pub(super) dropped: &'p [bool],
}

impl Pass<'_> {
    /// Runs the model forwards and backwards.
    pub(super) fn run(self, model: &Model, balance: &mut Balance) -> (Losses, Gradients) {
        let exits = &model.exits.exits;
        let mut residuals = Vec::with_capacity(exits.len());
        let last = model.backbone.walk(self.inputs, |index, x, layer| {
            let x = if self.dropped[index] { x } else { layer(x) };
            residuals.extend(
                exits.iter().filter(|exit| exit.after_layer == index + 1).map(|_| x.clone()),
            );
            x
        });
        let adapted = exits.iter().zip(&residuals).map(|(exit, x)| exit.adapt(x.clone()));
        let normed = core::iter::once(last).chain(adapted).map(|x| model.backbone.final_norm(x));
        let normed: Vec<Tensor<2>> = normed.map(rows).collect();
        let head = model.backbone.head();
        let output = Heads {
            head: head.clone().inner(),
            targets: self.targets,
            top_k: self.exits.map_or(1, |exits| exits.top_k),
            is_trained: true,
        }
        .run(&streams(self.exits, &normed));
        // Burn is told gradients, not losses: the gradient of Σ x ⊙ g by x is g.
        let mut told = vec![tell(head, output.head)];
        let mut losses = Losses { full: 0.0, exits: Vec::new() };
        for (x, StreamOutput { gradient, .. }) in normed.into_iter().zip(&output.streams) {
            told.extend(gradient.clone().map(|gradient| tell(x, gradient)));
        }
        let [full, others @ ..] = &output.streams[..] else { unreachable!("full depth is there") };
        losses.full = full.loss as f32;
        for (index, (exit, stream)) in exits.iter().zip(others).enumerate() {
            // The classifier learns to judge the backbone; it does not move it.
            let scores = exit.scores(residuals[index].clone().detach());
            let (decision, gradient) =
                decide(rows(scores.clone()).inner(), &stream.is_good, balance, index);
            told.push(tell(rows(scores), gradient));
            losses.exits.push(ExitLosses {
                loss: stream.loss,
                divergence: stream.divergence,
                agreement: stream.agreement(),
                decision,
            });
        }
        let told = told.into_iter().reduce(|sum, next| sum + next);
        let gradients = told.map(|told| told.backward());
        (losses, gradients.unwrap_or_else(|| unreachable!("full depth is told")))
    }
}

/// Full depth counts once; exits share their weights evenly.
fn streams(recipe: Option<&ExitsRecipe>, normed: &[Tensor<2>]) -> Vec<Stream> {
    let exits = (normed.len() - 1).max(1) as f32;
    let weight =
        |of: fn(&ExitsRecipe) -> f64| recipe.map_or(0.0, |recipe| of(recipe) as f32 / exits);
    let stream = |(index, rows): (usize, &Tensor<2>)| Stream {
        rows: rows.clone().inner(),
        text: if index == 0 { 1.0 } else { weight(|recipe| recipe.exit_loss) },
        teacher: if index == 0 { 0.0 } else { weight(|recipe| recipe.exit_distill) },
    };
    normed.iter().enumerate().map(stream).collect()
}

/// `[batch, seq, width]` as `[batch · seq, width]`.
fn rows(x: Tensor<3>) -> Tensor<2> {
    let [batch, seq, width] = x.dims();
    x.reshape([batch * seq, width])
}

fn tell(x: Tensor<2>, gradient: Tensor<2>) -> Tensor<1> {
    (x * Tensor::from_inner(gradient)).sum()
}
