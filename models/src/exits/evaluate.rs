//! How good exits are, on text that nothing was trained on.

use serde::{Deserialize, Serialize};

use super::metrics::{area_under_curve, calibration_error};
use super::skip::{State, scores};
use super::{Balance, Exits};
use crate::backbone::Backbone;
use crate::train::batches::Batch;
use crate::train::heads::{Heads, Stream, numbers, share};
use crate::train::loss::spread;

/// Thresholds that every exit is reported at.
pub const THRESHOLDS: [f64; 5] = [0.5, 0.7, 0.9, 0.95, 0.99];

/// Agreements that the least depth is sought for.
pub const AGREEMENTS: [f64; 6] = [0.9, 0.95, 0.97, 0.98, 0.99, 0.995];

/// Sequences evaluated together.
const BATCH: usize = 8;

/// What all exits of a model are worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Held-out tokens.
    pub tokens: usize,
    /// The mean of `-log p(next token)` at full depth.
    pub full_loss: f64,
    /// Each exit by itself.
    pub exits: Vec<ExitReport>,
    /// One threshold for all exits: for each of [`AGREEMENTS`] that can be had, the least depth. Empty where the states
    /// of a classifier depend on who left before.
    pub trades: Vec<Trade>,
}

/// What one exit is worth if every token meets it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExitReport {
    /// Layers before it.
    pub after_layer: usize,
    /// `calm`, `ffn` or `mamba`.
    pub classifier: String,
    /// The mean of `-log p(next token)` if all leave here.
    pub loss: f64,
    /// The mean divergence from full depth.
    pub divergence: f64,
    /// The share of tokens whose best next token is that of full depth: the base rate.
    pub agreement: f64,
    /// The share whose best next token is among the `top_k` of full depth: what the classifier was taught.
    pub label_share: f64,
    /// Chance that a token that agrees has a higher score than one that does not.
    pub auc: f64,
    /// The mean distance between score and agreement, in ten bins.
    pub calibration_error: f64,
    /// At fixed thresholds.
    pub thresholds: Vec<AtThreshold>,
}

/// Tokens with a score of at least a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AtThreshold {
    /// The threshold.
    pub threshold: f64,
    /// Their share of all tokens.
    pub exit_rate: f64,
    /// The share of them that agrees with full depth; 1 if there are none.
    pub agreement: f64,
}

/// All exits under one threshold: a token leaves at the first that lets it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trade {
    /// The threshold.
    pub threshold: f64,
    /// Layers that a token passes, as a share of all; heads and classifiers are not counted.
    pub depth_mean: f64,
    /// The share of tokens whose next token is that of full depth.
    pub agreement: f64,
    /// The share of tokens that leaves at each exit, and at full depth.
    pub shares: Vec<f64>,
}

/// What is evaluated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'s> {
    /// Without gradients.
    pub(crate) backbone: &'s Backbone,
    pub(crate) exits: &'s Exits,
    /// Makes scores probabilities.
    pub(crate) balance: &'s Balance,
    pub(crate) top_k: usize,
    pub(crate) state: State,
}

/// What one exit said about every token.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judged {
    pub(crate) loss: f64,
    pub(crate) divergence: f64,
    /// One for each token; none for a token that is not there any more.
    pub(crate) scores: Vec<Option<f32>>,
    pub(crate) agrees: Vec<bool>,
    pub(crate) is_good: Vec<bool>,
}

