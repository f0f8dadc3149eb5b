//! Exits as drafts.

use dynamax_governor::{
    Decision, Events, Exits, GovernorConfig, Metering, Microseconds, Revealed, Sample,
};

use crate::setup::governor;

/// Runs rounds of which so many drafts are right; of the last decisions the one for most drafts, as now and then some tokens
/// are made without.
fn after_rounds(config: GovernorConfig, right: u16) -> Decision {
    let config = GovernorConfig { exits: Exits::Drafts { most: 8 }, ..config };
    let mut governor = governor(config, Metering::Modelled);
    let mut last = Vec::new();
    for token in 0..200 {
        let decision = governor.decide(token);
        last.push(decision);
        let of = u16::from(decision.draft_length);
        let agreed = right.min(of);
        // Drafts leave behind the first segment; then all run through three more together.
        let k = u32::from(of);
        let heads = (k + 1) * 4000 + k * 400;
        let us = (k + 1) * 10_000 + 3 * (10_000 + k * 1000) + heads;
        let exit = if of > 0 { 0 } else { 3 };
        let sample = Sample { tokens: agreed as u8 + 1, ..Sample::new(exit, us) };
        governor.observe(Sample { revealed: Some(Revealed { agreed, of }), ..sample });
    }
    let (time, _) = governor.full_depth_costs(0);
    assert!((43_000..45_000).contains(&time.0), "rounds cost what the model says: {time}");
    last.into_iter().skip(195).max_by_key(|decision| decision.draft_length).expect("decided")
}

#[test]
fn drafts_are_used_while_they_pay_and_switched_off_when_not() {
    assert!(after_rounds(GovernorConfig::default(), 8).draft_length >= 3, "always right");
    assert_eq!(after_rounds(GovernorConfig::default(), 0).draft_length, 0, "always wrong");
}

#[test]
fn a_round_of_drafts_is_as_long_as_the_deadline_allows_and_verified_whatever_it_says() {
    let timed = |ms: u64| {
        let latency_per_token = Some(Microseconds(ms * 1000));
        after_rounds(GovernorConfig { latency_per_token, ..GovernorConfig::default() }, 8)
    };
    let (free, short, late) = (timed(1000), timed(90), timed(30));
    assert!(
        (1..free.draft_length).contains(&short.draft_length),
        "{} of {}",
        short.draft_length,
        free.draft_length
    );
    assert_eq!(
        (late.draft_length, late.last_segment),
        (0, 3),
        "full depth, because an answer must be right"
    );
    assert!(late.events.contains(Events::LATENCY_GIVES_WAY), "and that is said");
}

/// Tokens for the time of one without drafts, on text that has been said before in the same words so that a guess is right with a
/// chance, where a further row takes so many shares of a token; and how many were guessed.
fn with_lookups(row: f32, chance: f32, tokens: u32) -> (f32, u32) {
    let config = GovernorConfig { exits: Exits::Drafts { most: 8 }, ..GovernorConfig::default() };
    let mut governor = governor(config, Metering::Modelled);
    let (mut made, mut took, mut guessed, mut random) = (0, 0.0, 0, 12_345_u32);
    let mut is_right = || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((random >> 8) as f32 / (1 << 24) as f32) < chance
    };
    let mut matched = 1;
    while made < tokens {
        let decision = governor.decide(made);
        let guesses = governor.lookup_length(matched);
        let from_exits = u16::from(decision.draft_length) * u16::from(guesses == 0);
        // Exits are always wrong here.
        let of = from_exits.max(guesses.into());
        let agreed = (0..guesses).take_while(|_| is_right()).count() as u16;
        let us = 44_000.0 * (1.0 + row * f32::from(of));
        let sample = Sample {
            tokens: agreed as u8 + 1,
            revealed: Some(Revealed { agreed, of }),
            matched: if guesses > 0 { matched as u8 } else { 0 },
            ..Sample::new(3, us as u32)
        };
        governor.observe(sample);
        if guesses == 0 {
            governor.judge_lookup(matched, is_right());
        }
        matched = if agreed == guesses.into() { matched + usize::from(guesses) } else { 1 };
        (made, took) = (made + u32::from(agreed) + 1, took + us);
        guessed += u32::from(guesses);
    }
    (made as f32 * 44_000.0 / took, guessed)
}

#[test]
fn what_was_said_before_is_drafted_where_that_pays() {
    let (gain, guessed) = with_lookups(0.3, 0.9, 2000);
    assert!(gain > 1.7 && guessed > 1000, "{gain} with {guessed} guesses");
    let (gain, guessed) = with_lookups(0.4, 0.7, 2000);
    assert!(gain > 1.1 && guessed > 300, "{gain} with {guessed} guesses");
}

#[test]
fn guesses_cost_two_percent_at_most_whatever_they_are_worth() {
    for row in (1..=14).map(|tenths| tenths as f32 / 10.0) {
        for chance in (0..=19).map(|step| step as f32 / 20.0) {
            let (gain, guessed) = with_lookups(row, chance, 512);
            assert!(gain > 0.98, "{row} {chance}: {gain} with {guessed} guesses");
        }
    }
}
