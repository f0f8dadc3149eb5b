//! Exits as drafts.

use dynamax_governor::{
    Decision, Events, Exits, GovernorConfig, Metering, Microseconds, Revealed, Sample,
};

use crate::setup::governor;

/// Runs rounds of which so many drafts are right; the last decision.
fn after_rounds(config: GovernorConfig, right: u16) -> Decision {
    let config = GovernorConfig { exits: Exits::Drafts { most: 8 }, ..config };
    let mut governor = governor(config, Metering::Modelled);
    for token in 0..200 {
        let decision = governor.decide(token);
        let of = u16::from(decision.draft_length);
        let agreed = right.min(of);
        // Drafts leave behind the first segment; then all run through three more together.
        let k = u32::from(of);
        let us = (k + 1) * 10_000 + 3 * (10_000 + k * 1000) + (2 * k + 1) * 4000;
        let exit = if of > 0 { 0 } else { 3 };
        let sample = Sample { tokens: agreed as u8 + 1, ..Sample::new(exit, us) };
        governor.observe(Sample { revealed: Some(Revealed { agreed, of }), ..sample });
    }
    let (time, _) = governor.full_depth_costs(0);
    assert!((43_000..45_000).contains(&time.0), "rounds cost what the model says: {time}");
    governor.decide(0)
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
