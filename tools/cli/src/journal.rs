//! What each token of an answer cost, and what was decided about it: for the line on the terminal, and the page afterwards.
//!
//! The token that comes with the prompt is none of them: its time and energy are the prompt's.

pub(crate) mod line;
pub(crate) mod page;
mod timeline;
mod traces;

use dynamax_governor::meter::Source;
use dynamax_governor::{Events, GovernorConfig, MeterFault, Mode};
use dynamax_session::generator::Token;
use serde::Serialize;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Asked {
    /// Mean energy of a token.
    pub(crate) energy_mj: Option<f64>,
    /// Deadline of each token.
    pub(crate) latency_ms: Option<f64>,
    /// Tokens over which the mean is kept.
    pub(crate) window: usize,
    /// Least share of tokens that agree with full depth.
    pub(crate) min_agreement: Option<f64>,
}

impl Asked {
    /// Nothing but means over this many tokens.
    pub(crate) fn nothing(window: usize) -> Self {
        Self { energy_mj: None, latency_ms: None, window, min_agreement: None }
    }

    /// What a governor keeps.
    pub(crate) fn of(config: &GovernorConfig) -> Self {
        Self {
            energy_mj: config.energy_per_token.map(|energy| energy.0 as f64 / 1e3),
            latency_ms: config.latency_per_token.map(|time| time.0 as f64 / 1e3),
            window: config.window,
            min_agreement: Some(f64::from(config.min_agreement)),
        }
    }
}

/// A token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Entry {
    /// Time of its step.
    pub(crate) step_ms: f64,
    /// What it cost, where that is known; modelled while the meter is broken.
    pub(crate) energy_mj: Option<f64>,
    /// What was wrong with the meter.
    pub(crate) fault: Option<MeterFault>,
    /// The segment behind which it left.
    pub(crate) segment: u16,
    /// Share of the layers that it went through.
    pub(crate) depth: f64,
    /// The score at which it might leave.
    pub(crate) threshold: Option<f64>,
    /// What the governor was busy with.
    pub(crate) mode: Option<Mode>,
    /// What happened.
    pub(crate) events: Events,
    /// Share of the tokens compared so far that were those of full depth.
    pub(crate) agreement: Option<f64>,
    /// Mean energy of the last tokens of the window, this one included.
    pub(crate) window_mj: Option<f64>,
}

/// What each token cost.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    asked: Asked,
    source: Option<Source>,
    segments: usize,
    entries: Vec<Entry>,
    revealed: u64,
    agreed: u64,
}

impl Journal {
    pub(crate) fn new(asked: Asked, source: Option<Source>, segments: usize) -> Self {
        Self { asked, source, segments, entries: Vec::new(), revealed: 0, agreed: 0 }
    }

    /// Notes a token.
    pub(crate) fn push(&mut self, token: &Token) {
        let Some(course) = token.course else { return };
        self.revealed += u64::from(course.revealed);
        self.agreed += u64::from(course.agreed);
        let steering = course.steering;
        self.entries.push(Entry {
            step_ms: course.step_ms,
            energy_mj: token.energy_mj.or(course.modelled_mj),
            fault: course.fault,
            segment: token.segment,
            depth: token.depth,
            threshold: steering.and_then(|steering| steering.threshold).map(f64::from),
            mode: steering.map(|steering| steering.mode),
            events: steering.map_or(Events::NONE, |steering| steering.events),
            agreement: (self.revealed > 0).then(|| self.agreed as f64 / self.revealed as f64),
            window_mj: None,
        });
        let window_mj = mean(self.last().iter().filter_map(|entry| entry.energy_mj));
        if let Some(newest) = self.entries.last_mut() {
            newest.window_mj = window_mj;
        }
    }

    /// The tokens of the window.
    fn last(&self) -> &[Entry] {
        &self.entries[self.entries.len().saturating_sub(self.asked.window)..]
    }

