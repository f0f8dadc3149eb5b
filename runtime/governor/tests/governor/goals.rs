//! Budgets, deadlines and floors, one by one, and what happens when they or the meter break.

use dynamax_governor::{
    Calibration, Events, Goal, Governor, GovernorConfig, MeterState, Metering, Microjoules,
    Microseconds, Mode, Revealed, Sample,
};

use crate::setup::{
    SEGMENTS, budget, calibration, decode, events_of, governor, mean_mj, model, scores,
};

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
fn a_depth_that_would_be_late_is_not_allowed() {
    // Three segments and the head take 34 ms; a board that is not known yet is trusted to 5 %.
    for (deadline_us, deepest) in [(35_000, 1), (36_000, 2), (46_300, 3)] {
        let latency_per_token = Some(Microseconds(deadline_us));
        let config =
            GovernorConfig { latency_per_token, min_agreement: 0.5, ..GovernorConfig::default() };
        assert_eq!(
            governor(config, Metering::Modelled).decide(0).last_segment,
            deepest,
            "{deadline_us} us"
        );
    }
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

#[test]
fn a_calibration_of_another_model_is_refused() {
    let refused =
        Governor::new(GovernorConfig::default(), model(), Calibration::none(5), Metering::Modelled);
    assert!(refused.is_err(), "five segments for four");
}
