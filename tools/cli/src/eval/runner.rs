//! What answers: a model at full depth, or one whose tokens may leave early.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dynamax_engine::{Decide, Decoder, Line, Outcome, Sampler, Sampling};
use dynamax_governor::Microjoules;
use dynamax_session::rounds::{Drafter, Tally};

use dynamax_session::{Depth, Metering, Session};

/// Tokens, and where each was decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Generation {
    /// The tokens.
    pub(crate) tokens: Vec<u32>,
    /// For each, the segment behind which it left; the last segment is full depth.
    pub(crate) exits: Vec<u16>,
    /// For each step that decided them, the last segment whose weights were read: further where rows were caught up. Where
    /// tokens were drafted, there may be more steps than tokens, or fewer.
    pub(crate) reach: Vec<u16>,
    /// Tokens that were drafted.
    pub(crate) drafts: Tally,
    /// Seconds that deciding them took; reading the prompt is not counted.
    pub(crate) seconds: f64,
    /// Millijoules of the same, where the meter knew them.
    pub(crate) energy_mj: Option<f64>,
}

impl Generation {
    /// No tokens, which took nothing.
    pub(crate) fn nothing() -> Self {
        Self { energy_mj: Some(0.0), ..Self::default() }
    }

    /// Adds what was said next. Energy is unknown once a part of it is.
    pub(crate) fn append(&mut self, more: Self) {
        self.tokens.extend(more.tokens);
        self.exits.extend(more.exits);
        self.reach.extend(more.reach);
        self.drafts.add(&more.drafts);
        self.seconds += more.seconds;
        self.energy_mj = self.energy_mj.zip(more.energy_mj).map(|(sum, more)| sum + more);
    }
}

/// How a continuation was received.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scored {
    /// Sum over its tokens.
    pub(crate) log_probability: f64,
    /// The token that would have been generated in the place of each.
    pub(crate) predicted: Generation,
}

/// Answers prompts. Every call starts from an empty state.
pub(crate) trait Runner {
    /// Tokens that prompt and answer may have together.
    fn context(&self) -> usize;

    /// Generates greedily until `stop` says so, the text ends, or there are `most` tokens. `stop` sees all tokens so far;
    /// the one that made it stop is kept, one that ends the text is not.
    fn generate(
        &mut self,
        prompt: &[u32],
        most: usize,
        stop: &mut dyn FnMut(&[u32]) -> bool,
    ) -> Result<Generation>;

    /// Scores a continuation.
    fn score(&mut self, prompt: &[u32], continuation: &[u32]) -> Result<Scored>;
}

/// How continuations are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// In chunks, as fast as can be: where only the numbers count.
    Chunks,
    /// Token by token, as text is generated: where time counts, or tokens may leave early.
    Tokens,
}

/// How tokens are decided, and what is measured of it.
pub(crate) struct Manner {
    pub(crate) depth: Depth,
    pub(crate) pace: Pace,
    pub(crate) metering: Metering,
}

/// A bundle that answers, each token as deep as it is told.
pub(crate) struct Model<'s> {
    session: &'s Session<'s>,
    decoder: Decoder<'s>,
    sampler_memory: Vec<Line>,
    sampling: Sampling,
    depth: Depth,
    pace: Pace,
    spending: Spending,
    last_segment: u16,
}

impl<'s> Model<'s> {
    /// A runner over `memory`, of [`Session::memory`].
    pub(crate) fn new(
        session: &'s Session<'s>,
        memory: &'s mut [Line],
        repetition_penalty: f32,
        manner: Manner,
    ) -> Result<Self> {
        let Manner { depth, pace, metering } = manner;
        let sampling = Sampling { repetition_penalty, ..Sampling::default() };
        let valid = sampling.validate();
        ensure!(valid.is_ok(), "--repetition-penalty is out of range: give more than 0");
        let mut decoder = session.decoder(memory);
        decoder.use_exits(depth.settings())?;
        Ok(Self {
            session,
            decoder,
            sampler_memory: session.sampler_memory(),
            sampling,
            depth,
            pace,
            spending: Spending { metering, context: 0, mj: None },
            last_segment: (session.model().program().segments.len() - 1) as u16,
        })
    }

    /// Feeds the prompt, whose logits are those of full depth.
    fn start(&mut self, prompt: &[u32]) -> Result<Generation> {
        self.decoder.reset();
        self.decoder.feed(prompt)?;
        Ok(Generation::default())
    }

    /// Notes that a token was decided at full depth.
    fn full(&self, said: &mut Generation, token: u32) {
        said.tokens.push(token);
        said.exits.push(self.last_segment);
        said.reach.push(self.last_segment);
    }
}

