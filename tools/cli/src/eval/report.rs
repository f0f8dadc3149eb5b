//! The JSON of an evaluation: full depth, and each mode beside it.

use std::collections::BTreeMap;

use dynamax_bundle::{Kind, Op, Program, Rows, StateMode};
use dynamax_engine::Model;
use serde::Serialize;

use super::outcome::Outcome;

/// Everything that was found out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Report {
    /// Name of the task.
    pub(crate) task: &'static str,
    /// Examples.
    pub(crate) n: usize,
    /// The score that counts as accuracy.
    pub(crate) accuracy_is: &'static str,
    /// Full depth first.
    pub(crate) modes: Vec<ModeReport>,
    /// What a perfect classifier would do; nothing without exits.
    pub(crate) oracle: Option<Oracle>,
    /// Prompts that lost their beginning, because the context is too short.
    pub(crate) prompts_cut: usize,
    /// What was measured, and where.
    pub(crate) conditions: Conditions,
}

/// What was measured, and where.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Conditions {
    /// Path of the bundle.
    pub(crate) bundle: String,
    /// BLAKE3 of its contents.
    pub(crate) bundle_hash: String,
    /// Architecture and format of most weights.
    pub(crate) model: String,
    /// Path of the data.
    pub(crate) data: String,
    /// BLAKE3 of the file.
    pub(crate) data_hash: String,
    /// The processor.
    pub(crate) machine: String,
    /// Instruction set of the kernels.
    pub(crate) isa: &'static str,
    /// Threads that worked.
    pub(crate) threads: usize,
    /// What measured energy; `model` measured nothing.
    pub(crate) energy_source: &'static str,
}

/// A way to decode.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Mode {
    /// `off`, `fixed`, `budget`, `verified`.
    pub(crate) exit: String,
    /// How sure a classifier must be.
    pub(crate) threshold: Option<f64>,
    /// What happens to the state of skipped layers: `copy`, `propagate`, `skip`, `deferred`.
    pub(crate) state: Option<String>,
    /// The kind of classifier.
    pub(crate) classifier: Option<String>,
}

impl Mode {
    /// All layers for every token.
    pub(crate) fn full_depth() -> Self {
        Self { exit: "off".into(), threshold: None, state: None, classifier: None }
    }

    /// What a curve has in common: all but the threshold.
    pub(crate) fn family(&self) -> String {
        let parts = [self.state.as_deref(), self.classifier.as_deref()];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        match (self.exit.as_str(), parts.join(" · ")) {
            ("off", _) => "full depth".into(),
            ("fixed", parts) if !parts.is_empty() => parts,
            (exit, parts) if parts.is_empty() => exit.into(),
            (exit, parts) => format!("{exit} · {parts}"),
        }
    }

    /// The mode in a few words, with its threshold.
    pub(crate) fn label(&self) -> String {
        match self.threshold {
            Some(threshold) => format!("{} @ {}", self.family(), number(threshold)),
            None => self.family(),
        }
    }
}

/// A threshold: no more digits than it has.
pub(crate) fn number(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// One mode beside full depth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ModeReport {
    /// The mode.
    #[serde(flatten)]
    pub(crate) mode: Mode,
    /// Mean of the score that counts.
    pub(crate) accuracy: f64,
    /// The same at full depth.
    pub(crate) accuracy_full: f64,
    /// Share of tokens that full depth would have said too.
    pub(crate) agreement: f64,
    /// Share of layers that a token went through.
    pub(crate) depth_mean: f64,
    /// Share of the arithmetic on weights that was not done.
    pub(crate) flops_saved: f64,
    /// Share of the bytes of weights that were not read.
    pub(crate) bytes_saved: f64,
    /// Of drafts, the share that was right; by their place in a round, too.
    pub(crate) acceptance: Option<f64>,
    /// Of drafts, the share that no exit made, because it had been said before.
    pub(crate) said_before: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) acceptance_by_place: Vec<f64>,
    /// Share of the seconds a token; negative if it became slower.
    pub(crate) time_saved: f64,
    /// Millijoules a token, prompts not counted; nothing where only scores count.
    pub(crate) energy_mj_per_token: Option<f64>,
    /// Tokens that left behind each segment; the last is full depth.
    pub(crate) tokens_per_exit: Vec<u64>,
    /// Speed behind the prompt.
    pub(crate) tokens_per_s: f64,
    /// Every score's mean.
    pub(crate) scores: BTreeMap<&'static str, f64>,
}

