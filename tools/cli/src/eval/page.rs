//! The report as one HTML page: nothing is loaded from elsewhere, and it can be read in light, in dark, and on paper.
//!
//! Pictures are SVG whose colours come from the page's style, so that one picture serves every scheme.

mod bars;
mod conditions;
mod plot;
mod scale;
mod table;
mod text;

use std::fmt::Write;

use super::report::{ModeReport, Report, number};

pub(crate) use text::{Piece, Sample};

const STYLE: &str = include_str!("page/style.css");

/// Writes the page.
pub(crate) fn page(report: &Report, samples: &[Sample]) -> String {
    let title = format!("{} · {}", report.task, report.conditions.model);
    let mut page = String::new();
    let sections = [
        headline(report),
        plots(report),
        section("Where tokens left", &bars::bars(report)),
        text::section(samples, segments(report)),
        section("Every mode", &table::table(report)),
        section("Conditions", &conditions::conditions(&report.conditions)),
    ];
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{}</main>\n</body>\n</html>\n",
        escape(&title),
        sections.concat(),
    );
    page
}

/// The name of the task, and the numbers that matter.
fn headline(report: &Report) -> String {
    let full = report.modes.first();
    let accuracy = full.map_or(0.0, |full| full.accuracy_full);
    let mut cards = card("Accuracy at full depth", &percent(accuracy), report.accuracy_is);
    if let Some(best) = report.modes.iter().filter(|mode| mode.agreement >= 0.99).max_by(cheaper)
        && best.bytes_saved > 0.0
    {
        let note =
            format!("of bytes, {}, agreement {}", best.mode.label(), percent(best.agreement));
        cards += &card("Saved at 99 % agreement", &percent(best.bytes_saved), &note);
    }
    if let Some(best) = report.modes.iter().max_by(cheaper)
        && best.bytes_saved > 0.0
    {
        let note =
            format!("of bytes, {}, agreement {}", best.mode.label(), percent(best.agreement));
        cards += &card("Saved at most", &percent(best.bytes_saved), &note);
    }
    if let Some(oracle) = &report.oracle {
        cards +=
            &card("An oracle saves", &percent(oracle.bytes_saved), "of bytes, agreement 100 %");
    }
    format!(
        "<header>\n<p class=\"kicker\">Dynamax evaluation</p>\n<h1>{}</h1>\n<p class=\"lead\">{} examples · {}</p>\n\
         <div class=\"cards\">\n{cards}</div>\n</header>\n",
        escape(report.task),
        report.n,
        escape(&report.conditions.model),
    )
}

fn cheaper(a: &&ModeReport, b: &&ModeReport) -> std::cmp::Ordering {
    a.bytes_saved.total_cmp(&b.bytes_saved)
}

fn card(name: &str, number: &str, note: &str) -> String {
    format!(
        "<div class=\"card\"><span class=\"name\">{}</span><strong>{}</strong><span class=\"note\">{}</span></div>\n",
        escape(name),
        escape(number),
        escape(note)
    )
}

/// Quality against savings; with full depth alone there is nothing to plot.
fn plots(report: &Report) -> String {
    if report.modes.len() < 2 {
        let only = "<p>Only full depth was measured: there are no savings to show.</p>\n";
        return section("Quality against savings", only);
    }
    let agreement = plot::plot(report, "Agreement with full depth", |mode| mode.agreement);
    let accuracy =
        plot::plot(report, &format!("Accuracy ({})", report.accuracy_is), |mode| mode.accuracy);
    let body = format!(
        "<p>Each point is a mode; up and right is better. The grey line joins those that no other beats in both. Numbers \
         are thresholds.</p>\n{}<div class=\"pair\">\n{agreement}{accuracy}</div>\n",
        plot::legend(report)
    );
    section("Quality against savings", &body)
}

fn section(title: &str, body: &str) -> String {
    format!("<section>\n<h2>{}</h2>\n{body}</section>\n", escape(title))
}

/// Segments of the model.
fn segments(report: &Report) -> usize {
    report.modes.first().map_or(1, |mode| mode.tokens_per_exit.len())
}

fn percent(share: f64) -> String {
    // Rounded first, and then 0 added: not "-0.0 %".
    format!("{:.1} %", (share * 1000.0).round() / 10.0 + 0.0)
}

/// Text as HTML shows it.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
