//! Turns logits into a token: greedy, or at random with the usual filters. Same seed, same tokens, on every machine.
//!
//! In the order of `transformers`: repetition penalty, temperature, top-k, top-p, min-p, then a draw.

use dynamax_kernels::math::exp;

use crate::arena::{Line, candidate_views};

/// How a token is chosen. The default is greedy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the largest.
    pub temperature: f32,
    /// Keeps this many of the largest; 0 keeps all.
    pub top_k: u32,
    /// Keeps the fewest of the largest whose probabilities reach this sum; 1 keeps all.
    pub top_p: f32,
    /// Drops what is less probable than this fraction of the largest; 0 drops none.
    pub min_p: f32,
    /// Divides positive, multiplies negative logits of tokens seen (Keskar et al. 2019, section 4.1); 1 does nothing.
    pub repetition_penalty: f32,
    /// Start of the random sequence.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
        }
    }
}

impl Sampling {
    /// Names the first setting that is out of range, with what it should be.
    ///
    /// # Errors
    ///
    /// The name of the field and its range.
    pub fn validate(&self) -> Result<(), (&'static str, &'static str)> {
        let fraction = 0.0..=1.0;
        if !self.temperature.is_finite() || self.temperature < 0.0 {
            return Err(("temperature", "0 or more"));
        }
        if !fraction.contains(&self.top_p) || self.top_p == 0.0 {
            return Err(("top_p", "more than 0, at most 1"));
        }
        if !fraction.contains(&self.min_p) {
            return Err(("min_p", "0 to 1"));
        }
        if !self.repetition_penalty.is_finite() || self.repetition_penalty <= 0.0 {
            return Err(("repetition_penalty", "more than 0"));
        }
        Ok(())
    }
}

/// A token that may be chosen.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Candidate {
    logit: f32,
    token: u32,
}

impl Candidate {
    /// Smaller for a larger logit ([`f32::total_cmp`]), then for a smaller token. One number compares without a branch, which is
    /// what sorting spends its time on.
    fn rank(&self) -> u64 {
        let bits = self.logit.to_bits();
        // Negative numbers have their bits turned, others their sign: then they are in order.
        let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
        u64::from(!ascending) << 32 | u64::from(self.token)
    }
}

/// Bytes that a sampler needs for a vocabulary: a candidate and a "seen" byte for each id.
#[must_use]
pub fn storage_bytes(vocab_size: u32) -> u64 {
    let bytes = u64::from(vocab_size) * (size_of::<Candidate>() as u64 + 1);
    bytes.next_multiple_of(Line::BYTES as u64)
}

/// A "seen" byte of a token that was drafted and not seen otherwise.
const DRAFTED: u8 = 2;

/// Chooses tokens; remembers which it has seen, and where it is in the random sequence.
#[derive(Debug)]
pub struct Sampler<'s> {
    sampling: Sampling,
    random: SplitMix64,
    candidates: &'s mut [Candidate],
    seen: &'s mut [u8],
}

impl<'s> Sampler<'s> {
    /// A sampler over `vocab_size` ids.
    ///
    /// # Panics
    ///
    /// Panics if `memory` has fewer than [`storage_bytes`].
    #[must_use]
    pub fn new(sampling: Sampling, vocab_size: u32, memory: &'s mut [Line]) -> Self {
        let (candidates, seen) = candidate_views(memory, vocab_size as usize);
        seen.fill(0);
        Self { sampling, random: SplitMix64(sampling.seed), candidates, seen }
    }

    /// Remembers tokens, for the repetition penalty.
    pub fn see(&mut self, tokens: &[u32]) {
        for token in tokens {
            if let Some(seen) = self.seen.get_mut(*token as usize) {
                *seen = 1;
            }
        }
    }

    /// True where the choice is the first of the largest logits, whatever was seen: whoever knows it need not show the rest.
    #[must_use]
    pub fn takes_the_largest(&self) -> bool {
        let is_one = self.sampling.repetition_penalty.to_bits() == 1.0_f32.to_bits();
        self.sampling.temperature == 0.0 && is_one
    }

    /// Chooses a token and remembers it.
    ///
    /// # Panics
    ///
    /// Panics if `logits` is empty or longer than the vocabulary.
    pub fn choose(&mut self, logits: &[f32]) -> u32 {
        let mut random = self.random;
        let token = self.pick(logits, &mut random);
        self.random = random;
        self.see(&[token]);
        token
    }

    /// The token that [`Self::choose`] would choose behind some drafts, if they turned out right. Remembers nothing.
    ///
    /// It draws the same random number as the choice will: where logits are close to those of the last layer, so is what
    /// is drawn from them.
    ///
    /// # Panics
    ///
    /// As [`Self::choose`].
    pub fn draft(&mut self, logits: &[f32], drafts: &[u32]) -> u32 {
        let mut random = self.random;
        if self.sampling.temperature > 0.0 {
            random.skip(drafts.len() as u64);
        }
        for draft in drafts {
            if let Some(seen @ 0) = self.seen.get_mut(*draft as usize) {
                *seen = DRAFTED;
            }
        }
        let token = self.pick(logits, &mut random);
        for draft in drafts {
            if let Some(seen @ &mut DRAFTED) = self.seen.get_mut(*draft as usize) {
                *seen = 0;
            }
        }
        token
    }

