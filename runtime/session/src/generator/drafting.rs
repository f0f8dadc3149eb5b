//! What a token is chosen from, and how drafts are chosen.

use std::time::Duration;

use dynamax_engine::{Decoder, Outcome as Step, Sampler};
use dynamax_governor::{MeterFault, Microjoules};

use super::Ask;
use crate::metering::Metering;
use crate::rounds::Drafter;

/// What of the logits a token is chosen from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hears {
    Best,
    All,
}

impl Hears {
    pub(super) fn of(sampler: &Sampler<'_>, ask: &Ask) -> Self {
        let is_greedy = sampler.takes_the_largest() && ask.alternatives.is_none();
        if is_greedy { Self::Best } else { Self::All }
    }

    /// Looks at it now: a device has only noted a step until somebody looks, and that is the token's time.
    pub(super) fn wait(self, decoder: &mut Decoder<'_>) {
        match self {
            Self::Best => _ = decoder.best(),
            Self::All => _ = decoder.logits(),
        }
    }
}

/// Drafts with the sampler of an answer, and measures what that takes.
pub(super) struct Drafting<'d, 's> {
    pub(super) hears: Hears,
    pub(super) sampler: &'d mut Sampler<'s>,
    pub(super) metering: &'d mut Option<Metering>,
    pub(super) context: u64,
    /// Of all steps; modelled where a meter did not tell.
    pub(super) energy: Microjoules,
    /// Why it did not.
    pub(super) fault: Option<MeterFault>,
}

impl Drafter for Drafting<'_, '_> {
    fn draft(&mut self, decoder: &mut Decoder<'_>, drafts: &[u32]) -> u32 {
        if self.sampler.takes_the_largest() {
            return decoder.best();
        }
        self.sampler.draft(decoder.logits(), drafts)
    }

    fn hear(&mut self, decoder: &mut Decoder<'_>) {
        self.hears.wait(decoder);
    }

    fn stepped(&mut self, outcome: &Step, elapsed: Duration) -> Option<Microjoules> {
        let metering = self.metering.as_mut()?;
        let metered = metering.token(outcome, self.context, elapsed);
        self.fault = metered.err().map(|unmeasured| unmeasured.fault).or(self.fault);
        let energy = metered.unwrap_or_else(|unmeasured| unmeasured.modelled);
        self.energy = Microjoules(self.energy.0 + energy.0);
        metered.ok()
    }
}
