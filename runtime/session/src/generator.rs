//! Where tokens are made: one after the other, for whoever listens.
//!
//! A generator remembers what it has fed. A prompt that goes on where the last one ended, as the next turn of a
//! conversation does, costs its new tokens only; any other starts a new sequence. The answer is the same either way.

mod drafting;

use std::ops::ControlFlow;
use std::time::Instant;

use dynamax_engine::{Decoder, ExitError, Line, Outcome as Step, Sampler, Sampling, StepError};
use dynamax_governor::Microjoules;

use drafting::{Drafting, Hears};

use crate::course::{Course, Steering};
use crate::depth::Depth;
use crate::metering::{Metering, Unmeasured};
use crate::probabilities::log_probabilities;
use crate::rounds::Tally;
use crate::session::Session;
use crate::surroundings::Surroundings;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ask {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Tokens at most; fewer if the planned context ends before.
    pub most_tokens: usize,
    /// Whether a token that ends the text ends the answer.
    pub eos: Eos,
    /// How many alternatives to report with each token; `None` reports no probabilities at all.
    pub alternatives: Option<usize>,
}

/// What a token that ends the text does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eos {
    /// It ends the answer, and is not part of it.
    #[default]
    Ends,
    /// It is a token as any other.
    Ignored,
}

/// One token of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Which.
    pub id: u32,
    /// Milliseconds since the token before, or since the prompt began.
    pub ms: f64,
    /// The last segment that it went through.
    pub segment: u16,
    /// Share of all layers that it went through.
    pub depth: f64,
    /// Energy that it took, where that is measured.
    pub energy_mj: Option<f64>,
    /// How the step behind it went; `None` for the first, which comes with the prompt.
    pub course: Option<Course>,
    /// Its natural log-probability under the model, before temperature and filters, if asked for.
    pub logprob: Option<f64>,
    /// The most probable ids with their log-probabilities, most probable first, if asked for.
    pub alternatives: Vec<(u32, f64)>,
}

/// Why an answer is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The model ended the text.
    Eos,
    /// As many tokens as were asked for, or as the planned context holds.
    Length,
    /// The listener wants no more.
    Listener,
    /// The power meter is broken, and the configuration says to stop then.
    Meter,
}

/// How an answer went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Why it is over.
    pub end: End,
    /// Tokens of the prompt that had been fed before.
    pub reused: usize,
    /// Milliseconds until the first token was chosen.
    pub first_token_ms: f64,
    /// Tokens that had left early and were compared with full depth later.
    pub revealed: u64,
    /// Of these, how many were those of full depth.
    pub agreed: u64,
    /// Tokens that were drafted.
    pub drafts: Tally,
    /// Every token is what the last layer said.
    pub verified: bool,
}

impl Outcome {
    const START: Self = Self {
        end: End::Length,
        reused: 0,
        first_token_ms: 0.0,
        revealed: 0,
        agreed: 0,
        drafts: Tally::NONE,
        verified: false,
    };

    /// Share of the tokens compared that were those of full depth.
    #[must_use]
    pub fn agreement(&self) -> Option<f64> {
        if self.verified {
            return Some(1.0);
        }
        (self.revealed > 0).then(|| self.agreed as f64 / self.revealed as f64)
    }
}

/// Who hears the tokens.
pub trait Listener {
    /// Asked between pieces of a long prompt: whether the answer is still wanted.
    fn is_there(&mut self) -> bool {
        true
    }

    /// Hears a token, and says whether to go on.
    fn token(&mut self, token: &Token) -> ControlFlow<()>;
}

impl<F: FnMut(&Token) -> ControlFlow<()>> Listener for F {
    fn token(&mut self, token: &Token) -> ControlFlow<()> {
        self(token)
    }
}

/// Chunks of a prompt between two questions to the listener. Each piece runs the head once, so that small ones cost.
const CHUNKS_A_PIECE: usize = 8;

