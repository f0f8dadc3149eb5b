//! How many tokens to draft before they are verified, and whether to draft at all.
//!
//! With a chance `α` that a draft is right, `k` drafts and their verification yield `(1 − α^(k+1)) / (1 − α)` tokens (Leviathan
//! et al. 2023, equation 1). A round with `d` drafts costs `A + B·d`: `A` is a token through all layers, `B` one more draft and
//! one more row to verify. Both are fitted to the rounds that were seen, beside the mean cost of a token that is not drafted
//! at all, so that whether drafting pays is measured and not believed:
//!
//! ```text
//! Plain ──▶ Trial ──▶ On
//!              └──────┴──▶ Off ──▶ Trial   it does not pay; tried again, each time later
//! ```
//!
//! Drafts come from exits, or were said before: see [`lookup`]. What these gain is known apart. After 192 tokens that came from drafts of
//! either kind, if none came without by themselves, some are made without, to know what they cost now.

mod fading;
pub(crate) mod lookup;
mod round;

use fading::{Fading, Line};
use lookup::Lookups;
pub use round::{Origin, RoundCost, RoundSeen};

/// Tokens without drafts before a trial.
const PLAIN: u16 = 6;

/// Tokens while drafting after which some without drafts are measured again, if none came by themselves, and how many.
const REFRESH: (u16, u16) = (192, 3);

/// Tokens without drafts that are not counted, because caches hold something else.
const COLD: u16 = 2;

/// Tokens of a trial.
const TRIAL: u16 = 26;

/// Drafts of a trial's first round at most; with each token that came of it one more.
const FIRST: u8 = 2;

/// What a trial may lose before it is given up, in tokens without drafts.
const PATIENCE: f32 = 2.5;

/// Tokens without drafts before drafting is tried again: first, and at most.
const PAUSE: (u16, u16) = (256, 4096);

/// The share of all time that trials may lose, which makes pauses longer than that.
const LOSS: f32 = 0.005;

/// A round that cost more than so many times its tokens and drafts, one by one, was disturbed by something else.
const DISTURBED: f32 = 2.0;

/// Drafts that the acceptance known beforehand is worth.
const PRIOR_TRIES: f32 = 8.0;

/// Until rounds were seen, a further row is thought to cost no more than this share of a token. A model of costs that has never
/// been measured may say that nothing is saved; who believes it drafts what is nearly certain, one at a time, and never learns.
const OPTIMISM: f32 = 0.25;

/// Drafts that the prior knows of.
const PRIOR_DRAFTS: f32 = 4.0;

/// Rounds after which the prior counts half as much.
const PRIOR_HALVED: f32 = 8.0;

/// Where the numbers of drafts of the rounds that were seen vary less than this, what one more costs is not known.
const LEAST_VARIANCE: f32 = 0.06;

/// What drafting is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// So many tokens without drafts, then a trial.
    Plain { left: u16 },
    /// Tokens so far.
    Trial { tokens: u16 },
    /// It pays.
    On,
    /// So many tokens without drafts, then a trial.
    Off { left: u16 },
}

/// What is known of drafts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drafting {
    /// What was known beforehand.
    prior: f32,
    /// Drafts that the last layer judged, and those of them that were right.
    judged: Fading,
    most: u8,
    phase: Phase,
    pause: u16,
    /// Tokens without drafts in a row.
    streak: u16,
    /// Tokens in rounds of drafts since the last without that were asked for, and how many of these are left.
    drafted: u16,
    refresh: u16,
    /// Cost of a token that is not drafted: of each two in a row the lesser, because what disturbs one makes drafts look better.
    plain: Fading,
    /// Cost of the newest of them.
    plain_before: f32,
    /// Cost of rounds, by their tokens.
    rounds: Fading,
    line: Line,
    lookups: Lookups,
}