    /// Tokens whose step took longer than the deadline.
    pub(crate) fn late(&self) -> usize {
        let Some(deadline) = self.asked.latency_ms else { return 0 };
        self.entries.iter().filter(|entry| entry.step_ms > deadline).count()
    }

    /// The largest mean over a whole window; of all tokens, if they are fewer.
    pub(crate) fn worst_window_mj(&self) -> Option<f64> {
        let first = self.asked.window.min(self.entries.len()).saturating_sub(1);
        let means = self.entries.iter().skip(first).filter_map(|entry| entry.window_mj);
        means.reduce(f64::max)
    }

    /// Tokens in a row whose energy the meter did not tell.
    pub(crate) fn faults(&self) -> Vec<Faulty> {
        let mut faults = Vec::new();
        let mut from = 1;
        for part in self.entries.chunk_by(|one, next| one.fault == next.fault) {
            if let Some(fault) = part.first().and_then(|entry| entry.fault) {
                let modelled = mean(part.iter().filter_map(|entry| entry.energy_mj));
                let (fault, tokens) = (fault.to_string(), part.len());
                faults.push(Faulty { fault, from, tokens, modelled_mj_per_token: modelled });
            }
            from += part.len();
        }
        faults
    }

    /// The first of them in sentences, and how many more there are.
    pub(crate) fn fault_sentences(&self) -> Vec<String> {
        let faults = self.faults();
        let mut sentences: Vec<_> = faults.iter().take(3).map(Faulty::sentence).collect();
        if faults.len() > sentences.len() {
            sentences.push(format!("And so {} times more.", faults.len() - sentences.len()));
        }
        sentences
    }

    /// Where the joules come from, in a few words.
    pub(crate) fn label(&self) -> String {
        let label = self.source_label();
        match self.entries.iter().filter(|entry| entry.fault.is_some()).count() {
            0 => label,
            modelled => format!("{label}; {modelled} of {} tokens modelled", self.entries.len()),
        }
    }

    /// Where those of the newest token do.
    pub(crate) fn newest_label(&self) -> String {
        match self.entries.last().and_then(|entry| entry.fault) {
            Some(_) => "modelled: the meter is broken".to_owned(),
            None => self.source_label(),
        }
    }

    fn source_label(&self) -> String {
        match self.source {
            None => "not measured".to_owned(),
            Some(Source::Model) => "modelled".to_owned(),
            Some(Source::Trace) => "replayed".to_owned(),
            Some(source) => format!("measured, {source}"),
        }
    }
}

/// Tokens in a row whose energy a meter should have told, and did not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Faulty {
    /// Why not.
    pub(crate) fault: String,
    /// The first of them.
    pub(crate) from: usize,
    /// How many.
    pub(crate) tokens: usize,
    /// What the model makes of them.
    pub(crate) modelled_mj_per_token: Option<f64>,
}

impl Faulty {
    /// In a sentence.
    pub(crate) fn sentence(&self) -> String {
        let energy = self
            .modelled_mj_per_token
            .map_or_else(String::new, |mj| format!(", {} mJ/token", figure(mj)));
        let Self { fault, from, tokens, .. } = self;
        format!("Modelled from token {from} on, for {tokens} tokens{energy}: {fault}.")
    }
}