    fn pick(&mut self, logits: &[f32], random: &mut SplitMix64) -> u32 {
        assert!(
            !logits.is_empty() && logits.len() <= self.candidates.len(),
            "logits of the vocabulary"
        );
        // Neither filters nor penalties change which logit is the largest: no list is needed.
        if self.takes_the_largest() {
            return largest(logits.iter().copied());
        }
        let kept = self.list(logits);
        if self.sampling.temperature == 0.0 {
            largest(self.candidates[..kept].iter().map(|candidate| candidate.logit))
        } else {
            self.draw(kept, random)
        }
    }

    /// Lists all candidates with penalised logits.
    fn list(&mut self, logits: &[f32]) -> usize {
        let penalty = self.sampling.repetition_penalty;
        for (token, logit) in logits.iter().enumerate() {
            let seen = self.seen[token] != 0;
            let penalised = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            let logit = if seen { penalised } else { *logit };
            self.candidates[token] = Candidate { logit, token: token as u32 };
        }
        logits.len()
    }

    /// Filters, then draws.
    fn draw(&mut self, listed: usize, random: &mut SplitMix64) -> u32 {
        let Sampling { temperature, top_k, top_p, min_p, .. } = self.sampling;
        let candidates = &mut self.candidates[..listed];
        let kept = if top_k == 0 { listed } else { listed.min(top_k as usize) };
        if kept < listed {
            candidates.select_nth_unstable_by_key(kept, Candidate::rank);
        }
        let candidates = &mut candidates[..kept];
        // All that are kept are sorted: their weights are summed in this order, and another would round otherwise.
        candidates.sort_unstable_by_key(Candidate::rank);
        let max = candidates[0].logit;
        for candidate in candidates.iter_mut() {
            candidate.logit = exp((candidate.logit - max) / temperature);
        }
        // From here on `logit` is a weight: the probability but for a common factor.
        let candidates = within_top_p(candidates, top_p);
        let kept = candidates.iter().take_while(|candidate| candidate.logit >= min_p).count();
        let candidates = &candidates[..kept.max(1)];
        let total: f32 = candidates.iter().map(|candidate| candidate.logit).sum();
        let mut rest = random.unit() * total;
        for candidate in candidates {
            rest -= candidate.logit;
            if rest < 0.0 {
                return candidate.token;
            }
        }
        candidates[candidates.len() - 1].token
    }
}

/// The fewest candidates whose share of all weights reaches `top_p`.
fn within_top_p(candidates: &[Candidate], top_p: f32) -> &[Candidate] {
    if top_p >= 1.0 {
        return candidates;
    }
    let total: f32 = candidates.iter().map(|candidate| candidate.logit).sum();
    let mut sum = 0.0;
    let reached = candidates.iter().position(|candidate| {
        sum += candidate.logit;
        sum >= top_p * total
    });
    &candidates[..reached.map_or(candidates.len(), |last| last + 1)]
}

/// The token of the largest logit; the first of equals.
fn largest(logits: impl Iterator<Item = f32>) -> u32 {
    let (mut best, mut token) = (f32::NEG_INFINITY, 0);
    for (index, logit) in (0..).zip(logits) {
        if logit > best {
            (best, token) = (logit, index);
        }
    }
    token
}

