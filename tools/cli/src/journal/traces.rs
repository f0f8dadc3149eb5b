//! Traces over tokens: a panel for each quantity, under one axis.

use std::fmt::Write;

use super::{Entry, Journal, figure};
use crate::page::{Scale, colour, escape, exit_name};

pub(super) const WIDTH: f64 = 1120.0;
/// Room for the names of what happened.
pub(super) const LEFT: f64 = 164.0;
pub(super) const RIGHT: f64 = 1112.0;
const HEIGHT: f64 = 196.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 168.0;

/// Columns of a panel: more tokens than these share one.
const COLUMNS: usize = 700;

/// A panel of numbers.
pub(super) struct Panel<'p> {
    /// What is shown, with its unit.
    pub(super) title: String,
    /// What the lines mean.
    pub(super) note: &'p str,
    /// Each token's own.
    pub(super) each: Option<fn(&Entry) -> Option<f64>>,
    /// What it amounts to.
    pub(super) line: Option<fn(&Entry) -> Option<f64>>,
    /// What it is held against.
    pub(super) limit: Option<(&'p str, f64)>,
    /// What the axis holds.
    pub(super) axis: Axis,
}

/// What an axis holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Axis {
    /// From zero to almost all values: a stall must not make everything else flat. What is beyond is counted.
    Quantity,
    /// From 0 to 1.
    Share,
    /// The part of it where values are.
    PartOfShare,
}

/// Tokens side by side.
pub(super) struct Columns<'j> {
    entries: &'j [Entry],
    /// Tokens in each.
    each: usize,
}

impl<'j> Columns<'j> {
    pub(super) fn of(journal: &'j Journal) -> Self {
        let entries = &journal.entries;
        Self { entries, each: entries.len().div_ceil(COLUMNS).max(1) }
    }

    /// Their tokens, with the place of their middle.
    pub(super) fn iter(&self) -> impl Iterator<Item = (f64, &'j [Entry])> {
        self.entries.chunks(self.each).enumerate().map(|(index, tokens)| {
            (self.place((index * self.each) as f64 + tokens.len() as f64 / 2.0), tokens)
        })
    }

    /// The place of a token's left edge.
    pub(super) fn place(&self, token: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * token / self.entries.len().max(1) as f64
    }

    /// Ticks along the tokens, from above to below.
    pub(super) fn axis(&self, top: f64, bottom: f64) -> String {
        let count = self.entries.len() as f64;
        let scale = Scale::from_zero(count, 8, [LEFT, RIGHT]);
        let mut svg = String::new();
        for tick in scale.ticks().into_iter().filter(|tick| *tick <= count) {
            let at = self.place(tick);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top}\" y2=\"{bottom}\"/><text class=\"tick mid\" \
                 x=\"{at:.1}\" y=\"{:.1}\">{tick:.0}</text>",
                bottom + 18.0
            );
        }
        svg
    }
}

impl Panel<'_> {
    /// Draws the panel, if there is anything to draw.
    pub(super) fn draw(&self, columns: &Columns<'_>) -> String {
        let lines = [self.each, self.line].into_iter().flatten();
        let mut values: Vec<f64> =
            lines.flat_map(|of| columns.entries.iter().filter_map(of)).collect();
        if values.is_empty() {
            return String::new();
        }
        values.sort_unstable_by(f64::total_cmp);
        let (scale, beyond) = self.scale(&values);
        let note = match beyond {
            0 => self.note.to_owned(),
            _ => format!(
                "{}; beyond the axis: {beyond}, up to {}",
                self.note,
                figure(values[values.len() - 1])
            ),
        };
        let mut svg = open(&self.title, &note, HEIGHT) + &columns.axis(TOP, BOTTOM);
        svg += &levels(&scale);
        if let Some(each) = self.each {
            svg += &band(columns, &scale, each);
        }
        if let Some(line) = self.line {
            svg += &curve(columns, &scale, line);
        }
        if let Some((name, limit)) = self.limit {
            let at = scale.place(limit);
            let _ = writeln!(
                svg,
                "<line class=\"limit\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\"><title>{} {}</title></line>",
                escape(name),
                figure(limit)
            );
        }
        svg + "</svg>\n</figure>\n"
    }

    /// The axis over sorted values, and how many are beyond it.
    fn scale(&self, values: &[f64]) -> (Scale, usize) {
        let places = [BOTTOM, TOP];
        let limit = self.limit.map(|(_, limit)| limit);
        match self.axis {
            Axis::Share => (Scale::from_zero(1.0, 4, places), 0),
            Axis::PartOfShare => {
                (Scale::over(values.iter().copied().chain(limit).chain([1.0]), 4, places), 0)
            }
            Axis::Quantity => {
                let almost_all = values[(values.len() - 1) * 49 / 50];
                let most = (1.5 * almost_all).max(1.1 * limit.unwrap_or(0.0));
                let scale = Scale::from_zero(
                    most.min(values[values.len() - 1].max(limit.unwrap_or(0.0))),
                    4,
                    places,
                );
                let beyond = values.iter().filter(|value| !scale.holds(**value)).count();
                (scale, beyond)
            }
        }
    }
}