/// What a classifier that is always right would do: each token leaves at the first exit whose token is that of full depth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Oracle {
    /// Share of layers that a token would go through.
    pub(crate) depth_mean: f64,
    /// Share of the arithmetic on weights that would not be done.
    pub(crate) flops_saved: f64,
    /// Share of the bytes of weights that would not be read.
    pub(crate) bytes_saved: f64,
    /// Tokens that would leave behind each segment.
    pub(crate) tokens_per_exit: Vec<u64>,
}

impl Oracle {
    /// The oracle that lets so many tokens leave behind each segment.
    pub(crate) fn new(ladder: &Ladder, tokens_per_exit: Vec<u64>) -> Self {
        let tokens = tokens_per_exit.iter().sum();
        Self {
            depth_mean: ladder.depth_mean(&tokens_per_exit),
            flops_saved: ladder.saved(&tokens_per_exit, tokens, |cost| cost.flops),
            bytes_saved: ladder.saved(&tokens_per_exit, tokens, |cost| cost.bytes),
            tokens_per_exit,
        }
    }
}

impl ModeReport {
    /// Compares a mode with full depth.
    pub(crate) fn new(mode: Mode, ladder: &Ladder, outcome: &Outcome, full: &Outcome) -> Self {
        let segments = ladder.rungs.len();
        let (tokens_per_exit, reached) =
            (outcome.tokens_per_exit(segments), outcome.steps_per_reach(segments));
        let tokens = tokens_per_exit.iter().sum();
        let drafts = outcome.drafts();
        // A draft that was wrong went through all layers too, and every draft through two heads.
        let rows = if drafts.drafted() > 0 { &reached } else { &tokens_per_exit };
        let (seconds, seconds_full) = (outcome.seconds_per_token(), full.seconds_per_token());
        let rate = |numerator: f64, of: f64| if of > 0.0 { numerator / of } else { 0.0 };
        Self {
            mode,
            accuracy: outcome.accuracy(),
            accuracy_full: full.accuracy(),
            agreement: outcome.agreement(full),
            depth_mean: ladder.depth_mean(&tokens_per_exit),
            flops_saved: ladder.saved(rows, tokens, |cost| cost.flops)
                - ladder.heads(drafts.drafted(), tokens),
            bytes_saved: ladder.saved(&reached, tokens, |cost| cost.bytes),
            acceptance: drafts.acceptance(),
            said_before: drafts.share_said_before(),
            acceptance_by_place: drafts.acceptance_by_place().collect(),
            time_saved: rate(seconds_full - seconds, seconds_full),
            energy_mj_per_token: outcome.energy_mj_per_token(),
            tokens_per_exit,
            tokens_per_s: rate(1.0, seconds),
            scores: outcome.means().into_iter().collect(),
        }
    }
}

/// What some operators ask of the machine for one token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cost {
    /// Multiplications and additions with weights.
    pub(crate) flops: f64,
    /// Bytes of weights that are read.
    pub(crate) bytes: f64,
}

impl Cost {
    fn plus(self, other: Self) -> Self {
        Self { flops: self.flops + other.flops, bytes: self.bytes + other.bytes }
    }
}

/// A segment, as a step of the way down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rung {
    /// Layers of the backbone up to its end.
    pub(crate) layers: u16,
    /// What running it costs.
    pub(crate) run: Cost,
    /// What it costs although the token has left: its state is kept up.
    pub(crate) skipped: Cost,
    /// What the probe at its end costs.
    pub(crate) probe: Cost,
}