/// Steele, Lea & Flood 2014: a counter and a mixer; small, and the same everywhere.
#[derive(Clone, Copy, Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

    /// Leaves out so many numbers.
    fn skip(&mut self, numbers: u64) {
        self.0 = self.0.wrapping_add(Self::STEP.wrapping_mul(numbers));
    }

    fn next(&mut self) -> u64 {
        self.skip(1);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `[0, 1)`, a multiple of 2⁻²⁴.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u32 << 24) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [0.0, 2.0, 1.0, 2.0, -1.0];

    fn counts(sampling: Sampling, draws: usize) -> [usize; 5] {
        let mut memory = [Line::ZERO; 4];
        let mut sampler = Sampler::new(sampling, 5, &mut memory);
        let mut counts = [0; 5];
        for _ in 0..draws {
            counts[sampler.choose(&LOGITS) as usize] += 1;
        }
        counts
    }

    #[test]
    fn a_draft_is_what_will_be_chosen_if_the_drafts_before_it_are_right() {
        let sampling =
            Sampling { temperature: 1.0, repetition_penalty: 1.5, seed: 3, ..Sampling::default() };
        let rows = [LOGITS, [1.0, 0.5, 0.2, 0.1, 1.5], LOGITS, [0.0, 0.0, 0.0, 0.1, 0.0]];
        for seed in 0..200 {
            let sampling = Sampling { seed, ..sampling };
            let (mut memory, mut other) = ([Line::ZERO; 4], [Line::ZERO; 4]);
            let mut sampler = Sampler::new(sampling, 5, &mut memory);
            let mut plain = Sampler::new(sampling, 5, &mut other);
            let mut drafts = [0; 4];
            for at in 0..4 {
                drafts[at] = sampler.draft(&rows[at], &drafts[..at]);
            }
            let chosen = rows.map(|logits| plain.choose(&logits));
            assert_eq!(drafts, chosen, "seed {seed}");
            assert_eq!(
                rows.map(|logits| sampler.choose(&logits)),
                chosen,
                "nothing was remembered"
            );
        }
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        assert_eq!(counts(Sampling::default(), 3), [0, 3, 0, 0, 0], "token 1 comes before token 3");
    }

    #[test]
    fn draws_follow_the_softmax() {
        let n = 20_000;
        let counts = counts(Sampling { temperature: 1.0, seed: 7, ..Sampling::default() }, n);
        let total: f64 = LOGITS.iter().map(|logit| f64::from(*logit).exp()).sum();
        for (count, logit) in counts.iter().zip(LOGITS) {
            let p = f64::from(logit).exp() / total;
            let sigma = (p * (1.0 - p) / n as f64).sqrt();
            let share = *count as f64 / n as f64;
            assert!((share - p).abs() < 5.0 * sigma, "{share} of the draws, {p} expected");
        }
    }

    #[test]
    fn ranks_are_in_order_of_logits_then_tokens() {
        let logits = [f32::INFINITY, 3.5, 1e-40, 0.0, -0.0, -1e-40, -2.0, f32::NEG_INFINITY];
        let mut candidates: [Candidate; 16] = core::array::from_fn(|i| Candidate {
            logit: logits[i * 5 % 8],
            token: (i * 7 % 16) as u32,
        });
        candidates.sort_unstable_by_key(Candidate::rank);
        for (index, pair) in candidates.windows(2).enumerate() {
            let (a, b) = (pair[0], pair[1]);
            let order = b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token));
            assert!(order.is_lt(), "{a:?} before {b:?}");
            assert_eq!(a.logit.to_bits(), logits[index / 2].to_bits(), "the largest first");
        }
    }

    #[test]
    fn the_kept_are_those_of_a_whole_list() {
        let logits: Vec<f32> = (0..1000_u32).map(|i| (i * 7919 % 613) as f32 * 0.01).collect();
        let sampling = Sampling { temperature: 1.5, ..Sampling::default() };
        for top_k in [1, 2, 40, 999, 1000, 2000] {
            for seed in 0..50 {
                let cut = Sampling { top_k, seed, ..sampling };
                let mut sorted: Vec<u32> = (0..1000).collect();
                sorted.sort_by(|a, b| {
                    logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b))
                });
                // The same where nothing else is listed: −∞ weighs nothing.
                let mut masked = vec![f32::NEG_INFINITY; 1000];
                for token in sorted.iter().take(top_k as usize) {
                    masked[*token as usize] = logits[*token as usize];
                }
                let mut memory = vec![Line::ZERO; storage_bytes(1000) as usize / Line::BYTES];
                let kept = Sampler::new(cut, 1000, &mut memory).choose(&logits);
                let whole = Sampling { seed, ..sampling };
                let want = Sampler::new(whole, 1000, &mut memory).choose(&masked);
                assert_eq!(kept, want, "top {top_k}, seed {seed}");
            }
        }
    }

    #[test]
    fn filters_drop_the_improbable() {
        let hot = Sampling { temperature: 1.0, seed: 3, ..Sampling::default() };
        let kept = |sampling| counts(sampling, 500).map(|count| count > 0);
        assert_eq!(
            kept(Sampling { top_k: 2, ..hot }),
            [false, true, false, true, false],
            "two largest"
        );
        // Weights 1, 1, e⁻¹, e⁻², e⁻³ (sum 2.553): the first three hold 0.93 of it.
        assert_eq!(
            kept(Sampling { top_p: 0.9, ..hot }),
            [false, true, true, true, false],
            "0.9 of the mass"
        );
        assert_eq!(
            kept(Sampling { min_p: 0.3, ..hot }),
            [false, true, true, true, false],
            "e⁻¹ is above 0.3"
        );
    }

    #[test]
    fn a_penalty_makes_greedy_move_on() {
        let mut memory = [Line::ZERO; 4];
        let sampling = Sampling { repetition_penalty: 4.0, ..Sampling::default() };
        let mut sampler = Sampler::new(sampling, 5, &mut memory);
        let chosen: [u32; 4] = core::array::from_fn(|_| sampler.choose(&LOGITS));
        assert_eq!(chosen, [1, 3, 2, 1], "seen logits 2 become 0.5, then 1 becomes 0.25");
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let bad = Sampling { top_p: 0.0, ..Sampling::default() };
        assert_eq!(bad.validate().map_err(|(name, _)| name), Err("top_p"), "zero keeps nothing");
        let bad = Sampling { temperature: f32::NAN, ..Sampling::default() };
        assert_eq!(bad.validate().map_err(|(name, _)| name), Err("temperature"), "NaN");
    }
}