/// What tokens cost in energy, summed up.
struct Spending {
    metering: Metering,
    /// Tokens before the newest step.
    context: u64,
    /// Unknown once the meter did not know one step's.
    mj: Option<f64>,
}

impl Spending {
    /// Starts at nothing.
    fn start(&mut self) {
        self.metering.start();
        self.mj = Some(0.0);
    }

    fn add(&mut self, outcome: &Outcome, elapsed: Duration) -> Option<Microjoules> {
        let energy = self.metering.token(outcome, self.context, elapsed).ok();
        self.mj = self.mj.zip(energy).map(|(sum, energy)| sum + energy.0 as f64 / 1e3);
        energy
    }
}

/// Drafts with a sampler, and notes how far each step reached and what it cost.
struct Steps<'d, 's> {
    sampler: &'d mut Sampler<'s>,
    reach: &'d mut Vec<u16>,
    spending: &'d mut Spending,
}

impl Drafter for Steps<'_, '_> {
    fn draft(&mut self, decoder: &mut Decoder<'_>, drafts: &[u32]) -> u32 {
        self.sampler.draft(decoder.logits(), drafts)
    }

    fn hear(&mut self, decoder: &mut Decoder<'_>) {
        _ = decoder.logits();
    }

    fn stepped(&mut self, outcome: &Outcome, elapsed: Duration) -> Option<Microjoules> {
        self.reach.push(outcome.reach);
        self.spending.add(outcome, elapsed)
    }
}

impl Runner for Model<'_> {
    fn context(&self) -> usize {
        self.session.model().settings().context as usize
    }

    fn generate(
        &mut self,
        prompt: &[u32],
        most: usize,
        stop: &mut dyn FnMut(&[u32]) -> bool,
    ) -> Result<Generation> {
        let eos = self.session.bundle.meta().eos;
        let vocab_size = self.session.model().vocab_size();
        let mut said = self.start(prompt)?;
        let decide = self.depth.decision(prompt.len() as u32, most as u32);
        let mut memory = std::mem::take(&mut self.sampler_memory);
        let mut sampler = Sampler::new(self.sampling, vocab_size, &mut memory);
        sampler.see(prompt);
        self.spending.start();
        let start = Instant::now();
        if let Depth::Verified(rounds) = &mut self.depth {
            rounds.begin_sequence();
        }
        let mut heard = prompt.to_vec();
        let (mut exit, mut reach) = (self.last_segment, vec![self.last_segment]);
        while said.tokens.len() < most {
            if let Some(last) = said.tokens.last() {
                self.spending.context = u64::from(self.decoder.position());
                let room = most - said.tokens.len() - 1;
                let (sampler, reach) = (&mut sampler, &mut reach);
                let mut steps = Steps { sampler, reach, spending: &mut self.spending };
                if let Depth::Verified(rounds) = &mut self.depth {
                    rounds.step(&mut self.decoder, (&heard, *last), room, &mut steps)?;
                } else {
                    exit = step(&mut self.decoder, *last, &decide, &mut steps)?.segment;
                }
                heard.push(*last);
            }
            let next = sampler.choose(self.decoder.logits());
            if let Depth::Verified(rounds) = &self.depth {
                exit = rounds.drafted_behind(next).unwrap_or(self.last_segment);
            }
            if eos.contains(next) {
                break;
            }
            said.tokens.push(next);
            said.exits.push(exit);
            said.reach.append(&mut reach);
            if stop(&said.tokens) {
                break;
            }
        }
        said.seconds = start.elapsed().as_secs_f64();
        said.energy_mj = self.spending.mj;
        if let Depth::Verified(rounds) = &mut self.depth {
            said.drafts = rounds.end_sequence();
        }
        self.sampler_memory = memory;
        Ok(said)
    }

    fn score(&mut self, prompt: &[u32], continuation: &[u32]) -> Result<Scored> {
        ensure!(
            !matches!(self.depth, Depth::Verified(_)),
            "--exit verified drafts what is generated, and this task scores given text: take coqa, triviaqa, or the CSV of \
             truthfulqa; for speed alone, dynamax bench --exit verified"
        );
        let (first, fed) =
            continuation.first().zip(continuation.split_last()).context("an empty continuation")?;
        let isa = self.session.isa();
        let mut predicted = self.start(prompt)?;
        let decide = self.depth.decision(prompt.len() as u32, continuation.len() as u32);
        self.spending.start();
        let start = Instant::now();
        let logits = self.decoder.logits();
        let mut log_probability = -negative_log_likelihood(logits, *first as usize);
        let said = isa.argmax(logits) as u32;
        self.full(&mut predicted, said);
        match self.pace {
            Pace::Chunks if !fed.1.is_empty() => {
                let mut tokens = Vec::with_capacity(fed.1.len());
                self.decoder.feed_each(fed.1, |row, logits| {
                    log_probability -=
                        negative_log_likelihood(logits, continuation[row + 1] as usize);
                    tokens.push(isa.argmax(logits) as u32);
                })?;
                tokens.into_iter().for_each(|token| self.full(&mut predicted, token));
            }
            Pace::Chunks => {}
            Pace::Tokens => {
                for (token, next) in fed.1.iter().zip(&continuation[1..]) {
                    let started = Instant::now();
                    self.spending.context = u64::from(self.decoder.position());
                    let outcome = self.decoder.step_by(*token, &decide)?;
                    // A device has only noted the step until somebody looks.
                    _ = self.decoder.logits();
                    self.spending.add(&outcome, started.elapsed());
                    let logits = self.decoder.logits();
                    log_probability -= negative_log_likelihood(logits, *next as usize);
                    predicted.tokens.push(isa.argmax(logits) as u32);
                    predicted.exits.push(outcome.segment);
                    predicted.reach.push(outcome.reach);
                }
            }
        }
        predicted.seconds = start.elapsed().as_secs_f64();
        predicted.energy_mj = self.spending.mj.filter(|_| self.pace == Pace::Tokens);
        Ok(Scored { log_probability, predicted })
    }
}

