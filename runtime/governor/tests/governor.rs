//! What holds for every governor, whatever it is asked and whatever it sees.
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use dynamax_governor::{
    CONTEXT_BUCKETS, Calibration, Cost, CostModel, Decision, Events, Exits, Goal, Governor,
    GovernorConfig, Level, MAX_SEGMENTS, MeterState, Metering, Microjoules, Microseconds, Mode,
    OnMeterFault, Outlook, Revealed, Sample, SegmentCost, Verdict,
};
use proptest::prelude::{ProptestConfig, any, prop, prop_assert, proptest};

const SEGMENTS: usize = 4;

/// Four segments of 10 ms and 100 mJ, a head of 4 ms and 40 mJ: 44 ms and 440 mJ in all.
fn model() -> CostModel {
    let first = Cost { us: 10_000.0, uj: 100_000.0 };
    let segment = SegmentCost {
        first_row: [first; CONTEXT_BUCKETS],
        more_row: Cost { us: 1000.0, uj: 10_000.0 },
        probe: Cost::default(),
    };
    CostModel::new(&[segment; SEGMENTS], Cost { us: 4000.0, uj: 40_000.0 }).unwrap()
}

fn calibration() -> Calibration {
    let levels: Vec<Level> = (1..=10_u16)
        .map(|step| {
            let share = f32::from(step) / 10.0;
            let mut exits = [0.0; MAX_SEGMENTS];
            (exits[0], exits[1], exits[2]) = (0.4 * share, 0.3 * share, 0.2 * share);
            exits[3] = 1.0 - 0.9 * share;
            Level {
                threshold: 1.0 - 0.09 * f32::from(step),
                agreement: 1.0 - 0.2 * share * share,
                exits,
            }
        })
        .collect();
    Calibration::new(&levels, &[0.6, 0.8, 0.9, 1.0]).unwrap()
}

fn governor(config: GovernorConfig, metering: Metering) -> Governor {
    Governor::new(config, model(), calibration(), metering).unwrap()
}

fn budget(energy_mj: u64) -> GovernorConfig {
    GovernorConfig {
        energy_per_token: Some(Microjoules(energy_mj * 1000)),
        min_agreement: 0.8,
        ..Default::default()
    }
}

/// Where a token of this difficulty leaves, its time and its energy, on a board that costs what the model says.
fn decode(decision: &Decision, scores: [f32; SEGMENTS], factor: f32) -> Sample {
    let (mut us, mut exit) = (0.0, SEGMENTS - 1);
    for (segment, score) in scores.iter().enumerate().take(SEGMENTS - 1) {
        us += 10_000.0 * factor;
        if decision.leaves_behind(segment, *score, us as u32) {
            exit = segment;
            break;
        }
    }
    let us = (10_000.0 * (exit + 1) as f32 + 4000.0) * factor;
    let energy = Some(Microjoules((us * 10.0) as u64));
    Sample { energy, ..Sample::new(exit as u8, us as u32) }
}