impl Drafting {
    /// Begins with a trial; `acceptance` is the chance that a draft is right, as far as it is known.
    #[must_use]
    pub fn new(most: u8, acceptance: f32) -> Self {
        Self {
            prior: acceptance,
            judged: Fading::default(),
            most,
            phase: Phase::Plain { left: PLAIN },
            pause: PAUSE.0,
            streak: 0,
            drafted: 0,
            refresh: 0,
            plain: Fading::default(),
            plain_before: 0.0,
            rounds: Fading::default(),
            line: Line::default(),
            lookups: Lookups::NEW,
        }
    }

    /// Learns from a token or a round.
    pub fn learn(&mut self, seen: &RoundSeen) {
        let tokens = seen.tokens.max(1);
        self.lookups.pass(tokens);
        self.count(seen.from, tokens as u16);
        match seen.from {
            Origin::Nobody => self.learn_plain(seen.cost),
            Origin::Exits => self.learn_round(seen, tokens),
            Origin::Lookup { matched } => self.learn_lookup(seen, matched),
        }
        // What was said before says nothing of exits.
        if !matches!(seen.from, Origin::Lookup { .. }) {
            self.phase = self.next(seen.from, tokens as u16);
        }
    }

    fn learn_plain(&mut self, cost: f32) {
        if self.streak > COLD {
            self.plain.add(cost.min(self.plain_before), 1.0);
            self.drafted = 0;
        }
        self.plain_before = cost;
    }

    fn learn_round(&mut self, seen: &RoundSeen, tokens: u32) {
        let cost = seen.cost.min(self.most_of_round(seen.drafts));
        self.rounds.add(cost, tokens as f32);
        self.line.add(seen.drafts as f32, cost);
        if seen.drafts > 0 {
            // The first wrong draft ends a round: that many successes, and at most one failure.
            let tried = (seen.agreed + 1).min(seen.drafts);
            self.judged.add(seen.agreed as f32, tried as f32);
        }
    }

    fn learn_lookup(&mut self, seen: &RoundSeen, matched: usize) {
        for guess in 0..(seen.agreed + 1).min(seen.drafts) {
            self.lookups.judge(matched + guess as usize, guess < seen.agreed);
        }
        if self.plain.weight > 0.0 {
            let cost = seen.cost / self.plain.mean().max(f32::MIN_POSITIVE);
            self.lookups.learn(seen.drafts, seen.tokens, cost);
        }
    }

    /// Counts tokens with and without drafts.
    fn count(&mut self, from: Origin, tokens: u16) {
        if from == Origin::Nobody {
            self.streak = self.streak.saturating_add(1);
            self.refresh = self.refresh.saturating_sub(tokens);
            return;
        }
        self.streak = 0;
        self.drafted = self.drafted.saturating_add(tokens);
        if self.drafted >= REFRESH.0 {
            (self.drafted, self.refresh) = (0, REFRESH.1);
        }
    }

    fn next(&mut self, from: Origin, tokens: u16) -> Phase {
        let (gain, drafted) = (self.measured_gain(), from == Origin::Exits);
        match self.phase {
            Phase::Plain { left } => match left.saturating_sub(tokens) {
                0 => self.trial(),
                left => Phase::Plain { left },
            },
            Phase::Trial { tokens: before } if drafted => {
                let tokens = before.saturating_add(tokens);
                match tokens >= TRIAL {
                    _ if self.lost() > PATIENCE => self.off(),
                    true if gain < 1.0 => self.off(),
                    true => {
                        self.pause = PAUSE.0;
                        Phase::On
                    }
                    false => Phase::Trial { tokens },
                }
            }
            Phase::On if drafted && gain < 1.0 => self.off(),
            Phase::Off { left } => match left.saturating_sub(tokens) {
                0 => self.trial(),
                left => Phase::Off { left },
            },
            same => same,
        }
    }

    /// A guess behind a match of this length, which was not made, would have been right or wrong.
    pub fn judge(&mut self, matched: usize, is_right: bool) {
        self.lookups.judge(matched, is_right);
    }

