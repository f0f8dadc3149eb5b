//! Every mode with its numbers.

use std::fmt::Write;

use super::{ModeReport, Report, number};
use crate::page::{escape, percent};

const COLUMNS: [&str; 11] = [
    "mode",
    "state",
    "classifier",
    "threshold",
    "accuracy",
    "agreement",
    "depth",
    "bytes saved",
    "FLOPs saved",
    "time saved",
    "tok/s",
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
    html + &scores(report)
}

fn row(report: &ModeReport) -> String {
    let mode = &report.mode;
    let text = |text: Option<&str>| escape(text.unwrap_or("–"));
    let words = [escape(&mode.exit), text(mode.state.as_deref()), text(mode.classifier.as_deref())];
    let numbers = [
        mode.threshold.map_or_else(|| "–".into(), number),
        percent(report.accuracy),
        percent(report.agreement),
        percent(report.depth_mean),
        percent(report.bytes_saved),
        percent(report.flops_saved),
        percent(report.time_saved),
        format!("{:.1}", report.tokens_per_s),
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
