//! Tokens that are drafted at exits and verified by the last layer: faster, and exactly what full depth says.
//!
//! A round begins with a token that is certain. Tokens behind it leave early, one after the other, until as many are drafted
//! as the governor asks for, or one does not leave: that one takes all of them through the deeper layers, whose weights are
//! read once. The generator then chooses from the logits of the last layer, row by row, as it would without drafts; as long
//! as it chooses what was drafted, the next row is known already.
//!
//! Where the last tokens have been said before, what followed them then is drafted instead, if that is thought to gain more: all
//! rows go through all layers at once.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dynamax_engine::{Decide, Decoder, ExitSettings, Outcome, Probed, StepError};
use dynamax_governor::{Events, Microjoules, Revealed, Sample};

mod said;

use crate::budget::{Budget, Running, microseconds};
use said::Match;

/// Drafts tokens, and learns how many are worth it.
#[derive(Clone, Debug)]
pub struct Rounds {
    budget: Budget,
    /// The drafts of this round, and the segments behind which they were made.
    drafts: Vec<u32>,
    segments: Vec<u16>,
    /// Of these, those that were right so far.
    right: usize,
    /// Tokens before them that had been said before; 0 where exits drafted.
    matched: usize,
    /// What such a match led to, if nobody drafted it: the match, and what followed.
    unasked: Option<(usize, u32)>,
    /// What this round took.
    spent: Option<Spent>,
    /// What has happened until the newest step.
    events: Events,
    tally: Tally,
}

/// What a round took. Its energy is unknown if that of any of its steps is.
#[derive(Clone, Copy, Debug)]
struct Spent {
    elapsed: Duration,
    energy: Option<Microjoules>,
}

/// Most drafts of a round.
pub const MOST_DRAFTS: usize = 16;

/// Drafts so far, by their place in a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    drafted: [u64; MOST_DRAFTS],
    right: [u64; MOST_DRAFTS],
    /// Drafts that had been said before, and those of them that were right.
    said_before: (u64, u64),
}

impl Tally {
    /// None yet.
    pub const NONE: Self =
        Self { drafted: [0; MOST_DRAFTS], right: [0; MOST_DRAFTS], said_before: (0, 0) };

    /// Counts a round.
    fn add_round(&mut self, drafted: usize, right: usize, said_before: bool) {
        if said_before {
            self.said_before.0 += drafted as u64;
            self.said_before.1 += right as u64;
        }
        self.drafted.iter_mut().take(drafted).for_each(|count| *count += 1);
        self.right.iter_mut().take(right).for_each(|count| *count += 1);
    }

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Self) {
        for place in 0..MOST_DRAFTS {
            self.drafted[place] += other.drafted[place];
            self.right[place] += other.right[place];
        }
        self.said_before.0 += other.said_before.0;
        self.said_before.1 += other.said_before.1;
    }

    /// All drafts.
    #[must_use]
    pub fn drafted(&self) -> u64 {
        self.drafted.iter().sum()
    }

    /// Those that the last layer said too.
    #[must_use]
    pub fn right(&self) -> u64 {
        self.right.iter().sum()
    }

    /// Drafts that no exit made, because they had been said before, and those of them that were right.
    #[must_use]
    pub fn said_before(&self) -> (u64, u64) {
        self.said_before
    }

    /// Share of the drafts that were right.
    #[must_use]
    pub fn acceptance(&self) -> Option<f64> {
        let drafted = self.drafted();
        (drafted > 0).then(|| self.right() as f64 / drafted as f64)
    }

    /// Share of the drafts that no exit made.
    #[must_use]
    pub fn share_said_before(&self) -> Option<f64> {
        let drafted = self.drafted();
        (drafted > 0).then(|| self.said_before.0 as f64 / drafted as f64)
    }

    /// Share of the drafts that were right by the place in a round: a draft behind a wrong one is wrong.
    pub fn acceptance_by_place(&self) -> impl Iterator<Item = f64> + use<> {
        let places = self.drafted.into_iter().zip(self.right);
        places
            .take_while(|(drafted, _)| *drafted > 0)
            .map(|(drafted, right)| right as f64 / drafted as f64)
    }
}