    /// The number of guesses behind a match to verify, at most so many; 0 where exits, or no drafts at all, gain more.
    #[must_use]
    pub fn lookup_length(&self, matched: usize, most: u8, exits: u8, cost: &RoundCost) -> u8 {
        if matches!(self.phase, Phase::Plain { .. }) || self.refresh > 0 {
            return 0;
        }
        let (guesses, gain) = self.lookups.length(matched, most, cost);
        if exits > 0 && self.gain(exits, cost) > gain { 0 } else { guesses }
    }

    fn trial(&mut self) -> Phase {
        self.rounds = Fading::default();
        Phase::Trial { tokens: 0 }
    }

    fn off(&mut self) -> Phase {
        let earned_back = (self.lost() / LOSS).clamp(0.0, PAUSE.1.into()) as u16;
        let left = self.pause.max(earned_back);
        self.pause = (self.pause * 2).min(PAUSE.1);
        Phase::Off { left }
    }

    /// The number of drafts that gains most; 0 where nothing is to be drafted now.
    pub fn length(&mut self, cost: &RoundCost) -> u8 {
        if !self.is_drafting() {
            return 0;
        }
        let gain_of = |k: &u8| self.gain(*k, cost);
        let most = match self.phase {
            Phase::Trial { tokens } => {
                self.most.min(FIRST.saturating_add(tokens as u8)).min(self.most_of_trial(cost))
            }
            _ => self.most,
        };
        let best = (1..=most).max_by(|a, b| gain_of(a).total_cmp(&gain_of(b))).unwrap_or(0);
        if self.line.variance().is_some_and(|variance| variance < LEAST_VARIANCE) {
            return most.min(best + 1);
        }
        best
    }

    /// Drafts that a trial can afford, were they all wrong.
    fn most_of_trial(&self, cost: &RoundCost) -> u8 {
        let (_, draft) = self.costs(cost);
        let left = (PATIENCE - self.lost()) * self.plain.mean();
        (left / draft.max(f32::MIN_POSITIVE)).max(1.0) as u8
    }

    /// True while tokens are drafted.
    #[must_use]
    pub fn is_drafting(&self) -> bool {
        self.refresh == 0 && matches!(self.phase, Phase::Trial { .. } | Phase::On)
    }

    /// True while nothing is drafted because it does not pay.
    #[must_use]
    pub fn is_off(&self) -> bool {
        matches!(self.phase, Phase::Off { .. })
    }

    /// Chance that a draft is right.
    #[must_use]
    pub fn acceptance(&self) -> f32 {
        let right = PRIOR_TRIES * self.prior + self.judged.sum;
        (right / (PRIOR_TRIES + self.judged.weight)).clamp(0.0, 0.99)
    }

    /// Chance of being right from which a token is worth drafting: what it costs if it is wrong, against what it saves if it
    /// is right.
    #[must_use]
    pub fn least_chance(&self, cost: &RoundCost) -> f32 {
        let (round, draft) = self.costs(cost);
        (draft / round.max(f32::MIN_POSITIVE)).clamp(0.05, 0.98)
    }

    /// Tokens for the cost of one that is not drafted, as measured; 1 while nothing is known.
    #[must_use]
    pub fn measured_gain(&self) -> f32 {
        if self.rounds.weight <= 0.0 || self.plain.weight <= 0.0 {
            return 1.0;
        }
        self.plain.mean() / self.rounds.mean().max(f32::MIN_POSITIVE)
    }

    /// What rounds cost more than their tokens would have without drafts, in such tokens.
    fn lost(&self) -> f32 {
        if self.plain.weight > 0.0 {
            self.rounds.sum / self.plain.mean().max(f32::MIN_POSITIVE) - self.rounds.weight
        } else {
            0.0
        }
    }

    fn most_of_round(&self, drafts: u32) -> f32 {
        if self.plain.weight > 0.0 {
            DISTURBED * (drafts + 1) as f32 * self.plain.mean()
        } else {
            f32::INFINITY
        }
    }

