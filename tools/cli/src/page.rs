//! HTML pages: nothing is loaded from elsewhere, and they can be read in light, in dark, and on paper.
//!
//! Pictures are SVG whose colours come from the page's style, so that one picture serves every scheme.

mod depths;
mod scale;
mod text;

use std::fmt::Write;

pub(crate) use depths::{colour, exit_name, ink, legend};
pub(crate) use scale::Scale;
#[cfg(test)]
pub(crate) use text::Piece;
pub(crate) use text::{Sample, pieces, said};

const STYLE: &str = include_str!("page/style.css");

/// A page of these sections.
pub(crate) fn document(title: &str, sections: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{sections}</main>\n</body>\n</html>\n",
        escape(title),
    )
}

/// A section under its title.
pub(crate) fn section(title: &str, body: &str) -> String {
    format!("<section>\n<h2>{}</h2>\n{body}</section>\n", escape(title))
}

/// A number that matters.
pub(crate) fn card(name: &str, number: &str, note: &str) -> String {
    format!(
        "<div class=\"card\"><span class=\"name\">{}</span><strong>{}</strong><span class=\"note\">{}</span></div>\n",
        escape(name),
        escape(number),
        escape(note)
    )
}

/// Names and what they stand for.
pub(crate) fn definitions(rows: &[(&str, &str)]) -> String {
    let mut html = String::from("<dl>\n");
    for (name, value) in rows {
        let _ = writeln!(html, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
    }
    html + "</dl>\n"
}

/// A share, of 1, as a percentage.
pub(crate) fn percent(share: f64) -> String {
    // Rounded first, and then 0 added: not "-0.0 %".
    format!("{:.1} %", (share * 1000.0).round() / 10.0 + 0.0)
}

/// Text as HTML shows it.
pub(crate) fn escape(text: &str) -> String {
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

/// What every page must be: closed, escaped, made of numbers, and sufficient to itself.
#[cfg(test)]
pub(crate) fn assert_is_sound(page: &str) {
    let tags = "svg section g text figure table tr td span ul li dl dd path title div p";
    for tag in tags.split(' ') {
        let opened =
            page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        let start = format!("<{tag} ");
        let alone = page
            .match_indices(&start)
            .filter(|(at, _)| page[*at..].split('>').next().is_some_and(|tag| tag.ends_with('/')));
        let closed = page.matches(&format!("</{tag}>")).count() + alone.count();
        assert_eq!(opened, closed, "<{tag}>");
    }
    for outside in ["http:", "https:", "src=", "@import", "url(", "<script"] {
        assert!(!page.contains(outside), "{outside} loads something");
    }
    assert!(!page.contains("NaN") && !page.contains("inf"), "every place is a number");
}