/// Who is asked during a round.
pub trait Drafter {
    /// Chooses a draft behind others, from what an exit says.
    fn draft(&mut self, decoder: &mut Decoder<'_>, drafts: &[u32]) -> u32;

    /// Looks at what a token will be chosen from, so that it is there: a device is waited for here.
    fn hear(&mut self, decoder: &mut Decoder<'_>);

    /// True if tokens leave at the first exit whatever it says.
    fn always_leaves(&self) -> bool {
        false
    }

    /// Hears of each step, and may say what energy it took.
    fn stepped(&mut self, outcome: &Outcome, elapsed: Duration) -> Option<Microjoules>;
}

/// How a draft leaves: where the chance that it and all before it are right is enough.
struct Draft<'r> {
    running: &'r Running,
    /// Chance that all before it are right.
    all_right: f32,
    is_last: bool,
    always: bool,
    /// What it scored last.
    score: AtomicU32,
}

impl Decide for Draft<'_> {
    fn foregone(&self, exit: usize) -> Option<bool> {
        if self.is_last { Some(false) } else { self.running.foregone(exit) }
    }

    fn leaves(&self, probed: Probed) -> bool {
        self.score.store(probed.score.to_bits(), Ordering::Relaxed);
        let score = self.all_right * probed.score;
        self.always || self.running.leaves(Probed { score, ..probed })
    }
}

impl Rounds {
    /// Drafts as the governor of a budget in mode `verified` says.
    #[must_use]
    pub fn new(budget: Budget) -> Self {
        let (drafts, segments) = (Vec::with_capacity(MOST_DRAFTS), Vec::with_capacity(MOST_DRAFTS));
        let (spent, events, tally) = (None, Events::NONE, Tally::default());
        Self { budget, drafts, segments, right: 0, matched: 0, unasked: None, spent, events, tally }
    }

    /// How exits are used.
    #[must_use]
    pub fn settings(&self) -> ExitSettings {
        self.budget.settings()
    }

    /// The governor at work.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The governor, to be told of changes.
    pub fn budget_mut(&mut self) -> &mut Budget {
        &mut self.budget
    }

    /// What has happened between the newest step and the one before it.
    #[must_use]
    pub fn events(&self) -> Events {
        self.events
    }

    /// Starts a new sequence.
    pub fn begin_sequence(&mut self) {
        self.close();
        self.budget.begin_sequence();
        self.unasked = None;
        self.tally = Tally::default();
    }

    /// Ends a sequence: the drafts that it had.
    pub fn end_sequence(&mut self) -> Tally {
        self.close();
        self.tally
    }

    /// The segment behind which `token` was drafted, if it was drafted where the newest logits are.
    #[must_use]
    pub fn drafted_behind(&self, token: u32) -> Option<u16> {
        let is_draft = self.drafts.get(self.right) == Some(&token);
        is_draft.then(|| self.segments[self.right])
    }

    /// Feeds `token` behind `said`; afterwards the decoder's logits are those of full depth behind it. At most `room` drafts are
    /// made. False if no token may be made any more.
    ///
    /// # Errors
    ///
    /// As [`Decoder::step`].
    pub fn step(
        &mut self,
        decoder: &mut Decoder<'_>,
        (said, token): (&[u32], u32),
        room: usize,
        drafter: &mut impl Drafter,
    ) -> Result<bool, StepError> {
        self.events = Events::NONE;
        if let Some((matched, followed)) = self.unasked.take() {
            self.budget.judge_lookup(matched, followed == token);
        }
        if decoder.accept(token) {
            self.right += 1;
            return Ok(true);
        }
        self.close();
        let running = self.budget.decide(decoder.position());
        self.events = running.decision().events;
        if running.decision().stop {
            return Ok(false);
        }
        let room = room.min(MOST_DRAFTS);
        let found = Match::of(said, token);
        let guesses = found.map_or(0, |found| self.budget.lookup_length(found.length)).min(room);
        let most = room.min(running.decision().draft_length.into());
        let spent = match found {
            Some(found) if guesses > 0 => {
                self.matched = found.length;
                self.drafts.extend(found.followed_by(said, token).take(guesses));
                self.verify(decoder, token, drafter)?
            }
            _ => {
                self.unasked = found.map(|found| (found.length, found.guess(said, token, 0)));
                match most {
                    0 => plain(decoder, token, drafter)?,
                    most => self.round(decoder, token, (most, &running), drafter)?,
                }
            }
        };
        self.spent = Some(spent);
        Ok(true)
    }

