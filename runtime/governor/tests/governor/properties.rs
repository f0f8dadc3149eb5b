//! Properties, over budgets, texts and nonsense.

use dynamax_governor::{
    Exits, GovernorConfig, Metering, Microjoules, Microseconds, OnMeterFault, Revealed, Sample,
};
use proptest::prelude::{ProptestConfig, any, prop, prop_assert, proptest};

use crate::setup::{SEGMENTS, budget, decode, governor, scores};

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
    fn nonsense_about_drafts_is_survived(
        samples in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>(), any::<u32>(), any::<(u16, u16)>()), 1..200),
        most in 0_u8..=16
    ) {
        let config = GovernorConfig { exits: Exits::Drafts { most }, ..budget(300) };
        let mut governor = governor(config, Metering::Measured);
        for (tokens, exit_segment, matched, elapsed_us, (agreed, of)) in samples {
            let decision = governor.decide(elapsed_us);
            let guesses = governor.lookup_length(matched.into());
            prop_assert!(guesses <= most && decision.draft_length <= most, "{guesses} {decision:?}");
            governor.judge_lookup(tokens.into(), matched > 9);
            let revealed = Some(Revealed { agreed, of });
            let energy = Some(Microjoules(elapsed_us.into()));
            governor.observe(Sample { tokens, matched, energy, revealed, ..Sample::new(exit_segment, elapsed_us) });
        }
        prop_assert!(governor.drafting().measured_gain().is_finite());
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
                tokens, exit_segment, catch_up_rows, elapsed_us, asked: u32::MAX, matched: 0,
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
