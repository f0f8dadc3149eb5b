//! What exits are worth, as a table.

use std::fmt::Write;

use dynamax_models::exits::{Evaluation, ExitReport, THRESHOLDS, Trade};
use dynamax_models::train::ExitLosses;

/// Every exit by itself, then what one threshold for all of them buys.
pub(crate) fn table(evaluation: &Evaluation) -> String {
    let mut text = format!(
        "exits, on {} held-out tokens (loss at full depth {:.3}):\n after  kind   loss   agree  AUC    ECE  ",
        evaluation.tokens, evaluation.full_loss
    );
    for threshold in THRESHOLDS {
        let _ = write!(text, "  leave/agree at {threshold:<4}");
    }
    text.push('\n');
    for exit in &evaluation.exits {
        text += &row(exit);
    }
    for trade in &evaluation.trades {
        text += &line(trade);
    }
    text
}

fn row(exit: &ExitReport) -> String {
    let mut text = format!(
        "{:6}  {:5}  {:5.3}  {:4.1}%  {:.3}  {:.3}",
        exit.after_layer,
        exit.classifier,
        exit.loss,
        100.0 * exit.agreement,
        exit.auc,
        exit.calibration_error
    );
    for at in &exit.thresholds {
        let rates = format!("{:.1}% / {:.1}%", 100.0 * at.exit_rate, 100.0 * at.agreement);
        let _ = write!(text, "  {rates:>19}");
    }
    text + "\n"
}

fn line(trade: &Trade) -> String {
    let shares: Vec<String> =
        trade.shares.iter().map(|share| format!("{:.0}%", 100.0 * share)).collect();
    format!(
        "threshold {:.4}: mean depth {:.1} %, agreement {:.2} % (leaving at each exit, and not at all: {})\n",
        trade.threshold,
        100.0 * trade.depth_mean,
        100.0 * trade.agreement,
        shares.join(" ")
    )
}

/// What a step came to at each exit, behind the loss at full depth.
pub(crate) fn step(exits: &[ExitLosses]) -> String {
    let exit = |exit: &ExitLosses| format!("{:.2}/{:.0}%", exit.loss, 100.0 * exit.agreement);
    let exits: Vec<String> = exits.iter().map(exit).collect();
    if exits.is_empty() { String::new() } else { format!(" · exits {}", exits.join(" ")) }
}
