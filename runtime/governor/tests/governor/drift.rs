//! Texts that exits were not calibrated for: they are as sure as before, and wrong more often.

use dynamax_governor::sim::{BOARDS, Fixed, SimBoard, Steered, TEXTS, Text, Token, calibrate, run};
use dynamax_governor::{Calibration, Goal, Governor, GovernorConfig, Metering, Microjoules};

const FLOOR: f32 = 0.95;
const SEEDS: u64 = 10;
const NO_DEADLINE: f32 = f32::INFINITY;

/// Scores of one text, and answers of a harder one.
fn overconfident(text: &Text, harder_by: f32, seed: u64) -> Vec<Token> {
    let harder = Text { difficulty: text.difficulty + harder_by, ..*text };
    let scores = text.tokens(3000, seed);
    let answers = harder.tokens(3000, seed);
    scores.iter().zip(answers).map(|(easy, hard)| Token { scores: easy.scores, ..hard }).collect()
}

/// Agreement of the governor, which must keep the floor rather than the budget.
fn steered(board: &SimBoard, calibration: &Calibration, tokens: &[Token], seed: u64) -> f32 {
    let model = board.model();
    let cheapest = model.segments()[0].first_row[0].plus(model.head());
    let config = GovernorConfig {
        energy_per_token: Some(Microjoules(cheapest.uj as u64)),
        sacrifice: [Goal::Energy, Goal::Latency, Goal::Agreement],
        min_agreement: FLOOR,
        rows_that_may_wait: board.rows_that_may_wait,
        ..GovernorConfig::default()
    };
    let governor = Governor::new(config, board.believed(seed), *calibration, Metering::Measured);
    let mut policy = Steered::new(governor.unwrap());
    run(&mut policy, board, tokens, (config.window, NO_DEADLINE), seed).agreement
}

#[test]
fn agreement_stays_above_the_floor_where_the_calibration_alone_falls_below() {
    for board in BOARDS.iter().filter(|board| board.rows_that_may_wait > 0) {
        for (text, harder_by) in
            TEXTS.iter().flat_map(|text| [(text, 0.2), (text, 0.4), (text, 0.8)])
        {
            let calibration = calibrate(text, 20_000, 4711);
            let threshold = calibration.threshold(calibration.most_lenient(FLOOR, 1.0));
            let (mut offline, mut online) = (0.0, 0.0);
            for seed in 1..=SEEDS {
                let tokens = overconfident(text, harder_by, seed);
                let mut fixed = Fixed::new(board, threshold, NO_DEADLINE);
                let outcome = run(&mut fixed, board, &tokens, (64, NO_DEADLINE), seed);
                offline += outcome.agreement / SEEDS as f32;
                online += steered(board, &calibration, &tokens, seed) / SEEDS as f32;
            }
            let case = format!("{} on {}, {harder_by} harder", board.name, text.name);
            println!("{case}: {offline:.4} by the calibration, {online:.4} by what is revealed");
            assert!(offline < FLOOR, "{case}: {offline} by the calibration");
            assert!(online >= FLOOR, "{case}: {online} by what is revealed");
        }
    }
}
