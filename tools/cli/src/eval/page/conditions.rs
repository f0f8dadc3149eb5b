//! What was measured, and where.

use std::fmt::Write;

use super::escape;
use crate::eval::report::Conditions;

pub(super) fn conditions(conditions: &Conditions) -> String {
    let threads = conditions.threads.to_string();
    let rows = [
        ("bundle", conditions.bundle.as_str()),
        ("bundle BLAKE3", &conditions.bundle_hash),
        ("model", &conditions.model),
        ("data", &conditions.data),
        ("data BLAKE3", &conditions.data_hash),
        ("machine", &conditions.machine),
        ("instruction set", conditions.isa),
        ("threads", &threads),
    ];
    let mut html = String::from("<dl>\n");
    for (name, value) in rows {
        let _ = writeln!(html, "<dt>{name}</dt><dd>{}</dd>", escape(value));
    }
    html + "</dl>\n<p class=\"note\">Savings are counted over weights, against full depth in the same run. Tokens, scores \
            and agreement are the same on every machine; times are this machine's.</p>\n"
}
