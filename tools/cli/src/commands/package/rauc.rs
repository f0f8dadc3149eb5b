//! A bundle for devices that RAUC updates: the same file that `dynamax flash` sends, and a handler that puts it into a slot.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use dynamax_session::Source;

use super::{Arguments, Made};

/// Run by RAUC on the device.
const HANDLER: &str = "\
#!/bin/sh
# The bundle goes into the slot of dynamaxd's that does not run, and is checked there like one that is flashed.
set -e
dynamaxd slot install \"$RAUC_BUNDLE_MOUNT_POINT/model.dmx\"
if [ -d /run/systemd/system ]; then
    systemctl reload-or-restart dynamaxd.service
fi
";

/// Makes RAUC's bundle of ours.
pub(super) fn make(arguments: &Arguments) -> Result<Made> {
    let input = &arguments.input;
    let source = Source::open(input)?;
    let bundle = source.verified()?;
    let (Some(certificate), Some(key)) = (&arguments.certificate, &arguments.key) else {
        bail!(
            "{}: RAUC's devices run what is signed; give --certificate and --key",
            input.display()
        )
    };
    let counter = bundle.signature().map_or(0, |signature| signature.counter);
    let output = arguments.output.clone().unwrap_or_else(|| input.with_extension("raucb"));
    ensure!(!output.exists(), "{}: is there already; remove it", output.display());
    let compatible = arguments.compatible.as_deref().unwrap_or(&arguments.board);
    let is_line = !compatible.is_empty() && !compatible.contains(['\n', '\r']);
    ensure!(is_line, "--compatible {compatible:?}: expected the one in the devices' system.conf");
    let manifest = format!(
        "[update]\ncompatible={compatible}\nversion={counter}\ndescription={}\n\n[bundle]\nformat=verity\n\n\
         [handler]\nfilename=install\n",
        bundle.hash()
    );
    let staging = beside(&output)?;
    let content = staging.path().join("content");
    fs::create_dir(&content).context("the content")?;
    fs::write(content.join("manifest.raucm"), manifest).context("the manifest")?;
    fs::write(content.join("install"), HANDLER).context("the handler")?;
    fs::set_permissions(content.join("install"), fs::Permissions::from_mode(0o755))?;
    let model = content.join("model.dmx");
    // A large file is linked where it can be.
    fs::hard_link(input, &model)
        .or_else(|_| fs::copy(input, &model).map(drop))
        .with_context(|| format!("{}: cannot be copied", input.display()))?;
    let built = Command::new("rauc")
        .arg("bundle")
        .arg(format!("--cert={}", certificate.display()))
        .arg(format!("--key={}", key.display()))
        .args([&content, &output])
        .output()
        .context("rauc cannot be run; install rauc")?;
    if !built.status.success() {
        bail!("rauc failed: {}", String::from_utf8_lossy(&built.stderr).trim());
    }
    let what = format!("for RAUC, compatible {compatible}, version {counter}");
    Ok(Made { what, architecture: None, version: counter.to_string(), output })
}

/// A folder on the same file system as the result.
fn beside(output: &Path) -> Result<tempfile::TempDir> {
    let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty());
    tempfile::tempdir_in(parent.unwrap_or(Path::new(".")))
        .with_context(|| format!("{}: nothing can be written beside it", output.display()))
}
