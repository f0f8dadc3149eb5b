//! Progress bars: on a terminal, and nothing of the kind in a pipe.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over `bytes`, with speed and time left.
pub(crate) fn bytes(len: u64, what: &str) -> ProgressBar {
    bar(len, what, "{msg} {wide_bar:.cyan/dim} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
}

/// A bar over `steps`, with a message at its end.
pub(crate) fn steps(len: u64, what: &str) -> ProgressBar {
    bar(len, what, "{prefix} {wide_bar:.cyan/dim} {pos}/{len} {msg} {eta}")
        .with_prefix(what.to_owned())
}

fn bar(len: u64, what: &str, template: &str) -> ProgressBar {
    // indicatif draws to a terminal on stderr only.
    let bar = ProgressBar::with_draw_target(Some(len), ProgressDrawTarget::stderr());
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.progress_chars("━╸─"));
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
