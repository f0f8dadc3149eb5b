//! Every mode with its numbers.

use std::fmt::Write;

use super::{ModeReport, Report, number};
use crate::page::{escape, percent};

const COLUMNS: [&str; 13] = [
    "mode",
    "state",
    "classifier",
    "threshold",
    "accuracy",
    "agreement",
    "drafts right",
    "depth",
    "bytes saved",
    "FLOPs saved",
    "time saved",
    "tok/s",
    "mJ/token",
];

/// Text in these columns; numbers in the others.
const TEXT_COLUMNS: usize = 3;

pub(super) fn table(report: &Report) -> String {
    let mut html = String::from("<div class=\"scroll\"><table>\n<thead><tr>");
    for (index, column) in COLUMNS.iter().enumerate() {
        let class = if index < TEXT_COLUMNS { "" } else { " class=\"number\"" };
        let _ = write!(html, "<th{class}>{column}</th>");
    }
    html += "</tr></thead>\n<tbody>\n";
    for mode in &report.modes {
        html += &row(mode);
    }
    html += "</tbody>\n</table></div>\n";
    html + &places(report) + &energy(report) + &scores(report)
}

/// Of drafts, how many were right, by their place in a round.
fn places(report: &Report) -> String {
    let drafting = report.modes.iter().filter(|mode| !mode.acceptance_by_place.is_empty());
    let line = |mode: &ModeReport| {
        let shares: Vec<String> = mode.acceptance_by_place.iter().copied().map(percent).collect();
        format!(
            "<p class=\"note\">Drafts that were right, by their place in a round: {}. One behind a wrong one is wrong. {} of all \
             were made by no exit: they had been said before.</p>\n",
            shares.join(", "),
            percent(mode.said_before.unwrap_or(0.0))
        )
    };
    drafting.map(line).collect()
}

fn energy(report: &Report) -> String {
    match report.conditions.energy_source {
        "" => String::new(),
        "model" => "<p class=\"note\">Energy is modelled, not measured.</p>\n".into(),
        source => format!("<p class=\"note\">Energy is measured: {}.</p>\n", escape(source)),
    }
}

fn row(report: &ModeReport) -> String {
    let mode = &report.mode;
    let text = |text: Option<&str>| escape(text.unwrap_or("–"));
    let words = [escape(&mode.exit), text(mode.state.as_deref()), text(mode.classifier.as_deref())];
    let or_dash = |number: Option<String>| number.unwrap_or_else(|| "–".into());
    let numbers = [
        or_dash(mode.threshold.map(number)),
        percent(report.accuracy),
        percent(report.agreement),
        or_dash(report.acceptance.map(percent)),
        percent(report.depth_mean),
        percent(report.bytes_saved),
        percent(report.flops_saved),
        percent(report.time_saved),
        format!("{:.1}", report.tokens_per_s),
        or_dash(report.energy_mj_per_token.map(|mj| format!("{mj:.3}"))),
    ];
    let mut html = String::from("<tr>");
    for word in words {
        let _ = write!(html, "<td>{word}</td>");
    }
    for number in numbers {
        let _ = write!(html, "<td class=\"number\">{number}</td>");
    }
    html + "</tr>\n"
}

/// All scores of full depth: what the task has besides accuracy.
fn scores(report: &Report) -> String {
    let Some(full) = report.modes.first() else { return String::new() };
    let mut html = String::from("<p class=\"note\">Scores at full depth:");
    for (index, (name, score)) in full.scores.iter().enumerate() {
        let _ = write!(html, "{} {name}&nbsp;{score:.4}", if index == 0 { "" } else { " ·" });
    }
    html + "</p>\n"
}