    /// Verifies drafts that no exit made.
    fn verify(
        &mut self,
        decoder: &mut Decoder<'_>,
        token: u32,
        drafter: &mut impl Drafter,
    ) -> Result<Spent, StepError> {
        let started = Instant::now();
        let outcome = decoder.verify(token, &self.drafts)?;
        drafter.hear(decoder);
        self.segments.resize(self.drafts.len(), outcome.segment);
        let mut spent = Spent::NOTHING;
        spent.add(&outcome, started.elapsed(), drafter);
        Ok(spent)
    }

    /// Drafts until a token does not leave, or there are enough.
    fn round(
        &mut self,
        decoder: &mut Decoder<'_>,
        token: u32,
        (most, running): (usize, &Running),
        drafter: &mut impl Drafter,
    ) -> Result<Spent, StepError> {
        let (mut token, mut spent) = (token, Spent::NOTHING);
        let always = drafter.always_leaves();
        // A draft behind a wrong one is wrong, so what counts is the chance that all of them are right.
        let mut all_right = 1.0;
        loop {
            let (started, is_last) = (Instant::now(), self.drafts.len() == most);
            let score = AtomicU32::new(0);
            let draft = Draft { running, all_right, is_last, always, score };
            let outcome = decoder.step_by(token, &draft)?;
            all_right *= f32::from_bits(draft.score.into_inner());
            let is_verified = decoder.waiting() == 0;
            if is_verified {
                drafter.hear(decoder);
            }
            spent.add(&outcome, started.elapsed(), drafter);
            if is_verified {
                return Ok(spent);
            }
            let started = Instant::now();
            token = drafter.draft(decoder, &self.drafts);
            spent.elapsed += started.elapsed();
            self.drafts.push(token);
            self.segments.push(outcome.segment);
        }
    }

    /// Tells the governor what became of the last round.
    fn close(&mut self) {
        if let Some(spent) = self.spent.take() {
            let (of, agreed) = (self.drafts.len(), self.right);
            let end = self.budget.governor().model().count() - 1;
            let exit = self.segments.first().map_or(end as u8, |segment| *segment as u8);
            self.budget.observe_sample(Sample {
                tokens: agreed as u8 + 1,
                energy: spent.energy,
                revealed: Some(Revealed { agreed: agreed as u16, of: of as u16 }),
                matched: self.matched as u8,
                ..Sample::new(exit, microseconds(spent.elapsed))
            });
            self.tally.add_round(of, agreed, self.matched > 0);
        }
        self.drafts.clear();
        self.segments.clear();
        (self.right, self.matched) = (0, 0);
    }
}

/// Feeds a token without drafts, and without asking exits.
fn plain(
    decoder: &mut Decoder<'_>,
    token: u32,
    drafter: &mut impl Drafter,
) -> Result<Spent, StepError> {
    let started = Instant::now();
    decoder.take(&[token])?;
    drafter.hear(decoder);
    let last = decoder.model().program().segments.len() as u16 - 1;
    let outcome = Outcome { segment: last, reach: last, ..Outcome::default() };
    let mut spent = Spent::NOTHING;
    spent.add(&outcome, started.elapsed(), drafter);
    Ok(spent)
}

impl Spent {
    const NOTHING: Self = Self { elapsed: Duration::ZERO, energy: Some(Microjoules(0)) };

    fn add(&mut self, outcome: &Outcome, elapsed: Duration, drafter: &mut impl Drafter) {
        self.elapsed += elapsed;
        let energy = drafter.stepped(outcome, elapsed);
        self.energy = self.energy.zip(energy).map(|(sum, more)| Microjoules(sum.0 + more.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_are_counted_by_their_place() {
        let mut tally = Tally::default();
        assert_eq!(tally.acceptance(), None, "nothing was drafted");
        tally.add_round(3, 3, false);
        tally.add_round(3, 1, true);
        tally.add_round(2, 0, false);
        assert_eq!((tally.drafted(), tally.right()), (8, 4), "all together");
        assert_eq!(tally.said_before(), (3, 1), "of one round");
        let places: Vec<f64> = tally.acceptance_by_place().collect();
        assert_eq!(places, [2.0 / 3.0, 1.0 / 3.0, 0.5], "first, second, third");
        let mut twice = tally;
        twice.add(&tally);
        assert_eq!(twice.acceptance(), tally.acceptance(), "the same shares");
        assert_eq!(twice.said_before(), (6, 2), "twice as many");
    }
}
