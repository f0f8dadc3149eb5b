//! Where tokens left: a bar for each mode, divided by depth.

use std::fmt::Write;

use super::{Report, segments};
use crate::page::{colour, escape, exit_name, ink, legend, percent};

const WIDTH: f64 = 1120.0;
const LEFT: f64 = 210.0;
const RIGHT: f64 = 1010.0;
const PITCH: f64 = 26.0;
const BAR: f64 = 20.0;
/// Room between families.
const GAP: f64 = 12.0;

/// One bar for each mode, and the oracle's.
pub(super) fn bars(report: &Report) -> String {
    let mut rows: Vec<(String, String, &[u64], f64)> = Vec::new();
    for mode in &report.modes {
        rows.push((mode.mode.family(), mode.mode.label(), &mode.tokens_per_exit, mode.depth_mean));
    }
    if let Some(oracle) = &report.oracle {
        let name = || "oracle".to_owned();
        rows.push((name(), name(), &oracle.tokens_per_exit, oracle.depth_mean));
    }
    let (mut bars, mut top, mut before) = (String::new(), 24.0, None);
    for (family, name, counts, depth_mean) in &rows {
        if before.is_some_and(|before| before != family) {
            top += GAP;
        }
        bars += &bar(top, name, counts, *depth_mean);
        top += PITCH;
        before = Some(family);
    }
    format!(
        "{}<figure>\n<svg viewBox=\"0 0 {WIDTH} {top}\" role=\"img\" aria-label=\"Tokens per exit\">\n<text \
         class=\"tick\" x=\"{LEFT}\" y=\"14\">share of tokens that left behind each segment</text><text class=\"tick \
         end\" x=\"{WIDTH}\" y=\"14\">mean depth</text>\n{bars}</svg>\n</figure>\n",
        legend(segments(report))
    )
}

fn bar(top: f64, name: &str, counts: &[u64], depth_mean: f64) -> String {
    let middle = top + BAR / 2.0 + 4.5;
    let mut svg = format!(
        "<text class=\"name end\" x=\"{:.1}\" y=\"{middle:.1}\">{}</text><text class=\"name end\" x=\"{WIDTH}\" \
         y=\"{middle:.1}\">{}</text>\n",
        LEFT - 12.0,
        escape(name),
        percent(depth_mean)
    );
    let total: u64 = counts.iter().sum();
    let mut left = LEFT;
    for (exit, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let share = *count as f64 / total as f64;
        let width = share * (RIGHT - LEFT);
        let _ = write!(
            svg,
            "<g><title>{}: {count} tokens, {}</title><rect class=\"part\" style=\"fill:{}\" x=\"{left:.1}\" y=\"{top:.1}\" \
             width=\"{width:.1}\" height=\"{BAR}\"/>",
            exit_name(exit, counts.len()),
            percent(share),
            colour(exit, counts.len())
        );
        if width > 44.0 {
            let _ = write!(
                svg,
                "<text class=\"inside {}\" x=\"{:.1}\" y=\"{middle:.1}\">{:.0} %</text>",
                ink(exit, counts.len()),
                left + width / 2.0,
                share * 100.0
            );
        }
        svg += "</g>\n";
        left += width;
    }
    svg
}
