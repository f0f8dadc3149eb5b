//! The report as one HTML page.

mod bars;
mod conditions;
mod plot;
mod table;

use super::report::{ModeReport, Report, number};
use crate::page::{Sample, card, document, escape, percent, said, section};

/// Writes the page.
pub(crate) fn page(report: &Report, samples: &[Sample]) -> String {
    let title = format!("{} · {}", report.task, report.conditions.model);
    let sections = [
        headline(report),
        plots(report),
        section("Where tokens left", &bars::bars(report)),
        said(samples, segments(report)),
        section("Every mode", &table::table(report)),
        section("Conditions", &conditions::conditions(&report.conditions)),
    ];
    document(&title, &sections.concat())
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

/// Segments of the model.
fn segments(report: &Report) -> usize {
    report.modes.first().map_or(1, |mode| mode.tokens_per_exit.len())
}

#[cfg(test)]
mod tests;
