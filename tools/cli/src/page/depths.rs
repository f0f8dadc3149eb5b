//! A name and a colour for each depth.

use std::fmt::Write;

use crate::tint;

/// The depths, with their colours.
pub(crate) fn legend(segments: usize) -> String {
    let mut html = String::from("<ul class=\"legend\">\n");
    for exit in 0..segments {
        let _ = writeln!(
            html,
            "<li><span class=\"swatch\" style=\"background:{}\"></span>{}</li>",
            colour(exit, segments),
            exit_name(exit, segments)
        );
    }
    html + "</ul>\n"
}

/// "exit 1", …, "full depth".
pub(crate) fn exit_name(exit: usize, segments: usize) -> String {
    if exit + 1 == segments { "full depth".into() } else { format!("exit {}", exit + 1) }
}

/// The page's colour for full depth, mixed with the ramp's strongest by how early the exit is.
pub(crate) fn colour(exit: usize, segments: usize) -> String {
    let strength = tint::strength(exit as u16, segments);
    if strength <= 0.0 {
        return "var(--depth-full)".into();
    }
    format!("color-mix(in oklab, var(--depth-early) {:.0}%, var(--depth-late))", 100.0 * strength)
}

/// Which ink can be read on that colour.
pub(crate) fn ink(exit: usize, segments: usize) -> &'static str {
    if tint::strength(exit as u16, segments) > 0.5 { "on-strong" } else { "on-weak" }
}
