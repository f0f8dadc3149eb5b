//! The power mode that a Jetson is in, as `nvpmodel` left it: `/var/lib/nvpmodel/status` holds `pmode:0002`.

use std::path::Path;

use super::files::text;

/// The number of the power mode, below `root`, which is `/` on a machine; `None` where there are no modes.
#[must_use]
pub fn power_mode(root: &Path) -> Option<u32> {
    let status = text(&root.join("var/lib/nvpmodel/status"))?;
    let number = status.split_once("pmode:")?.1;
    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..digits].parse().ok()
}
