//! What a backbone has to be able to do to be deployed: a decode step written with [`dynamax_burn::ops`].
//!
//! The same step runs on Flex, where it is the reference, and on the capture device, where it becomes a Program
//! ([`crate::capture`]). `docs/adding-a-backbone.md` shows a whole one.

use std::collections::VecDeque;

use burn::tensor::{Device, Int, Tensor};
use dynamax_bundle::Classifier;
use dynamax_burn::ops::KvCache;

/// A language model that can be deployed.
pub trait Step {
    /// The states at the start of a sequence, zeroed, in the order in which [`Step::step`] updates them.
    /// `capacity` is the number of tokens that caches of attention have room for.
    fn states(&self, capacity: usize, device: &Device) -> States;

    /// Runs some rows through the model.
    ///
    /// May use the operators of [`dynamax_burn::ops`], `+` on two tensors of the same shape, and nothing else that
    /// computes; must not look at the values of its operands.
    ///
    /// # Shapes
    ///
    /// - `tokens`: `[rows]`
    /// - `position`: `[1]`, that of row 0
    fn step(&self, tokens: Tensor<1, Int>, position: Tensor<1, Int>, states: States) -> StepOutput;
}

/// What a step returns.
#[derive(Clone, Debug)]
pub struct StepOutput {
    /// The residual stream after each layer, `[rows, d_model]`: where exits may look. One entry per layer.
    pub residuals: Vec<Tensor<2>>,
    /// `[1, vocab_size]`, of the last row.
    pub logits: Tensor<2>,
    /// What exits say about the last row, computed behind the head, in the order of their layers; often nothing.
    pub exits: Vec<ExitOutput>,
    /// The states that were passed in, all of them updated.
    pub states: States,
}

/// What an exit says about the last row.
#[derive(Clone, Debug)]
pub struct ExitOutput {
    /// Layers that the row has passed: one of the residuals is what the exit looks at.
    pub after_layer: usize,
    /// What decides.
    pub classifier: Classifier,
    /// `[1, 2]`: logits of going on, then of leaving.
    pub score: Tensor<2>,
    /// `[1, vocab_size]`.
    pub logits: Tensor<2>,
}

/// The states of a model, in the order of its layers. A step takes each one, and puts it back, in that order.
#[derive(Clone, Debug, Default)]
pub struct States {
    pending: VecDeque<Tensor<2>>,
    updated: Vec<Tensor<2>>,
}

impl States {
    /// No states, to add to.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a state behind the others, zeroed.
    ///
    /// # Shapes
    ///
    /// - the state: `shape`
    pub fn add(&mut self, shape: [usize; 2], device: &Device) {
        self.pending.push_back(Tensor::zeros(shape, device));
    }

    /// Adds the two states of an attention layer behind the others, zeroed.
    pub fn add_cache(&mut self, capacity: usize, width: usize, device: &Device) {
        let KvCache { k, v } = KvCache::zeros(capacity, width, device);
        self.pending.extend([k, v]);
    }

    /// Updates the next state with an operator, and returns the operator's output.
    ///
    /// # Panics
    ///
    /// Panics if all states have been updated.
    pub fn update(
        &mut self,
        operator: impl FnOnce(Tensor<2>) -> (Tensor<2>, Tensor<2>),
    ) -> Tensor<2> {
        let (out, state) = operator(self.take());
        self.updated.push(state);
        out
    }

    /// Updates the next cache with an attention operator, and returns the operator's output.
    ///
    /// # Panics
    ///
    /// Panics if all states have been updated.
    pub fn update_cache(
        &mut self,
        operator: impl FnOnce(KvCache) -> (Tensor<2>, KvCache),
    ) -> Tensor<2> {
        let (k, v) = (self.take(), self.take());
        let (out, KvCache { k, v }) = operator(KvCache { k, v });
        self.updated.extend([k, v]);
        out
    }

    /// The states for the next step.
    ///
    /// # Panics
    ///
    /// Panics if a state has not been updated.
    #[must_use]
    pub fn finish(self) -> Self {
        assert!(
            self.pending.is_empty(),
            "a step updates every state; {} were left out",
            self.pending.len()
        );
        Self { pending: self.updated.into(), updated: Vec::new() }
    }

    /// Takes all but the first `count` states away, at the start of a step.
    #[must_use]
    pub fn split_off(&mut self, count: usize) -> Self {
        Self { pending: self.pending.split_off(count), updated: Vec::new() }
    }

    /// Adds others behind these, at the end of a step.
    #[must_use]
    pub fn join(mut self, others: Self) -> Self {
        self.pending.extend(others.pending);
        self
    }

    /// How many states, at the start or the end of a step.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// True without states.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// All states, in order, at the start or the end of a step.
    pub fn iter(&self) -> impl Iterator<Item = &Tensor<2>> {
        self.pending.iter()
    }

    fn take(&mut self) -> Tensor<2> {
        self.pending
            .pop_front()
            .unwrap_or_else(|| panic!("a step takes more states than the model has"))
    }
}

impl FromIterator<Tensor<2>> for States {
    fn from_iter<T: IntoIterator<Item = Tensor<2>>>(states: T) -> Self {
        Self { pending: states.into_iter().collect(), updated: Vec::new() }
    }
}