/// Makes tokens with one decoder.
#[derive(Debug)]
pub struct Generator<'s> {
    session: &'s Session<'s>,
    decoder: Decoder<'s>,
    sampler_memory: Vec<Line>,
    /// What the decoder has been fed.
    fed: Vec<u32>,
    depth: Depth,
    metering: Option<Metering>,
    surroundings: Option<Surroundings>,
    /// Of the newest logits.
    newest: Newest,
}

/// Where the newest logits come from, and what they cost.
#[derive(Clone, Copy, Debug, Default)]
struct Newest {
    segment: u16,
    energy_mj: Option<f64>,
    course: Option<Course>,
}

impl<'s> Generator<'s> {
    /// A generator over `memory`, which [`Session::memory`] gives.
    pub fn new(session: &'s Session<'s>, memory: &'s mut [Line]) -> Self {
        let (decoder, sampler_memory) = (session.decoder(memory), session.sampler_memory());
        Self {
            session,
            decoder,
            sampler_memory,
            fed: Vec::new(),
            depth: Depth::Full,
            metering: None,
            surroundings: None,
            newest: Newest::default(),
        }
    }

    /// Says how deep tokens go from now on, and starts a new sequence.
    ///
    /// # Errors
    ///
    /// Exits that the bundle does not have, or cannot use so.
    pub fn set_depth(&mut self, depth: Depth) -> Result<(), ExitError> {
        self.decoder.use_exits(depth.settings())?;
        self.fed.clear();
        self.depth = depth;
        Ok(())
    }

    /// Measures, or models, what tokens cost from now on.
    pub fn set_metering(&mut self, metering: Metering) {
        metering.settle();
        self.metering = Some(metering);
    }

    /// Looks for changes of power mode and battery from now on.
    pub fn set_surroundings(&mut self, surroundings: Surroundings) {
        self.surroundings = Some(surroundings);
    }

    /// The power mode that the board was in when it was last looked at.
    #[must_use]
    pub fn power_mode(&self) -> Option<u32> {
        self.surroundings.as_ref().and_then(Surroundings::power_mode)
    }

    /// What is measured with, if anything is.
    #[must_use]
    pub fn metering(&self) -> Option<&Metering> {
        self.metering.as_ref()
    }

    /// How deep tokens go.
    #[must_use]
    pub fn depth(&self) -> &Depth {
        &self.depth
    }

    /// Tokens that a sequence may hold.
    #[must_use]
    pub fn context(&self) -> usize {
        self.decoder.model().settings().context as usize
    }

    /// Tokens that may follow a prompt of this length. The last one is told but never fed.
    #[must_use]
    pub fn room(&self, prompt_tokens: usize) -> usize {
        (self.context() + 1).saturating_sub(prompt_tokens)
    }

    /// Answers `prompt`, token by token.
    ///
    /// # Errors
    ///
    /// A prompt that is empty, has a token that the vocabulary lacks, or is longer than the planned context.
    pub fn answer(
        &mut self,
        prompt: &[u32],
        ask: &Ask,
        listener: &mut impl Listener,
    ) -> Result<Outcome, StepError> {
        let started = Instant::now();
        let reused = self.start(prompt);
        if !self.feed_prompt(prompt, reused, listener)? {
            return Ok(Outcome { end: End::Listener, reused, ..Outcome::START });
        }
        let ask = Ask { most_tokens: ask.most_tokens.min(self.room(prompt.len())), ..*ask };
        let mut memory = std::mem::take(&mut self.sampler_memory);
        let mut sampler =
            Sampler::new(ask.sampling, self.session.model().vocab_size(), &mut memory);
        sampler.see(prompt);
        let outcome = self.speak(&mut sampler, &ask, started, listener);
        self.sampler_memory = memory;
        let drafts = match &mut self.depth {
            Depth::Verified(rounds) => rounds.end_sequence(),
            _ => Tally::default(),
        };
        let verified = matches!(self.depth, Depth::Verified(_));
        outcome.map(|outcome| Outcome { reused, drafts, verified, ..outcome })
    }