/// Scores that rise with depth, as much as luck has it.
fn scores(luck: u32) -> [f32; SEGMENTS] {
    let unit = (luck.wrapping_mul(2_654_435_769) >> 8) as f32 / (1 << 24) as f32;
    [0.2, 0.4, 0.6, 1.0].map(|base: f32| (base + 0.5 * unit).min(1.0))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_window_is_over_a_budget_that_can_be_paid(
        energy_mj in 150_u64..440, window in 8_usize..128, seed in any::<u32>()
    ) {
        let config = GovernorConfig { window, ..budget(energy_mj) };
        let mut governor = governor(config, Metering::Measured);
        let mut spent = Vec::new();
        for token in 0..600_u32 {
            let decision = governor.decide(token);
            let sample = decode(&decision, scores(seed.wrapping_add(token)), 1.0);
            spent.push(sample.energy.unwrap().0);
            governor.observe(sample);
        }
        for last in spent.windows(window) {
            let mean = last.iter().sum::<u64>() as f64 / window as f64 / 1000.0;
            prop_assert!(mean <= energy_mj as f64 * 1.01, "{mean} of {energy_mj} mJ");
        }
    }

    #[test]
    fn no_token_is_late_on_a_board_that_keeps_its_word(
        latency_ms in 14_u64..60, energy_mj in prop::option::of(100_u64..500), seed in any::<u32>()
    ) {
        let config = GovernorConfig {
            energy_per_token: energy_mj.map(|mj| Microjoules(mj * 1000)),
            latency_per_token: Some(Microseconds(latency_ms * 1000)),
            min_agreement: 0.5,
            ..Default::default()
        };
        let mut governor = governor(config, Metering::Measured);
        for token in 0..200_u32 {
            let decision = governor.decide(token);
            let sample = decode(&decision, scores(seed.wrapping_add(token)), 1.0);
            prop_assert!(u64::from(sample.elapsed_us) <= latency_ms * 1000, "{sample:?} {decision:?}");
            governor.observe(sample);
        }
    }

    #[test]
    fn a_fault_is_left_when_the_meter_is_back_whatever_happened(
        seed in any::<u32>(), stop in any::<bool>(), broken in 4_u32..50
    ) {
        let on_meter_fault = if stop { OnMeterFault::Stop } else { OnMeterFault::Continue };
        let mut governor = governor(GovernorConfig { on_meter_fault, ..budget(300) }, Metering::Measured);
        for token in 0..broken {
            let decision = governor.decide(token);
            let sample = decode(&decision, scores(seed.wrapping_add(token)), 1.0);
            governor.observe(Sample { energy: None, ..sample });
        }
        prop_assert!(governor.mode().is_fault(), "{:?}", governor.mode());
        prop_assert!(governor.decide(0).stop == stop, "stops if it was told to");
        for token in 0..4 {
            let decision = governor.decide(token);
            governor.observe(decode(&decision, scores(seed), 1.0));
        }
        prop_assert!(!governor.mode().is_fault() && !governor.decide(0).stop, "{:?}", governor.mode());
    }

    #[test]
    fn nonsense_is_survived(
        samples in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u16>(), any::<u32>(), any::<Option<u64>>(),
            any::<Option<(u16, u16)>>()), 1..100),
        rows in 0_u16..32
    ) {
        let config = GovernorConfig {
            latency_per_token: Some(Microseconds(50_000)), rows_that_may_wait: rows, ..budget(300)
        };
        let mut governor = governor(config, Metering::Measured);
        for (tokens, exit_segment, catch_up_rows, elapsed_us, energy, revealed) in samples {
            let decision = governor.decide(elapsed_us);
            prop_assert!(decision.threshold.is_finite() && usize::from(decision.last_segment) < SEGMENTS, "{decision:?}");
            governor.observe(Sample {
                tokens, exit_segment, catch_up_rows, elapsed_us,
                energy: energy.map(Microjoules),
                revealed: revealed.map(|(agreed, of)| Revealed { agreed, of }),
            });
        }
        // And after it, the board as it is.
        for token in 0..2500_u32 {
            let decision = governor.decide(token);
            let sample = decode(&decision, scores(token), 1.0);
            governor.observe(sample);
        }
        governor.begin_sequence();
        let (time, _) = governor.full_depth_costs(0);
        prop_assert!((30_000..60_000).contains(&time.0), "{time}");
    }
}

/// Runs tokens on a board that costs `factor` of what the model says; the mean energy of the last half, in millijoules.
fn mean_mj(governor: &mut Governor, tokens: u32, factor: f32) -> f64 {
    let mut sum = 0.0;
    for token in 0..tokens {
        let decision = governor.decide(token);
        let sample = decode(&decision, scores(token), factor);
        sum += if token * 2 >= tokens { sample.energy.unwrap().0 as f64 } else { 0.0 };
        governor.observe(sample);
    }
    sum / f64::from(tokens - tokens / 2) / 1000.0
}

/// What is reported while `tokens` run.
fn events_of(governor: &mut Governor, tokens: u32, factor: f32) -> Events {
    let mut events = Events::NONE;
    for token in 0..tokens {
        let decision = governor.decide(token);
        events.add(decision.events);
        governor.observe(decode(&decision, scores(token), factor));
    }
    events
}

#[test]
fn an_ample_budget_is_full_depth() {
    let mut governor = governor(budget(600), Metering::Measured);
    assert!((mean_mj(&mut governor, 400, 1.0) - 440.0).abs() < 0.1, "full depth");
    assert_eq!(governor.mode(), Mode::Ample, "and knows it");
    assert!(governor.decide(0).threshold > 1.0, "no exit");
}