/// A model as what can be saved: its segments, and what every token pays.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ladder {
    /// The segments.
    pub(crate) rungs: Vec<Rung>,
    /// The head.
    pub(crate) head: Cost,
}

impl Ladder {
    /// Reads the costs off a Program. What skipped layers cost depends on what happens to their state: deferred rows run
    /// later, so that their arithmetic is not saved; weights for them are read as far as a step reaches. Propagation
    /// runs what leads to states.
    pub(crate) fn of(model: &Model<'_>, state: Option<StateMode>) -> Self {
        let program = model.program();
        let cost = |ops: std::ops::Range<usize>| {
            ops.map(|step| cost(program, program.ops[step])).fold(Cost::default(), Cost::plus)
        };
        let rung = |(index, segment): (usize, &dynamax_bundle::Segment)| {
            let run = cost(segment.ops());
            let leads = segment.ops().filter(|step| model.leads_to_state(*step));
            let skipped = match state {
                Some(StateMode::Deferred) => Cost { bytes: 0.0, ..run },
                Some(StateMode::Propagate) => {
                    leads.map(|step| cost(step..step + 1)).fold(Cost::default(), Cost::plus)
                }
                _ => Cost::default(),
            };
            let exit = program.exit_of(index).filter(|_| state.is_some());
            let probe = exit.map_or_else(Cost::default, |(_, exit)| cost(exit.probe()));
            Rung { layers: segment.layers, run, skipped, probe }
        };
        let rungs = program.segments.iter().enumerate().map(rung).collect();
        Self { rungs, head: cost(program.head()) }
    }

    /// Mean share of layers.
    fn depth_mean(&self, tokens_per_exit: &[u64]) -> f64 {
        let all = self.rungs.last().map_or(0, |rung| rung.layers);
        mean(tokens_per_exit, |exit| f64::from(self.rungs[exit].layers) / f64::from(all.max(1)))
            .unwrap_or(1.0)
    }

    /// Of a token at full depth, the whole of a cost.
    fn full(&self, of: impl Fn(&Cost) -> f64) -> f64 {
        self.rungs.iter().map(|rung| of(&rung.run)).sum::<f64>() + of(&self.head)
    }

    /// The arithmetic of some heads, in tokens at full depth, for each of some tokens.
    fn heads(&self, heads: u64, tokens: u64) -> f64 {
        heads as f64 * self.head.flops / (self.full(|cost| cost.flops) * tokens.max(1) as f64)
    }

    /// Share of a cost that was saved by steps that went so far and yielded so many tokens.
    fn saved(&self, steps_per_exit: &[u64], tokens: u64, of: impl Fn(&Cost) -> f64) -> f64 {
        let full = self.full(&of);
        let paid = |exit: usize| {
            let (run, skipped) = self.rungs.split_at(exit + 1);
            run.iter().map(|rung| of(&rung.run) + of(&rung.probe)).sum::<f64>()
                + skipped.iter().map(|rung| of(&rung.skipped)).sum::<f64>()
                + of(&self.head)
        };
        let steps: u64 = steps_per_exit.iter().sum();
        let of_token = |paid| paid * steps as f64 / tokens.max(1) as f64;
        mean(steps_per_exit, paid).map_or(0.0, |paid| 1.0 - of_token(paid) / full)
    }
}

/// Mean of a quantity over tokens; nothing without tokens.
fn mean(tokens_per_exit: &[u64], of: impl Fn(usize) -> f64) -> Option<f64> {
    let tokens: u64 = tokens_per_exit.iter().sum();
    let sum: f64 =
        tokens_per_exit.iter().enumerate().map(|(exit, count)| *count as f64 * of(exit)).sum();
    (tokens > 0).then(|| sum / tokens as f64)
}

