//! When the governor was busy with what, and what happened: a row for each mode and event that occurred.

use std::fmt::Write;

use super::traces::{Columns, LEFT, open};
use super::{Entry, Journal};
use crate::page::escape;

const TOP: f64 = 34.0;
const PITCH: f64 = 24.0;
const BAR: f64 = 14.0;

/// A name, and at which tokens it held.
struct Row {
    name: String,
    class: &'static str,
    tokens: Vec<usize>,
}

/// The picture; nothing without a governor.
pub(super) fn timeline(journal: &Journal, columns: &Columns<'_>) -> String {
    let mut rows: Vec<Row> = Vec::new();
    for (index, entry) in journal.entries.iter().enumerate() {
        for (name, class) in names(entry) {
            match rows.iter_mut().find(|row| row.name == name) {
                Some(row) => row.tokens.push(index),
                None => rows.push(Row { name, class, tokens: vec![index] }),
            }
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    rows.sort_by_key(|row| row.class);
    let bottom = TOP + PITCH * rows.len() as f64;
    let mut svg =
        open("What the governor was busy with, and what happened", "by token", bottom + 26.0);
    svg += &columns.axis(TOP, bottom);
    for (row, top) in rows.iter().zip((0..).map(|row| TOP + PITCH * f64::from(row))) {
        svg += &draw(row, top, columns);
    }
    svg + "</svg>\n</figure>\n"
}

/// What holds at a token: `a` for modes, which are drawn first, `b` for events.
fn names(entry: &Entry) -> Vec<(String, &'static str)> {
    let mode = entry.mode.map(|mode| (format!("{mode:?}").to_lowercase(), "span a"));
    let events = entry.events.names().map(|name| (name.to_owned(), "span b"));
    mode.into_iter().chain(events).collect()
}

fn draw(row: &Row, top: f64, columns: &Columns<'_>) -> String {
    let mut svg = String::new();
    let mut rest = row.tokens.as_slice();
    while let Some(first) = rest.first() {
        let run = rest.iter().zip(*first..).take_while(|(token, next)| *token == next).count();
        let (from, to) = (columns.place(*first as f64), columns.place((first + run) as f64));
        let _ = writeln!(
            svg,
            "<rect class=\"{}\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{BAR}\"><title>{}: token {} to {}</title>\
             </rect>",
            row.class,
            top + (PITCH - BAR) / 2.0,
            (to - from).max(1.5),
            escape(&row.name),
            first + 1,
            first + run
        );
        rest = &rest[run..];
    }
    let _ = writeln!(
        svg,
        "<text class=\"name end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        LEFT - 10.0,
        top + PITCH / 2.0 + 4.0,
        escape(&row.name)
    );
    svg
}