    /// Makes the tokens behind the prompt.
    fn speak(
        &mut self,
        sampler: &mut Sampler<'_>,
        ask: &Ask,
        started: Instant,
        listener: &mut impl Listener,
    ) -> Result<Outcome, StepError> {
        let mut outcome = Outcome::START;
        let mut since = started;
        let start = self.decoder.position();
        let last = self.session.model().program().segments.len() as u16 - 1;
        self.newest = Newest { segment: last, ..Newest::default() };
        match &mut self.depth {
            Depth::Budget(budget) => budget.begin_sequence(),
            Depth::Verified(rounds) => rounds.begin_sequence(),
            Depth::Full | Depth::Fixed(_) => {}
        }
        // From here on, all that is drawn is some token's: choosing and telling it, too.
        if let Some(metering) = &mut self.metering {
            metering.start();
            if let (Some(budget), true) = (self.depth.budget_mut(), metering.is_whole()) {
                budget.meter_is_whole();
            }
        }
        let hears = Hears::of(sampler, ask);
        for made in 0..ask.most_tokens {
            let token = self.choose(sampler, ask, since);
            since = Instant::now();
            if made == 0 {
                outcome.first_token_ms = started.elapsed().as_secs_f64() * 1e3;
            }
            if ask.eos == Eos::Ends && self.session.bundle.meta().eos.contains(token.id) {
                return Ok(Outcome { end: End::Eos, ..outcome });
            }
            if listener.token(&token).is_break() {
                return Ok(Outcome { end: End::Listener, ..outcome });
            }
            if made + 1 < ask.most_tokens {
                if let Some(surroundings) = &mut self.surroundings {
                    surroundings.look(self.depth.budget_mut());
                }
                let room = ask.most_tokens - made - 2;
                let step = match self.depth {
                    Depth::Verified(_) => self.verified(token.id, room, (sampler, hears))?,
                    _ => self.step(token.id, (start, ask.most_tokens as u32), hears)?,
                };
                let Some(step) = step else {
                    return Ok(Outcome { end: End::Meter, ..outcome });
                };
                self.fed.push(token.id);
                outcome.revealed += u64::from(step.revealed);
                outcome.agreed += u64::from(step.agreed);
            }
        }
        Ok(outcome)
    }

    /// Feeds a token of the answer that started at `start`, as deep as it may go; `None` if no token may be made any more.
    fn step(
        &mut self,
        token: u32,
        (start, length): (u32, u32),
        hears: Hears,
    ) -> Result<Option<Step>, StepError> {
        let context = self.decoder.position();
        let (step, elapsed, steering) = match &mut self.depth {
            Depth::Budget(budget) => {
                let running = budget.decide(context);
                if running.decision().stop {
                    return Ok(None);
                }
                let step = self.decoder.step_by(token, &running)?;
                hears.wait(&mut self.decoder);
                (step, running.elapsed(), Some(Steering::from(running.decision())))
            }
            depth => {
                let started = Instant::now();
                let step = self.decoder.step_by(token, &depth.decision(start, length))?;
                hears.wait(&mut self.decoder);
                (step, started.elapsed(), None)
            }
        };
        let metered =
            self.metering.as_mut().map(|metering| metering.token(&step, context.into(), elapsed));
        let (energy, unmeasured) = match metered {
            None => (None, None),
            Some(Ok(energy)) => (Some(energy), None),
            Some(Err(unmeasured)) => (None, Some(unmeasured)),
        };
        if let Depth::Budget(budget) = &mut self.depth {
            budget.observe(&step, elapsed, energy);
        }
        let energy_mj = energy.map(|energy| energy.0 as f64 / 1e3);
        let course = Some(Course::new(&step, elapsed, steering, unmeasured));
        self.newest = Newest { segment: step.segment, energy_mj, course };
        Ok(Some(step))
    }