/// The start of a picture.
pub(super) fn open(title: &str, note: &str, height: f64) -> String {
    format!(
        "<figure>\n<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{0}\">\n<text class=\"title\" x=\"0\" \
         y=\"18\">{0}</text><text class=\"tick end\" x=\"{RIGHT}\" y=\"18\">{1}</text>\n",
        escape(title),
        escape(note)
    )
}

fn levels(scale: &Scale) -> String {
    let mut svg = String::new();
    for tick in scale.ticks() {
        let at = scale.place(tick);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text class=\"tick end\" \
             x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT - 8.0,
            at + 4.0,
            scale.plain(tick)
        );
    }
    svg
}

/// From the least to the most of each column.
fn band(columns: &Columns<'_>, scale: &Scale, of: fn(&Entry) -> Option<f64>) -> String {
    let (mut above, mut below) = (Vec::new(), Vec::new());
    for (x, tokens) in columns.iter() {
        let values = || tokens.iter().filter_map(of);
        let (Some(least), Some(most)) = (values().reduce(f64::min), values().reduce(f64::max))
        else {
            continue;
        };
        above.push(format!("{x:.1},{:.1}", scale.place_within(most)));
        below.push(format!("{x:.1},{:.1}", scale.place_within(least)));
    }
    below.reverse();
    format!("<polygon class=\"band\" points=\"{} {}\"/>\n", above.join(" "), below.join(" "))
}

/// Means of the columns; the line is broken where nothing is known.
fn curve(columns: &Columns<'_>, scale: &Scale, of: fn(&Entry) -> Option<f64>) -> String {
    let (mut path, mut is_down) = (String::new(), false);
    for (x, tokens) in columns.iter() {
        let value = super::mean(tokens.iter().filter_map(of));
        if let Some(value) = value {
            let _ = write!(
                path,
                "{}{x:.1} {:.1}",
                if is_down { "L" } else { "M" },
                scale.place_within(value)
            );
        }
        is_down = value.is_some();
    }
    format!("<path class=\"trace\" d=\"{path}\"/>\n")
}

/// How deep each token went, as columns in the colour of its exit.
pub(super) fn depths(columns: &Columns<'_>, segments: usize) -> String {
    let scale = Scale::from_zero(1.0, 4, [BOTTOM, TOP]);
    let note = "height: share of the layers; colour: where the token left";
    let mut svg = open("Depth", note, HEIGHT) + &columns.axis(TOP, BOTTOM) + &levels(&scale);
    let wide = columns.place(columns.each as f64) - LEFT;
    for (x, tokens) in columns.iter() {
        let count = tokens.len() as f64;
        let depth = tokens.iter().map(|entry| entry.depth).sum::<f64>() / count;
        let exit = tokens.iter().map(|entry| f64::from(entry.segment)).sum::<f64>() / count;
        let (at, exit) = (scale.place(depth), exit.round() as usize);
        let _ = writeln!(
            svg,
            "<rect style=\"fill:{}\" x=\"{:.2}\" y=\"{at:.1}\" width=\"{wide:.2}\" height=\"{:.1}\"><title>{}</title></rect>",
            colour(exit, segments),
            x - wide / 2.0,
            BOTTOM - at,
            exit_name(exit, segments)
        );
    }
    svg + "</svg>\n</figure>\n"
}
