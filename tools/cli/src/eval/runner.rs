//! What answers: a model at full depth, or one whose tokens may leave early.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use dynamax_engine::{Decoder, Line, Sampler, Sampling};

use dynamax_session::Session;

/// Tokens, and where each was decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Generation {
    /// The tokens.
    pub(crate) tokens: Vec<u32>,
    /// For each, the segment behind which it left; the last segment is full depth.
    pub(crate) exits: Vec<u16>,
    /// Seconds that deciding them took; reading the prompt is not counted.
    pub(crate) seconds: f64,
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

/// Every token goes through all layers.
pub(crate) struct FullDepth<'s> {
    session: &'s Session<'s>,
    decoder: Decoder<'s>,
    sampler_memory: Vec<Line>,
    sampling: Sampling,
    last_segment: u16,
}

impl<'s> FullDepth<'s> {
    /// A runner over `memory`, of [`Session::memory`].
    pub(crate) fn new(
        session: &'s Session<'s>,
        memory: &'s mut [Line],
        repetition_penalty: f32,
    ) -> Result<Self> {
        let sampling = Sampling { repetition_penalty, ..Sampling::default() };
        let valid = sampling.validate();
        ensure!(valid.is_ok(), "--repetition-penalty is out of range: give more than 0");
        Ok(Self {
            session,
            decoder: session.decoder(memory),
            sampler_memory: session.sampler_memory(),
            sampling,
            last_segment: (session.model().program().segments.len() - 1) as u16,
        })
    }

    fn generation(&self, tokens: Vec<u32>, start: Instant) -> Generation {
        let exits = vec![self.last_segment; tokens.len()];
        Generation { tokens, exits, seconds: start.elapsed().as_secs_f64() }
    }
}

impl Runner for FullDepth<'_> {
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
        self.decoder.reset();
        let mut sampler = Sampler::new(self.sampling, vocab_size, &mut self.sampler_memory);
        sampler.see(prompt);
        self.decoder.feed(prompt)?;
        let (start, mut tokens) = (Instant::now(), Vec::with_capacity(most));
        while tokens.len() < most {
            if let Some(last) = tokens.last() {
                self.decoder.feed(&[*last])?;
            }
            let next = sampler.choose(self.decoder.logits());
            if eos.contains(next) {
                break;
            }
            tokens.push(next);
            if stop(&tokens) {
                break;
            }
        }
        Ok(self.generation(tokens, start))
    }

    fn score(&mut self, prompt: &[u32], continuation: &[u32]) -> Result<Scored> {
        let (first, fed) =
            continuation.first().zip(continuation.split_last()).context("an empty continuation")?;
        let isa = self.session.isa();
        let (mut log_probability, mut tokens) = (0.0, Vec::with_capacity(continuation.len()));
        let mut take = |logits: &[f32], token: u32| {
            log_probability -= negative_log_likelihood(logits, token as usize);
            tokens.push(isa.argmax(logits) as u32);
        };
        self.decoder.reset();
        self.decoder.feed(prompt)?;
        let start = Instant::now();
        take(self.decoder.logits(), *first);
        if !fed.1.is_empty() {
            self.decoder.feed_each(fed.1, |row, logits| take(logits, continuation[row + 1]))?;
        }
        Ok(Scored { log_probability, predicted: self.generation(tokens, start) })
    }
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

    fn with_demo(check: impl FnOnce(&mut FullDepth<'_>)) {
        let source = source(None, Demo::Transformer).unwrap();
        let session = Flags::parse_from([""]).decode.open(&source).unwrap();
        let mut memory = session.memory();
        check(&mut FullDepth::new(&session, &mut memory, 1.0).unwrap());
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
            let scored = runner.score(&prompt, &generated.tokens).unwrap();
            assert_eq!(scored.predicted.tokens, generated.tokens, "greedy in both");
            assert_eq!(scored.predicted.exits, [0; 12], "one segment");
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
