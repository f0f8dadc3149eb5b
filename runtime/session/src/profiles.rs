//! Profiles: where they lie, and which is believed.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use dynamax_bundle::Hash;
use dynamax_config::Profile;

/// Where a bundle's profile is looked for: `m.profile.toml` beside `m.dmx`.
#[must_use]
pub fn place(bundle: &Path) -> PathBuf {
    bundle.with_extension("profile.toml")
}

/// Reads the profile of the bundle with this hash, as this backend runs it.
///
/// # Errors
///
/// A file that is no profile, or one of another bundle or backend.
pub fn read(path: &Path, bundle: Hash, backend: &str) -> Result<Profile> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{shown}: cannot be read as a profile"))?;
    let profile = parse(&shown.to_string(), &text)?;
    let hash = bundle.to_string();
    ensure!(
        profile.bundle == hash,
        "{shown}: a profile of another bundle ({:.12}…, not {hash:.12}…): measure this one with dynamax profile",
        profile.bundle
    );
    ensure!(
        profile.backend == backend,
        "{shown}: a profile of backend {}, and {backend} runs: measure it with dynamax profile --backend {backend}",
        profile.backend
    );
    Ok(profile)
}

/// The profile beside a bundle. One of another bundle, which may have been there before, or of another board or
/// backend counts as none.
///
/// # Errors
///
/// A file that is no profile.
pub fn beside(
    bundle: &Path,
    hash: Hash,
    (board, backend): (&str, &str),
) -> Result<Option<Profile>> {
    let path = place(bundle);
    let shown = path.display().to_string();
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read.with_context(|| format!("{shown}: cannot be read as a profile"))?,
    };
    let profile = parse(&shown, &text)?;
    let is_of_this =
        profile.bundle == hash.to_string() && profile.board == board && profile.backend == backend;
    Ok(is_of_this.then_some(profile))
}

/// Profiles change with what is measured: one that another version wrote must be made anew.
fn parse(shown: &str, text: &str) -> Result<Profile> {
    Profile::from_text(shown, text)
        .context("no profile that this version reads: measure again with dynamax profile")
}