    /// Tokens for the cost of one that is not drafted, by what rounds cost.
    #[must_use]
    pub fn gain(&self, drafts: u8, cost: &RoundCost) -> f32 {
        let (mut tokens, mut chance, acceptance) = (1.0, 1.0, self.acceptance());
        for _ in 0..drafts {
            chance *= acceptance;
            tokens += chance;
        }
        let (round, draft) = self.costs(cost);
        let plain = if self.plain.weight > 0.0 { self.plain.mean() } else { cost.token() };
        tokens * plain / (round + f32::from(drafts) * draft).max(f32::MIN_POSITIVE)
    }

    /// A round without drafts, and each draft: the cost model's, until rounds were seen.
    fn costs(&self, cost: &RoundCost) -> (f32, f32) {
        // The model may be of another machine: its scale is that of tokens that were seen.
        let model = cost.token();
        let scale = if self.plain.weight > 0.0 { self.plain.mean() / model } else { 1.0 };
        let mut line = self.line;
        let draft = cost.draft + cost.more.min(OPTIMISM * model);
        let weight = PRIOR_HALVED / (PRIOR_HALVED + line.weight());
        line.put(0.0, scale * model, weight);
        line.put(PRIOR_DRAFTS, scale * (model + PRIOR_DRAFTS * draft), weight);
        line.fit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exit at a quarter of the depth; a further row costs a tenth of the first.
    const COST: RoundCost = RoundCost { draft: 0.25, rest: 0.75, more: 0.075, row: 0.1 };

    /// Runs tokens on a machine where a round of `d` drafts costs `1 + slope·d`, and each draft is right with a chance; the
    /// tokens for the cost of one, and how many were drafted.
    fn run(drafting: &mut Drafting, slope: f32, chance: f32, tokens: u32) -> (f32, u32) {
        run_where(drafting, &COST, |drafts| 1.0 + slope * drafts, chance, tokens)
    }

    /// The same on a machine where rounds cost what `cost_of` says of their drafts, and a model thinks something else.
    fn run_where(
        drafting: &mut Drafting,
        model: &RoundCost,
        cost_of: impl Fn(f32) -> f32,
        chance: f32,
        tokens: u32,
    ) -> (f32, u32) {
        let (mut cost, mut made, mut drafted, mut random) = (0.0, 0, 0, 12345_u32);
        while made < tokens {
            let length = u32::from(drafting.length(model));
            let mut agreed = 0;
            for _ in 0..length {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if (random >> 8) as f32 / (1 << 24) as f32 >= chance {
                    break;
                }
                agreed += 1;
            }
            let of_round = cost_of(length as f32);
            let seen = RoundSeen {
                from: if length > 0 { Origin::Exits } else { Origin::Nobody },
                drafts: length,
                agreed,
                tokens: agreed + 1,
                cost: of_round,
            };
            drafting.learn(&seen);
            (cost, made) = (cost + of_round, made + agreed + 1);
            drafted += length;
        }
        (made as f32 / cost, drafted)
    }

    #[test]
    fn the_gain_is_that_of_the_formula() {
        // α = 0.8, k = 4: (1 − 0.8⁵)/0.2 = 3.3616 tokens for 5·0.25 + 0.75 + 0.3 = 2.3.
        let drafting = Drafting::new(8, 0.8);
        let gain = drafting.gain(4, &COST);
        assert!((gain - 3.3616 / 2.3).abs() < 1e-3, "{gain}");
        assert!((drafting.gain(0, &COST) - 1.0).abs() < 1e-3, "no drafts, no gain");
    }

    #[test]
    fn good_drafts_are_long_and_doubtful_ones_short() {
        for (chance, lengths) in [(0.97, 5..=8), (0.6, 1..=3)] {
            let mut drafting = Drafting::new(8, 0.7);
            run(&mut drafting, 0.325, chance, 300);
            while drafting.length(&COST) == 0 {
                run(&mut drafting, 0.325, chance, 1);
            }
            let length = drafting.length(&COST);
            assert!(lengths.contains(&length), "{length} drafts of a chance of {chance}");
        }
    }

    #[test]
    fn what_rounds_cost_is_learned_where_the_model_is_wrong() {
        // A draft costs twice what the model thinks.
        let mut drafting = Drafting::new(8, 0.7);
        run(&mut drafting, 0.65, 0.97, 300);
        let (round, draft) = drafting.costs(&COST);
        assert!((round - 1.0).abs() < 0.1 && (draft - 0.65).abs() < 0.05, "{round} {draft}");
        let least = drafting.least_chance(&COST);
        assert!((least - 0.65).abs() < 0.1, "worth it where more likely right: {least}");
    }

    #[test]
    fn a_model_that_sees_no_gain_does_not_keep_drafts_from_being_tried() {
        let sees_none = RoundCost { draft: 0.25, rest: 0.75, more: 0.75, row: 1.0 };
        let mut drafting = Drafting::new(8, 0.7);
        drafting.learn(&RoundSeen {
            from: Origin::Nobody,
            drafts: 0,
            agreed: 0,
            tokens: 1,
            cost: 1.0,
        });
        while !drafting.is_drafting() {
            run(&mut drafting, 0.5, 0.9, 1);
        }
        let (length, least) = (drafting.length(&sees_none), drafting.least_chance(&sees_none));
        assert!(length >= 1 && least < 0.7, "{length} drafts, each right with {least} at least");
    }

    #[test]
    fn longer_rounds_are_tried_where_a_first_draft_does_not_pay() {
        // A first draft costs 0.8 of a token and each further one 0.45; the model thinks that the first is no dearer.
        let model = RoundCost { draft: 0.43, rest: 0.57, more: 0.8, row: 1.0 };
        let cost_of = |drafts| if drafts > 0.0 { 1.35 + 0.45 * drafts } else { 1.0 };
        let mut drafting = Drafting::new(4, 0.7);
        let (gain, _) = run_where(&mut drafting, &model, cost_of, 0.85, 1000);
        assert!(gain > 1.1, "{gain}: one draft brings 1.85 tokens for 1.8, three 3.19 for 2.7");
    }

    #[test]
    fn drafts_that_do_not_pay_are_off_within_32_tokens_and_cost_two_percent_at_most() {
        for (slope, chance) in [(0.325, 0.0), (0.6, 0.3), (1.1, 0.9), (0.5, 0.1), (0.95, 0.8)] {
            let mut drafting = Drafting::new(8, 0.7);
            run(&mut drafting, slope, chance, 32);
            assert!(matches!(drafting.phase, Phase::Off { .. }), "{slope} {chance}: {drafting:?}");
            let mut drafting = Drafting::new(8, 0.7);
            let (gain, _) = run(&mut drafting, slope, chance, 512);
            assert!(gain > 0.98, "{slope} {chance}: {gain}");
        }
    }

    #[test]
    fn drafts_cost_two_percent_at_most_whatever_they_are_worth() {
        for slope in (3..=14).map(|tenths| tenths as f32 / 10.0) {
            for chance in (0..=19).map(|step| step as f32 / 20.0) {
                let mut drafting = Drafting::new(8, 0.7);
                let (gain, _) = run(&mut drafting, slope, chance, 512);
                assert!(gain > 0.98, "{slope} {chance}: {gain}");
            }
        }
    }

    #[test]
    fn drafts_that_pay_are_used_and_found_again_after_a_pause() {
        let mut drafting = Drafting::new(8, 0.7);
        let (gain, _) = run(&mut drafting, 0.325, 0.0, 100);
        assert!(gain < 1.0 && drafting.length(&COST) == 0, "off");
        let (gain, drafted) = run(&mut drafting, 0.325, 0.95, 2000);
        assert!(gain > 1.4 && drafted > 1000, "{gain}, {drafted} drafts");
    }
}