impl Subject<'_> {
    /// Evaluates at most `sequences` sequences of `seq_len` of `tokens`, spread over all.
    pub(crate) fn evaluate(&self, tokens: &[u32], seq_len: usize, sequences: usize) -> Evaluation {
        let starts = spread(tokens.len(), seq_len, sequences);
        let mut judged = vec![Judged::default(); self.exits.exits.len()];
        let mut full_loss = 0.0;
        for starts in starts.chunks(BATCH) {
            let batch = Batch::cut(tokens, starts, seq_len);
            let part = starts.len() as f64;
            full_loss += part * self.judge(&batch, &mut judged);
        }
        let count = starts.len() as f64;
        for judged in &mut judged {
            judged.loss /= count;
            judged.divergence /= count;
        }
        self.report(&judged, full_loss / count)
    }

    /// Judges a batch; returns the loss at full depth.
    fn judge(&self, batch: &Batch, judged: &mut [Judged]) -> f64 {
        let device = self.backbone.device();
        let exits = &self.exits.exits;
        let mut residuals = Vec::new();
        let last = self.backbone.walk(batch.inputs(&device), |index, x, layer| {
            let x = layer(x);
            let here = exits.iter().filter(|exit| exit.after_layer == index + 1);
            residuals.extend(here.map(|_| x.clone()));
            x
        });
        let adapted = exits.iter().zip(&residuals).map(|(exit, x)| exit.adapt(x.clone()));
        let [sequences, seq] = batch.shape;
        let streams = core::iter::once(last).chain(adapted).map(|x| {
            let normed = self.backbone.final_norm(x);
            let d_model = normed.dims()[2];
            Stream { rows: normed.reshape([sequences * seq, d_model]), text: 0.0, teacher: 0.0 }
        });
        let streams: Vec<Stream> = streams.collect();
        let head = self.backbone.head();
        let heads = Heads { head, targets: &batch.targets, top_k: self.top_k, is_trained: false };
        let output = heads.run(&streams);
        let mut has_left = vec![false; batch.targets.len()];
        let weight = sequences as f64;
        for (index, stream) in output.streams.iter().skip(1).enumerate() {
            let shift = self.balance.shift(index) as f32;
            let exit = &exits[index];
            let judged = &mut judged[index];
            let first = judged.scores.len();
            judged.scores.resize(first + has_left.len(), None);
            if let Some((logits, kept)) =
                scores(exit, residuals[index].clone(), &has_left, self.state)
            {
                for ([stay, leave], token) in numbers(logits).as_chunks::<2>().0.iter().zip(kept) {
                    let score = 1.0 / (1.0 + (stay - leave - shift).exp());
                    judged.scores[first + token] = Some(score);
                }
            }
            judged.loss += weight * stream.loss;
            judged.divergence += weight * stream.divergence;
            judged.agrees.extend(&stream.agrees);
            judged.is_good.extend(&stream.is_good);
            for (left, is_good) in has_left.iter_mut().zip(&stream.is_good) {
                *left |= is_good;
            }
        }
        output.streams[0].loss
    }

    fn report(&self, judged: &[Judged], full_loss: f64) -> Evaluation {
        let layers = self.backbone.n_layers();
        let exits = &self.exits.exits;
        let reports = exits.iter().zip(judged).map(|(exit, judged)| ExitReport {
            after_layer: exit.after_layer,
            classifier: exit.classifier.name().into(),
            ..judged.report()
        });
        let depths: Vec<f64> =
            exits.iter().map(|exit| exit.after_layer as f64 / layers as f64).collect();
        Evaluation {
            tokens: judged.first().map_or(0, |judged| judged.agrees.len()),
            full_loss,
            exits: reports.collect(),
            trades: trades(judged, &depths),
        }
    }
}

impl Judged {
    fn report(&self) -> ExitReport {
        let scored = self.scores.iter().zip(&self.agrees);
        let scored: Vec<(f32, bool)> =
            scored.filter_map(|(score, agrees)| score.map(|score| (score, *agrees))).collect();
        let at = |threshold: f64| {
            let left = scored.iter().filter(|(score, _)| f64::from(*score) >= threshold);
            let left: Vec<bool> = left.map(|(_, agrees)| *agrees).collect();
            AtThreshold {
                threshold,
                exit_rate: left.len() as f64 / scored.len().max(1) as f64,
                agreement: if left.is_empty() { 1.0 } else { share(&left) },
            }
        };
        ExitReport {
            after_layer: 0,
            classifier: String::new(),
            loss: self.loss,
            divergence: self.divergence,
            agreement: share(&self.agrees),
            label_share: share(&self.is_good),
            auc: area_under_curve(&scored),
            calibration_error: calibration_error(&scored),
            thresholds: THRESHOLDS.map(at).into(),
        }
    }
}