/// The mean; nothing without values.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// A quantity with three digits that count.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 || size == 0.0 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.9995 => format!("{value:.2}"),
        size if size >= 0.099_95 => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use dynamax_session::course::{Course, Steering};

    use super::*;

    /// A token that took this time and energy, and left behind the first of four segments, or not.
    pub(crate) fn token(step_ms: f64, energy_mj: f64, is_early: bool) -> Token {
        let steering =
            Steering { threshold: Some(0.8), mode: Mode::Keeping, events: Events::CATCH_UP };
        let course = Course {
            step_ms,
            steering: Some(steering),
            revealed: 4,
            agreed: 3,
            ..Course::default()
        };
        Token {
            id: 7,
            ms: step_ms + 0.1,
            segment: if is_early { 0 } else { 3 },
            depth: if is_early { 0.25 } else { 1.0 },
            energy_mj: Some(energy_mj),
            course: Some(course),
            logprob: None,
            alternatives: Vec::new(),
        }
    }

    /// A journal that asks for 2 mJ and 5 ms over a window of four.
    pub(crate) fn journal(source: Source) -> Journal {
        let asked = Asked {
            energy_mj: Some(2.0),
            latency_ms: Some(5.0),
            window: 4,
            min_agreement: Some(0.7),
        };
        Journal::new(asked, Some(source), 4)
    }

    #[test]
    fn the_window_holds_the_last_tokens_and_the_worst_is_a_whole_one() {
        let mut journal = journal(Source::Model);
        for energy in [9.0, 1.0, 1.0, 1.0, 1.0, 1.0] {
            journal.push(&token(1.0, energy, true));
        }
        // Of 9 alone the mean is 9, of the first whole window 3, of the later ones 1.
        assert_eq!(journal.worst_window_mj(), Some(3.0), "the first whole window");
        assert_eq!(journal.entries[4].window_mj, Some(1.0), "9 has left it");
    }

    #[test]
    fn tokens_beyond_the_deadline_are_late_and_the_prompts_is_none() {
        let mut journal = journal(Source::Model);
        journal.push(&Token { course: None, ..token(80.0, 1.0, false) });
        for ms in [4.9, 5.1, 5.0] {
            journal.push(&token(ms, 1.0, false));
        }
        assert_eq!((journal.entries.len(), journal.late()), (3, 1), "one of three");
    }

    #[test]
    fn labels_say_whether_joules_are_measured() {
        let label = |source| Journal::new(Asked::nothing(64), source, 1).label();
        assert_eq!(label(Some(Source::Model)), "modelled");
        assert_eq!(label(Some(Source::Ina3221)), "measured, ina3221");
        assert_eq!(label(None), "not measured");
    }

    #[test]
    fn tokens_that_the_meter_did_not_tell_are_modelled_and_called_so() {
        let mut journal = journal(Source::Ina3221);
        let unmeasured = |fault| {
            let known = token(1.0, 0.0, false);
            let course = known.course.map(|course| Course {
                fault: Some(fault),
                modelled_mj: Some(3.0),
                ..course
            });
            Token { energy_mj: None, course, ..known }
        };
        journal.push(&token(1.0, 2.0, false));
        journal.push(&unmeasured(MeterFault::Gone));
        assert_eq!(journal.newest_label(), "modelled: the meter is broken");
        journal.push(&unmeasured(MeterFault::Gone));
        journal.push(&unmeasured(MeterFault::Nonsense));
        journal.push(&token(1.0, 2.0, false));
        assert_eq!(journal.newest_label(), "measured, ina3221");
        assert_eq!(journal.label(), "measured, ina3221; 3 of 5 tokens modelled");
        let faults: Vec<_> = journal.faults().iter().map(|one| (one.from, one.tokens)).collect();
        assert_eq!(faults, [(2, 2), (4, 1)], "two kinds");
        let first = &journal.fault_sentences()[0];
        let begin = "Modelled from token 2 on, for 2 tokens, 3.00 mJ/token: the power meter";
        assert!(first.starts_with(begin), "{first}");
        for fault in [MeterFault::Gone, MeterFault::Frozen, MeterFault::Gone] {
            journal.push(&unmeasured(fault));
        }
        assert_eq!(journal.fault_sentences()[3], "And so 2 times more.");
    }

    #[test]
    fn figures_have_three_digits() {
        let shown = [0.0, 0.0123, 0.5, 1.234, 12.34, 123.4].map(figure);
        assert_eq!(shown, ["0", "0.0123", "0.500", "1.23", "12.3", "123"]);
    }
}
