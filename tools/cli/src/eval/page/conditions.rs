//! What was measured, and where.

use crate::eval::report::Conditions;
use crate::page::definitions;

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
    definitions(&rows)
        + "<p class=\"note\">Savings are counted over weights, against full depth in the same run. Tokens, scores \
            and agreement are the same on every machine; times are this machine's.</p>\n"
}
