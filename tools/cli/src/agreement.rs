//! How often tokens that leave early are those of full depth, over passages of a text fed as they stand.
//!
//! Where the state stays exact (`deferred`), one pass at full depth tells what every exit says about every token, and any
//! threshold can be replayed. The other treatments let the state drift, so each threshold is run, token by token.

use std::time::Instant;

use anyhow::{Result, ensure};
use dynamax_bundle::Program;
use dynamax_engine::{ExitSettings, Said, Thresholds};
use dynamax_models::calibrate::{Probe, Replay};
use dynamax_session::Session;
use dynamax_session::depth::Fixed;
use indicatif::ProgressBar;

/// A text in passages. The first token of each is its prompt.
#[derive(Debug)]
pub(crate) struct Passages<'t> {
    passages: Vec<&'t [u32]>,
}

impl<'t> Passages<'t> {
    /// Cuts `tokens` into passages of `len`; a shorter rest is left out.
    pub(crate) fn cut(tokens: &'t [u32], len: usize) -> Result<Self> {
        ensure!(len >= 2, "--passage {len}: give at least 2 tokens, the first is the prompt");
        Ok(Self { passages: tokens.chunks_exact(len).collect() })
    }

    /// Passages.
    pub(crate) fn len(&self) -> usize {
        self.passages.len()
    }

    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'t [u32]> {
        self.passages.iter().copied()
    }
}

/// What every exit and the last layer say.
#[derive(Debug)]
pub(crate) struct Surveyed {
    /// What exits say, to be replayed under any threshold.
    pub(crate) replay: Replay,
    /// The token of full depth behind each token, passage by passage, first tokens left out.
    pub(crate) settled: Vec<u32>,
}

/// Asks every exit about every token, at full depth.
pub(crate) fn survey(
    session: &Session<'_>,
    passages: &Passages<'_>,
    bar: &ProgressBar,
) -> Result<Surveyed> {
    let model = session.model();
    let exits = model.program().exits.len();
    let mut memory = session.memory();
    let mut decoder = session.decoder(&mut memory);
    decoder.use_exits(Some(ExitSettings::default()))?;
    let mut said = vec![Said::default(); exits * model.settings().head_rows as usize];
    let (mut replay, mut settled) = (Replay::new(exits), Vec::new());
    let mut probes = Vec::with_capacity(exits);
    for passage in passages.iter() {
        decoder.reset();
        decoder.survey(passage, &mut said, |index, said, logits| {
            if index == 0 {
                return;
            }
            let token = session.isa().argmax(logits) as u32;
            probes.clear();
            probes.extend(
                said.iter().map(|said| Probe { score: said.score, agrees: said.token == token }),
            );
            replay.push(&probes);
            settled.push(token);
        })?;
        replay.end_sequence();
        bar.inc(1);
    }
    Ok(Surveyed { replay, settled })
}

/// What some thresholds did, token by token.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stepped {
    /// Share of disagreeing tokens in each passage.
    pub(crate) shares: Vec<f64>,
    /// Tokens that left at each exit; the last count is full depth.
    pub(crate) tokens_per_exit: Vec<u64>,
    /// Tokens that differ from full depth.
    pub(crate) disagreements: u64,
    /// Seconds of all steps.
    pub(crate) seconds: f64,
}

impl Stepped {
    /// Tokens.
    pub(crate) fn tokens(&self) -> u64 {
        self.tokens_per_exit.iter().sum()
    }

    /// Share of the tokens that are those of full depth.
    pub(crate) fn agreement(&self) -> f64 {
        1.0 - self.disagreements as f64 / self.tokens().max(1) as f64
    }
}

/// Feeds every passage token by token, each as deep as `fixed` says, and compares with `settled`.
pub(crate) fn step(
    session: &Session<'_>,
    passages: &Passages<'_>,
    settled: &[u32],
    fixed: Option<&Fixed>,
) -> Result<Stepped> {
    let program = *session.model().program();
    let mut memory = session.memory();
    let mut decoder = session.decoder(&mut memory);
    decoder.use_exits(fixed.map(|fixed| fixed.settings))?;
    let exits = fixed.map_or([f32::INFINITY; _], |fixed| fixed.thresholds);
    let thresholds = Thresholds { exits, decay: None };
    let mut stepped =
        Stepped { tokens_per_exit: vec![0; program.exits.len() + 1], ..Stepped::default() };
    let mut settled = settled.iter();
    for passage in passages.iter() {
        decoder.reset();
        decoder.feed(&passage[..1])?;
        let mut wrong = 0_u64;
        let start = Instant::now();
        for (token, settled) in passage[1..].iter().zip(&mut settled) {
            let outcome = decoder.step(*token, |probed| thresholds.leave(probed))?;
            let said = session.isa().argmax(decoder.logits()) as u32;
            wrong += u64::from(said != *settled);
            stepped.tokens_per_exit[exit_index(&program, outcome.segment)] += 1;
        }
        stepped.seconds += start.elapsed().as_secs_f64();
        stepped.disagreements += wrong;
        stepped.shares.push(wrong as f64 / (passage.len() - 1) as f64);
    }
    Ok(stepped)
}

/// The exit at the end of a segment; behind the last one: how many there are.
fn exit_index(program: &Program<'_>, segment: u16) -> usize {
    let found = program.exits.iter().position(|exit| exit.segment == segment);
    found.unwrap_or(program.exits.len())
}

/// Share of the layers that lie before each exit; 1 at the end.
pub(crate) fn depths(program: &Program<'_>) -> Vec<f64> {
    let layers = |segment: usize| f64::from(program.segments[segment].layers);
    let all = layers(program.segments.len() - 1).max(1.0);
    let exits = program.exits.iter().map(|exit| layers(exit.segment.into()) / all);
    exits.chain([1.0]).collect()
}

/// Mean share of the layers that tokens went through.
pub(crate) fn mean_depth(program: &Program<'_>, tokens_per_exit: &[u64]) -> f64 {
    let tokens: u64 = tokens_per_exit.iter().sum();
    let sum: f64 = depths(program).iter().zip(tokens_per_exit).map(|(d, n)| d * *n as f64).sum();
    sum / tokens.max(1) as f64
}
