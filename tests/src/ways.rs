//! Ways of a sequence through a model, and what an executor says along one: to compare executors with.
//!
//! The first executor chooses: tokens, and where they leave. A second one is led along the same way, and says at each choice what
//! it would have chosen, so that a near tie changes nothing behind it.

use std::sync::{Mutex, PoisonError};

use dynamax_bundle::StateMode;
use dynamax_engine::{Decoder, ExitSettings, Outcome, Probed};

use crate::budget::{Steering, thresholds};
use crate::{Random, VOCAB_SIZE, WINDOW};

/// A mode of exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Exits are off.
    Off,
    /// Each token leaves at the first exit that scores enough.
    Fixed(StateMode),
    /// A governor says what is enough.
    Budget(StateMode),
    /// What leaves is a draft, which the last layer verifies.
    Verified,
}

impl Way {
    /// All modes with all treatments of skipped state.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let fixed = StateMode::ALL.into_iter().map(Self::Fixed);
        let budget = StateMode::ALL.into_iter().map(Self::Budget);
        [Self::Off].into_iter().chain(fixed).chain(budget).chain([Self::Verified]).collect()
    }

    fn settings(self) -> Option<ExitSettings> {
        let usual = |state| ExitSettings {
            state,
            reveals: state == StateMode::Deferred,
            pending_max: WAITING,
            ..ExitSettings::default()
        };
        match self {
            Self::Off => None,
            Self::Fixed(state) | Self::Budget(state) => Some(usual(state)),
            Self::Verified => Some(ExitSettings { drafts: true, ..ExitSettings::default() }),
        }
    }
}

/// Rows that may wait.
pub(crate) const WAITING: u32 = 5;

/// An exit that was asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asked {
    /// What it scored.
    pub score: f32,
    /// What was enough.
    pub limit: f32,
}

impl Asked {
    /// Its token leaves.
    #[must_use]
    pub fn leaves(&self) -> bool {
        self.score >= self.limit
    }
}

/// What an executor said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// At each choice of a token.
    pub logits: Vec<Vec<f32>>,
    /// The most probable at each choice.
    pub tokens: Vec<u32>,
    /// Exits, in the order in which they were asked.
    pub asked: Vec<Asked>,
    /// Ways of tokens.
    pub outcomes: Vec<Outcome>,
}

impl Trace {
    /// Feeds a prompt, then chooses so many tokens; where there is a `leader`, it chooses in place of this one.
    ///
    /// # Panics
    ///
    /// Panics if the decoder refuses.
    #[must_use]
    pub fn of(decoder: &mut Decoder<'_>, way: Way, made: usize, leader: Option<&Self>) -> Self {
        let limits = thresholds(decoder);
        let mut walk = Walk { leader, trace: Self::default() };
        decoder.use_exits(way.settings()).expect("possible");
        decoder.feed(&prompt()).expect("accepted");
        match way {
            Way::Verified => walk.rounds(decoder, made, limits[1]),
            _ => walk.tokens(decoder, made, way, limits),
        }
        decoder.catch_up();
        // Of the state that was left behind: what it says next, at full depth.
        walk.trace.logits.push(decoder.feed(&[7]).expect("accepted").to_vec());
        walk.trace
    }
}

/// Some ids, more than a window of them.
pub(crate) fn prompt() -> Vec<u32> {
    let mut random = Random::new(5);
    (0..WINDOW + 20).map(|_| random.below(VOCAB_SIZE)).collect()
}

/// A sequence on its way.
struct Walk<'l> {
    leader: Option<&'l Trace>,
    trace: Trace,
}

impl Walk<'_> {
    /// Chooses a token.
    fn choose(&mut self, decoder: &mut Decoder<'_>) -> u32 {
        let (index, token) = (self.trace.tokens.len(), decoder.best());
        self.trace.tokens.push(token);
        self.trace.logits.push(decoder.logits().to_vec());
        self.leader.map_or(token, |leader| leader.tokens[index])
    }

    /// Feeds a token, which leaves where an exit scores `limit`.
    fn step(&mut self, decoder: &mut Decoder<'_>, token: u32, limit: f32) -> Outcome {
        let asked = Mutex::new(std::mem::take(&mut self.trace.asked));
        let decide = |probed: Probed| {
            let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            let (index, found) = (asked.len(), Asked { score: probed.score, limit });
            asked.push(found);
            self.leader.map_or(found, |leader| leader.asked[index]).leaves()
        };
        let outcome = decoder.step(token, decide).expect("accepted");
        self.trace.asked = asked.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.trace.outcomes.push(outcome);
        outcome
    }

    fn tokens(&mut self, decoder: &mut Decoder<'_>, made: usize, way: Way, limits: [f32; 3]) {
        let mut steering = Steering::new(decoder.model(), limits);
        for _ in 0..made {
            let token = self.choose(decoder);
            let limit = match way {
                Way::Budget(_) => steering.limit(decoder.position()),
                _ => limits[1],
            };
            let outcome = self.step(decoder, token, limit);
            steering.learn(&outcome);
        }
    }

    /// Drafts, and keeps what the last layer says.
    fn rounds(&mut self, decoder: &mut Decoder<'_>, made: usize, limit: f32) {
        let last = decoder.model().program().segments.len() as u16 - 1;
        let mut token = self.choose(decoder);
        while self.trace.tokens.len() < made {
            while self.step(decoder, token, limit).reach != last {
                token = self.choose(decoder);
            }
            token = self.choose(decoder);
            while decoder.accept(token) {
                token = self.choose(decoder);
            }
        }
    }
}