#[test]
fn a_budget_is_used_and_not_exceeded() {
    let mut governor = governor(budget(300), Metering::Measured);
    let mean = mean_mj(&mut governor, 2000, 1.0);
    assert!((285.0..=300.5).contains(&mean), "{mean} mJ");
}

#[test]
fn without_any_budget_nothing_is_given_up() {
    let mut governor = governor(GovernorConfig::default(), Metering::Modelled);
    let decision = governor.decide(0);
    assert!(
        decision.threshold > 1.0 && usize::from(decision.last_segment) == SEGMENTS - 1,
        "{decision:?}"
    );
}

#[test]
fn the_order_of_sacrifice_decides() {
    // 150 mJ lets tokens leave behind the first segment only; agreement is to be 0.99.
    let strict = GovernorConfig { min_agreement: 0.99, ..budget(150) };
    let mut keeps_energy = governor(strict, Metering::Measured);
    assert!(mean_mj(&mut keeps_energy, 1000, 1.0) < 151.0, "agreement gives way");
    let decision = keeps_energy.decide(0);
    assert!(decision.events.contains(Events::AGREEMENT_GIVES_WAY), "and says so: {decision:?}");
    assert_eq!(decision.mode, Mode::Yielding, "and is known to");
    let order = [Goal::Energy, Goal::Latency, Goal::Agreement];
    let mut keeps_agreement =
        governor(GovernorConfig { sacrifice: order, ..strict }, Metering::Measured);
    assert!(mean_mj(&mut keeps_agreement, 1000, 1.0) > 300.0, "energy gives way");
    assert!(keeps_agreement.decide(0).events.contains(Events::ENERGY_GIVES_WAY), "and says so");
    assert!(calibration().agreement(keeps_agreement.position()) >= 0.989, "for this");
}

#[test]
fn a_budget_below_the_cheapest_exit_is_reported_and_spent_at_the_first_exit() {
    let mut governor = governor(budget(100), Metering::Measured);
    assert!((mean_mj(&mut governor, 400, 1.0) - 140.0).abs() < 0.1, "the cheapest there is");
    assert!(governor.decide(0).events.contains(Events::ENERGY_OUT_OF_REACH), "and says so");
}

#[test]
fn a_deadline_below_the_first_exit_is_reported() {
    let config =
        GovernorConfig { latency_per_token: Some(Microseconds(5000)), ..GovernorConfig::default() };
    let decision = governor(config, Metering::Modelled).decide(0);
    assert!(decision.events.contains(Events::LATENCY_OUT_OF_REACH), "{decision:?}");
    assert!(
        !decision.may_start(1, 0) && decision.may_start(0, 0),
        "one segment, because there must be a token"
    );
}

#[test]
fn a_board_that_becomes_slower_is_noticed_and_the_budget_still_kept() {
    let mut governor = governor(budget(300), Metering::Measured);
    mean_mj(&mut governor, 500, 1.0);
    let events = events_of(&mut governor, 200, 1.4);
    assert!(events.contains(Events::THROTTLED), "{:?}", events.names().collect::<Vec<_>>());
    let mean = mean_mj(&mut governor, 500, 1.4);
    assert!((270.0..=300.5).contains(&mean), "{mean} mJ");
    assert!(events_of(&mut governor, 200, 1.0).contains(Events::RECOVERED), "and when it is over");
}

#[test]
fn a_power_mode_that_is_announced_is_no_throttling() {
    let mut governor = governor(budget(300), Metering::Measured);
    mean_mj(&mut governor, 500, 1.0);
    governor.power_mode_changed(1.5, 1.5);
    let events = events_of(&mut governor, 200, 1.5);
    assert!(!events.contains(Events::THROTTLED), "{:?}", events.names().collect::<Vec<_>>());
}

