//! What is said of a configuration beforehand.

use dynamax_governor::{
    Exits, Goal, GovernorConfig, Metering, Microjoules, Microseconds, Outlook, Verdict,
};

use crate::setup::{budget, calibration, governor};

/// What a configuration comes to, and what is said of it.
fn outlook(config: GovernorConfig) -> (Outlook, String) {
    let outlook = governor(config, Metering::Modelled).outlook(512);
    (outlook, outlook.to_string())
}

#[test]
fn the_outlook_says_what_a_budget_affords() {
    let (ample, text) = outlook(budget(600));
    assert_eq!(ample.verdict, Verdict::FullDepth, "{text}");
    assert_eq!(ample.full, (Microseconds(44_000), Microjoules(440_000)), "{text}");
    assert!(
        text.contains("44.0 ms and 440 mJ at full depth, 14.0 ms and 140 mJ at the first exit"),
        "{text}"
    );
    let (kept, text) = outlook(budget(350));
    assert_eq!(kept.verdict, Verdict::EarlyExits, "{text}");
    assert!(kept.energy.0.abs_diff(350_000) < 500 && kept.agreement.0 > 0.8, "{text}");
    assert!(text.contains("of the depth for 350 mJ in the mean"), "{text}");
}

#[test]
fn the_outlook_says_what_cannot_be_had_and_the_least_that_can() {
    let strict = GovernorConfig { min_agreement: 0.99, ..budget(200) };
    let (loses, text) = outlook(strict);
    assert_eq!(loses.verdict, Verdict::GivesWay(Goal::Agreement), "{text}");
    // The floor is reached between the second and the third level.
    let floor = calibration().most_lenient(0.99, 1.0);
    assert!((2.0..3.0).contains(&floor) && loses.least_for_floor > Microjoules(350_000), "{text}");
    let least = GovernorConfig {
        energy_per_token: Some(Microjoules(loses.least_for_floor.0 + 1000)),
        ..strict
    };
    assert_eq!(
        outlook(least).0.verdict,
        Verdict::EarlyExits,
        "the least budget that it names is enough"
    );
    let order = [Goal::Energy, Goal::Latency, Goal::Agreement];
    let (spends, text) = outlook(GovernorConfig { sacrifice: order, ..strict });
    assert_eq!(spends.verdict, Verdict::GivesWay(Goal::Energy), "{text}");
    assert_eq!(spends.energy, spends.least_for_floor, "{text}");
    let (none, text) = outlook(budget(100));
    assert_eq!(none.verdict, Verdict::OutOfReach(Goal::Energy), "{text}");
    assert!(text.contains("even the first exit takes 140 mJ"), "{text}");
}

#[test]
fn the_outlook_says_what_a_deadline_allows() {
    let timed = |ms: u64, config: GovernorConfig| {
        outlook(GovernorConfig { latency_per_token: Some(Microseconds(ms * 1000)), ..config })
    };
    let loose = GovernorConfig { min_agreement: 0.7, ..GovernorConfig::default() };
    let (kept, text) = timed(40, loose);
    assert_eq!((kept.verdict, kept.deepest), (Verdict::EarlyExits, (2, 4)), "{text}");
    assert!(text.contains("The deadline of 40.0 ms allows 3 of 4 segments."), "{text}");
    let (waits, text) = timed(40, GovernorConfig { rows_that_may_wait: 8, ..loose });
    assert_eq!(waits.catches_up, Some(false), "{text}");
    assert!(text.contains("never be caught up in time"), "{text}");
    let (none, text) = timed(10, loose);
    assert_eq!(none.verdict, Verdict::OutOfReach(Goal::Latency), "{text}");
    let strict = GovernorConfig { min_agreement: 0.95, ..GovernorConfig::default() };
    assert_eq!(
        timed(40, strict).0.verdict,
        Verdict::GivesWay(Goal::Agreement),
        "the default order"
    );
    let order = [Goal::Latency, Goal::Energy, Goal::Agreement];
    let (late, text) = timed(40, GovernorConfig { sacrifice: order, ..strict });
    assert_eq!(late.verdict, Verdict::GivesWay(Goal::Latency), "{text}");
}

#[test]
fn the_outlook_of_drafts_is_that_of_full_depth() {
    let drafts = |config: GovernorConfig| {
        outlook(GovernorConfig { exits: Exits::Drafts { most: 4 }, ..config })
    };
    let (kept, text) = drafts(budget(500));
    assert_eq!((kept.verdict, kept.agreement), (Verdict::FullDepth, (1.0, 1.0)), "{text}");
    let (dear, text) = drafts(budget(300));
    assert_eq!(dear.verdict, Verdict::GivesWay(Goal::Energy), "{text}");
    assert!(text.contains("Energy gives way: 100.0 % agreement takes 440 mJ"), "{text}");
    let latency_per_token = Some(Microseconds(30_000));
    let (late, text) = drafts(GovernorConfig { latency_per_token, ..GovernorConfig::default() });
    assert_eq!(late.verdict, Verdict::GivesWay(Goal::Latency), "{text}");
}