/// The least depth for each of [`AGREEMENTS`] that can be had.
fn trades(judged: &[Judged], depths: &[f64]) -> Vec<Trade> {
    let is_whole = judged.iter().all(|judged| judged.scores.iter().all(Option::is_some));
    if judged.is_empty() || !is_whole {
        return Vec::new();
    }
    let fine = (1..100).map(|step| 0.99 + f64::from(step) * 1e-4);
    let thresholds = (0..=198).map(|step| f64::from(step) * 0.005).chain(fine);
    let all: Vec<Trade> = thresholds.map(|threshold| trade(judged, depths, threshold)).collect();
    let least = |floor: f64| {
        let fits = all.iter().filter(|trade| trade.agreement >= floor);
        fits.min_by(|a, b| a.depth_mean.total_cmp(&b.depth_mean)).cloned()
    };
    AGREEMENTS.iter().filter_map(|floor| least(*floor)).collect()
}

/// What happens under one threshold.
fn trade(judged: &[Judged], depths: &[f64], threshold: f64) -> Trade {
    let tokens = judged[0].agrees.len();
    let mut counts = vec![0_usize; judged.len() + 1];
    let mut agree = 0;
    for token in 0..tokens {
        let leaves = |judged: &Judged| {
            judged.scores[token].is_some_and(|score| f64::from(score) >= threshold)
        };
        let exit = judged.iter().position(leaves);
        counts[exit.unwrap_or(judged.len())] += 1;
        agree += usize::from(exit.is_none_or(|exit| judged[exit].agrees[token]));
    }
    let shares: Vec<f64> = counts.iter().map(|count| *count as f64 / tokens as f64).collect();
    let depth = |(share, depth): (&f64, &f64)| share * depth;
    let depth_mean = shares.iter().zip(depths.iter().chain(&[1.0])).map(depth).sum();
    Trade { threshold, depth_mean, agreement: agree as f64 / tokens as f64, shares }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four tokens: scores and agreement.
    fn judged(scores: [f32; 4], agrees: [bool; 4]) -> Judged {
        Judged {
            scores: scores.map(Some).into(),
            agrees: agrees.into(),
            is_good: agrees.into(),
            ..Judged::default()
        }
    }

    #[test]
    fn a_token_leaves_at_the_first_exit_that_lets_it() {
        let early = judged([0.9, 0.2, 0.2, 0.9], [true, true, false, false]);
        let late = judged([0.9, 0.9, 0.2, 0.9], [true, true, true, true]);
        // At 0.5: tokens 0 and 3 leave early, 1 late, 2 not at all; token 3 should not have.
        let trade = trade(&[early, late], &[0.25, 0.5], 0.5);
        assert_eq!(trade.shares, [0.5, 0.25, 0.25], "where they leave");
        assert!((trade.depth_mean - 0.5).abs() < 1e-9, "0.5 · 0.25 + 0.25 · 0.5 + 0.25 · 1");
        assert!((trade.agreement - 0.75).abs() < 1e-9, "three of four");
    }

    #[test]
    fn the_least_depth_keeps_the_agreement_that_was_asked_for() {
        let exit = judged([0.9, 0.8, 0.3, 0.2], [true, true, false, true]);
        let trades = trades(&[exit], &[0.5]);
        // Full agreement lets the two with the highest scores leave, and no third.
        assert_eq!(trades.len(), AGREEMENTS.len(), "full depth agrees with itself");
        for trade in trades {
            assert!((trade.depth_mean - 0.75).abs() < 1e-9, "{trade:?}");
        }
    }

    #[test]
    fn an_exit_is_reported_over_the_tokens_that_reach_it() {
        let mut exit = judged([0.9, 0.6, 0.2, 0.95], [true, false, false, true]);
        exit.scores[3] = None;
        let report = exit.report();
        let at = report.thresholds[0];
        assert!((at.exit_rate - 2.0 / 3.0).abs() < 1e-9, "two of three: {at:?}");
        assert!((at.agreement - 0.5).abs() < 1e-9, "one of them agrees");
        assert!((report.auc - 1.0).abs() < 1e-9, "the one that agrees has the highest score");
    }
}