/// Feeds a token that may leave early.
fn step(
    decoder: &mut Decoder<'_>,
    token: u32,
    decide: &impl Decide,
    steps: &mut Steps<'_, '_>,
) -> Result<Outcome> {
    let started = Instant::now();
    let outcome = decoder.step_by(token, decide)?;
    steps.hear(decoder);
    steps.stepped(&outcome, started.elapsed());
    Ok(outcome)
}

/// `ln Σ exp(logit) - logit[next]`, in f64.
pub(crate) fn negative_log_likelihood(logits: &[f32], next: usize) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - max).exp()).sum();
    max + sum.ln() - f64::from(logits[next])
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::session::DecodeArguments;
    use crate::source::{Demo, source};

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        decode: DecodeArguments,
    }

    fn with_demo(check: impl FnOnce(&mut Model<'_>)) {
        let source = source(None, Demo::Transformer).unwrap();
        let flags = Flags::parse_from(["", "--meter", "model"]);
        let session = flags.decode.open(&source).unwrap();
        let metering = flags.decode.metering(&session).unwrap();
        let mut memory = session.memory();
        let manner = Manner { depth: Depth::Full, pace: Pace::Chunks, metering };
        check(&mut Model::new(&session, &mut memory, 1.0, manner).unwrap());
    }

    #[test]
    fn equal_logits_are_a_uniform_guess() {
        let nll = negative_log_likelihood(&[3.0; 8], 5);
        assert!((nll - 8_f64.ln()).abs() < 1e-12, "one of eight: ln 8, not {nll}");
    }

    #[test]
    fn what_is_generated_is_what_scoring_predicts() {
        with_demo(|runner| {
            let prompt = [5, 90, 300, 12];
            let generated = runner.generate(&prompt, 12, &mut |_| false).unwrap();
            assert_eq!(generated.tokens.len(), 12, "{generated:?}");
            assert!(generated.energy_mj > Some(0.0), "by the model: {generated:?}");
            let scored = runner.score(&prompt, &generated.tokens).unwrap();
            assert_eq!(scored.predicted.tokens, generated.tokens, "greedy in both");
            let last = runner.last_segment;
            assert_eq!(scored.predicted.exits, [last; 12], "full depth");
            let mut other = generated.tokens.clone();
            other[3] = (other[3] + 1) % 2048;
            let less = runner.score(&prompt, &other).unwrap().log_probability;
            assert!(less < scored.log_probability, "{less} of another continuation");
        });
    }

    #[test]
    fn a_score_is_a_sum_of_conditionals() {
        with_demo(|runner| {
            let prompt = [5, 90, 300];
            let whole = runner.score(&prompt, &[7, 8]).unwrap().log_probability;
            let parts = runner.score(&prompt, &[7]).unwrap().log_probability
                + runner.score(&[5, 90, 300, 7], &[8]).unwrap().log_probability;
            assert!((whole - parts).abs() < 1e-9, "{whole}, {parts}");
        });
    }

    #[test]
    fn stopping_keeps_the_token_that_stopped() {
        with_demo(|runner| {
            let stopped = runner.generate(&[5, 90], 12, &mut |tokens| tokens.len() == 3).unwrap();
            assert_eq!(stopped.tokens.len(), 3, "{stopped:?}");
        });
    }
}