#[test]
fn a_low_battery_has_a_budget_of_its_own() {
    let config = GovernorConfig { below_battery: Some((0.2, Microjoules(200_000))), ..budget(400) };
    let mut governor = governor(config, Metering::Measured);
    assert!(mean_mj(&mut governor, 1000, 1.0) > 350.0, "charged");
    governor.battery_is(0.19);
    assert!(governor.decide(0).events.contains(Events::BATTERY_LOW), "noticed");
    assert!(mean_mj(&mut governor, 1000, 1.0) < 201.0, "low");
    governor.battery_is(0.21);
    assert!(governor.decide(0).events.is_empty(), "a little more is not charged");
    governor.battery_is(0.25);
    assert!(governor.decide(0).events.contains(Events::BATTERY_BACK), "this is");
    assert!(mean_mj(&mut governor, 1000, 1.0) > 350.0, "charged again");
}

#[test]
fn a_broken_meter_does_not_stop_decoding_and_the_budget_is_kept_by_the_model() {
    let mut governor = governor(budget(300), Metering::Measured);
    mean_mj(&mut governor, 500, 1.0);
    governor.meter_is(MeterState::Broken);
    let mut sum = 0.0;
    for token in 0..1000 {
        let decision = governor.decide(token);
        assert!(!decision.stop, "decoding goes on");
        assert_eq!(decision.mode, Mode::Blind, "without seeing");
        let sample = decode(&decision, scores(token), 1.0);
        sum += sample.energy.unwrap().0 as f64 / 1e6;
        governor.observe(Sample { energy: None, ..sample });
    }
    assert!((275.0..=303.0).contains(&sum), "{sum} mJ in the mean");
    governor.meter_is(MeterState::Whole);
    assert_eq!(governor.mode(), Mode::Keeping, "seeing again");
}

#[test]
fn rows_that_wait_are_caught_up_before_that_would_be_late() {
    // 44 ms at full depth, 3 ms for each row from the first exit, 60 ms until the deadline: five rows and no more.
    let config = GovernorConfig {
        latency_per_token: Some(Microseconds(60_000)),
        rows_that_may_wait: 30,
        min_agreement: 0.5,
        ..budget(200)
    };
    let mut governor =
        governor(GovernorConfig { energy_per_token: None, ..config }, Metering::Modelled);
    let mut waiting = 0;
    for token in 0..200_u32 {
        let decision = governor.decide(token);
        let leaves = !decision.catch_up_now;
        let (exit, us) = if leaves { (0, 14_000) } else { (3, 44_000 + 3000 * waiting) };
        assert!(us <= 60_000, "token {token}: {us} us with {waiting} rows");
        let rows = if leaves { 0 } else { waiting as u16 };
        waiting = if leaves { waiting + 1 } else { 0 };
        governor.observe(Sample { catch_up_rows: rows, ..Sample::new(exit, us) });
    }
}

#[test]
fn exits_that_turn_out_wrong_tighten_the_threshold() {
    let order = [Goal::Energy, Goal::Latency, Goal::Agreement];
    let config = GovernorConfig {
        rows_that_may_wait: 8,
        sacrifice: order,
        min_agreement: 0.95,
        ..budget(250)
    };
    let position_after = |wrong_of_8: u16| {
        let mut governor = governor(config, Metering::Measured);
        let (mut rows, mut refuted) = (0_u16, false);
        for token in 0..3000_u32 {
            let decision = governor.decide(token);
            refuted |= decision.events.contains(Events::CALIBRATION_REFUTED);
            let mut sample = decode(&decision, scores(token), 1.0);
            if usize::from(sample.exit_segment) == SEGMENTS - 1 {
                let agreed = rows - rows * wrong_of_8 / 8;
                (sample.catch_up_rows, sample.revealed) =
                    (rows, (rows > 0).then_some(Revealed { agreed, of: rows }));
                rows = 0;
            } else {
                rows += 1;
            }
            governor.observe(sample);
        }
        (governor.position(), refuted)
    };
    let ((right, excused), (wrong, accused)) = (position_after(0), position_after(6));
    assert!(wrong < right - 1.0, "{wrong} is stricter than {right}");
    assert!(accused && !excused, "the calibration is called wrong only where it is");
}

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

#[test]
fn a_calibration_of_another_model_is_refused() {
    let refused =
        Governor::new(GovernorConfig::default(), model(), Calibration::none(5), Metering::Modelled);
    assert!(refused.is_err(), "five segments for four");
}

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