/// One operator, for one token.
fn cost(program: &Program<'_>, op: Op) -> Cost {
    let mut cost = Cost::default();
    for id in op.operands().inputs.into_iter().flatten() {
        let tensor = program.tensor(id);
        if !matches!(tensor.kind, Kind::Weight { .. }) {
            continue;
        }
        let rows = if let Rows::Fixed(rows) = tensor.rows { f64::from(rows.max(1)) } else { 1.0 };
        let bytes = tensor.stored_bytes().unwrap_or(0) as f64;
        if matches!(op, Op::Embed { .. }) {
            cost.bytes += bytes / rows;
        } else {
            cost.bytes += bytes;
            cost.flops += 2.0 * rows * f64::from(tensor.width);
        }
    }
    cost
}

#[cfg(test)]
pub(super) mod tests {
    use dynamax_session::{Options, Session};

    use super::super::outcome::tests::outcome;
    use super::*;
    use crate::source::{Demo, source};

    /// Four layers, of which the first two are a segment; the head costs as much as one layer.
    pub(crate) fn ladder() -> Ladder {
        let cost = |units: f64| Cost { flops: 2.0 * units, bytes: units };
        let rung = |layers, skipped| {
            let probe = Cost::default();
            Rung { layers, run: cost(2.0), skipped: cost(skipped), probe }
        };
        Ladder { rungs: vec![rung(2, 0.0), rung(4, 0.5)], head: cost(1.0) }
    }

    #[test]
    fn full_depth_saves_nothing() {
        let full = outcome(&[(1.0, &[1, 2], &[1, 1])]);
        let report = ModeReport::new(Mode::full_depth(), &ladder(), &full, &full);
        let saved = [report.flops_saved, report.bytes_saved, report.time_saved];
        assert!(saved.iter().all(|saved| saved.abs() < 1e-12), "{report:?}");
        assert_eq!((report.agreement, report.depth_mean), (1.0, 1.0), "{report:?}");
        assert_eq!(report.tokens_per_exit, [0, 2], "all of it");
    }

    #[test]
    fn leaving_early_saves_what_is_not_run() {
        let full = outcome(&[(1.0, &[1, 2], &[1, 1])]);
        let early = outcome(&[(0.0, &[1, 3], &[1, 0])]);
        let report = ModeReport::new(Mode::full_depth(), &ladder(), &early, &full);
        // Of 2 + 2 + 1, one of two tokens pays 2 + 0.5 + 1: a mean of 4.25, 15 % less.
        assert!((report.bytes_saved - 0.15).abs() < 1e-12, "{report:?}");
        assert!((report.flops_saved - 0.15).abs() < 1e-12, "{report:?}");
        // Half the tokens at half the depth.
        assert!((report.depth_mean - 0.75).abs() < 1e-12, "{report:?}");
        assert_eq!((report.accuracy, report.accuracy_full), (0.0, 1.0), "{report:?}");
        let oracle = Oracle::new(&ladder(), vec![2, 0]);
        assert!((oracle.bytes_saved - 0.3).abs() < 1e-12, "{oracle:?}");
    }

    #[test]
    fn costs_are_those_of_the_program() {
        let source = source(None, Demo::Transformer).unwrap();
        let session = Session::open(&source, &Options::default()).unwrap();
        let (bundle, ladder) = (&session.bundle, Ladder::of(&session.model(), None));
        let flops: f64 = ladder.rungs.iter().map(|rung| rung.run.flops).sum();
        let all = flops + ladder.head.flops;
        // Two for each weight that multiplies: all but the embedding, unless the head uses it again.
        let params = bundle.meta().params as f64;
        assert!(all > 1.2 * params && all < 2.2 * params, "{all} of {params}");
        assert!(ladder.head.bytes > 0.0, "{ladder:?}");
    }

    #[test]
    fn families_leave_the_threshold_out() {
        let mode = |exit: &str, state: Option<&str>| Mode {
            exit: exit.into(),
            threshold: Some(0.9),
            state: state.map(Into::into),
            classifier: Some("calm".into()),
        };
        assert_eq!(mode("fixed", Some("copy")).family(), "copy · calm");
        assert_eq!(mode("verified", None).family(), "verified · calm");
        assert_eq!(Mode::full_depth().family(), "full depth");
    }
}