    /// Feeds a token of the answer, or finds that it was drafted; behind it at most `room` more are drafted.
    fn verified(
        &mut self,
        token: u32,
        room: usize,
        (sampler, hears): (&mut Sampler<'_>, Hears),
    ) -> Result<Option<Step>, StepError> {
        let Depth::Verified(rounds) = &mut self.depth else { return Ok(None) };
        let context = self.decoder.position().into();
        let metering = &mut self.metering;
        let is_metered = metering.is_some();
        let energy = Microjoules(0);
        let mut drafting = Drafting { hears, sampler, metering, context, energy, fault: None };
        let started = Instant::now();
        if !rounds.step(&mut self.decoder, (&self.fed, token), room, &mut drafting)? {
            return Ok(None);
        }
        let elapsed = started.elapsed();
        // A token that was drafted took none of its own: its round did.
        let (modelled, fault) = (drafting.energy, drafting.fault);
        let energy_mj = (is_metered && fault.is_none()).then_some(modelled.0 as f64 / 1e3);
        let unmeasured = fault.map(|fault| Unmeasured { fault, modelled });
        let segment = self.decoder.model().program().segments.len() as u16 - 1;
        let mode = rounds.budget().governor().mode();
        let steering = Some(Steering { threshold: None, mode, events: rounds.events() });
        let course = Some(Course::new(&Step::default(), elapsed, steering, unmeasured));
        self.newest = Newest { segment, energy_mj, course };
        Ok(Some(Step::default()))
    }

    /// Goes on behind what was fed if `prompt` does, and returns how much of it that is; else starts anew.
    fn start(&mut self, prompt: &[u32]) -> usize {
        // Something must be left to feed: logits are those behind the last token fed.
        if self.fed.len() < prompt.len() && prompt.starts_with(&self.fed) {
            return self.fed.len();
        }
        self.forget();
        0
    }

    /// Starts a new sequence.
    pub fn forget(&mut self) {
        self.decoder.reset();
        self.fed.clear();
    }

    /// Feeds what is left of a prompt; false if the listener went away.
    fn feed_prompt(
        &mut self,
        prompt: &[u32],
        reused: usize,
        listener: &mut impl Listener,
    ) -> Result<bool, StepError> {
        let context = self.context();
        if prompt.len() > context {
            let (need, context) = (prompt.len() as u64, context as u32);
            return Err(StepError::ContextFull { need, context });
        }
        let piece_rows = self.decoder.model().settings().max_rows as usize * CHUNKS_A_PIECE;
        let rest = &prompt[reused..];
        if rest.is_empty() {
            return Err(StepError::Empty);
        }
        for piece in rest.chunks(piece_rows) {
            if !listener.is_there() {
                return Ok(false);
            }
            self.decoder.take(piece)?;
            self.fed.extend_from_slice(piece);
        }
        Ok(true)
    }

    /// Chooses the token that follows what was fed. This is the one place where a token is made.
    fn choose(&mut self, sampler: &mut Sampler<'_>, ask: &Ask, since: Instant) -> Token {
        let segments = self.session.model().program().segments;
        let layers = |segment: usize| f64::from(segments[segment].layers.max(1));
        let Newest { segment, energy_mj, course } = self.newest;
        let (id, probabilities) = if Hears::of(sampler, ask) == Hears::Best {
            let id = self.decoder.best();
            sampler.see(&[id]);
            (id, None)
        } else {
            let logits = self.decoder.logits();
            let id = sampler.choose(logits);
            (id, ask.alternatives.map(|count| log_probabilities(logits, id, count)))
        };
        let segment = match &self.depth {
            Depth::Verified(rounds) => rounds.drafted_behind(id).unwrap_or(segment),
            _ => segment,
        };
        let depth = layers(segment.into()) / layers(segments.len() - 1);
        let (logprob, alternatives) = probabilities.unzip();
        Token {
            id,
            ms: since.elapsed().as_secs_f64() * 1e3,
            segment,
            depth,
            energy_mj,
            course,
            logprob,
            alternatives: alternatives.unwrap_or_default(),
        }
    }
}
