//! The device service as a Debian package, with its unit, its configuration and its manual page.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::{Arguments, Made, VERSION};

/// A file of the package: where, what, and who may do what.
struct Entry<'e> {
    path: &'e str,
    content: &'e [u8],
    mode: u32,
}

macro_rules! packaged {
    ($name:literal) => {
        include_bytes!(concat!("../../../../../targets/device/package/", $name)).as_slice()
    };
}

macro_rules! document {
    ($name:literal) => {
        include_bytes!(concat!("../../../../../docs/", $name)).as_slice()
    };
}

/// Makes the package of a binary.
pub(super) fn make(arguments: &Arguments) -> Result<Made> {
    let shown = arguments.input.display();
    let binary = fs::read(&arguments.input).with_context(|| format!("{shown}: cannot be read"))?;
    let architecture = architecture(&binary)
        .with_context(|| format!("{shown}: not a 64-bit Linux binary for arm64 or amd64"))?;
    let glibc = newest_glibc(&binary).with_context(|| {
        format!("{shown}: names no version of glibc; the package could not say what it needs")
    })?;
    let name = format!("dynamaxd_{VERSION}_{architecture}.deb");
    let output = arguments.output.clone().unwrap_or_else(|| name.into());
    let staging = tempfile::tempdir().context("there is no place to put the package together")?;
    let maintainer = arguments.maintainer.clone().or_else(from_environment);
    let maintainer = maintainer.unwrap_or_else(|| "Dynamax <dynamax@localhost>".into());
    ensure!(
        maintainer.contains('<') && maintainer.ends_with('>') && !maintainer.contains('\n'),
        "--maintainer {maintainer}: expected \"Name <address>\""
    );
    let control = control(architecture, glibc, &maintainer, binary.len());
    stage(staging.path(), arguments, &binary, &control, &maintainer)?;
    let built = Command::new("dpkg-deb")
        .args(["--build", "--root-owner-group", "-Zxz"])
        .arg(staging.path())
        .arg(&output)
        .output()
        .context("dpkg-deb cannot be run; install dpkg")?;
    if !built.status.success() {
        bail!("dpkg-deb failed: {}", String::from_utf8_lossy(&built.stderr).trim());
    }
    Ok(Made {
        what: format!("{architecture}, glibc 2.{glibc} or later"),
        architecture: Some(architecture),
        version: VERSION.to_owned(),
        output,
    })
}

/// Debian's name for what an ELF file runs on.
fn architecture(binary: &[u8]) -> Option<&'static str> {
    let is_elf = binary.starts_with(b"\x7fELF\x02\x01");
    let machine = binary.get(18..20).filter(|_| is_elf)?;
    match u16::from_le_bytes([machine[0], machine[1]]) {
        0xb7 => Some("arm64"),
        0x3e => Some("amd64"),
        _ => None,
    }
}

/// The newest glibc 2.x whose symbols a binary names.
fn newest_glibc(binary: &[u8]) -> Option<u32> {
    let finder = memchr::memmem::Finder::new(b"GLIBC_2.");
    let minor = |at: usize| {
        let digits = binary[at + 8..].iter().take(4).take_while(|byte| byte.is_ascii_digit());
        digits.fold(None, |number: Option<u32>, digit| {
            Some(number.unwrap_or(0) * 10 + u32::from(digit - b'0'))
        })
    };
    finder.find_iter(binary).filter_map(minor).max()
}

/// Who makes packages, as Debian's tools are told.
fn from_environment() -> Option<String> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    Some(format!("{} <{}>", variable("DEBFULLNAME")?, variable("DEBEMAIL")?))
}

/// Puts the package's files in place.
fn stage(
    folder: &Path,
    arguments: &Arguments,
    binary: &[u8],
    control: &str,
    maintainer: &str,
) -> Result<()> {
    let config = String::from_utf8_lossy(packaged!("device.toml"));
    let config = config.replace("board = \"generic\"", &format!("board = \"{}\"", arguments.board));
    let manual = gzip(packaged!("dynamaxd.1"))?;
    let changes = gzip(changes(maintainer)?.as_bytes())?;
    let entry = |path, content, mode| Entry { path, content, mode };
    let entries = [
        entry("usr/bin/dynamaxd", binary, 0o755),
        entry("lib/systemd/system/dynamaxd.service", packaged!("dynamaxd.service"), 0o644),
        entry("etc/dynamax/device.toml", config.as_bytes(), 0o644),
        entry("usr/share/man/man1/dynamaxd.1.gz", &manual, 0o644),
        entry("usr/share/doc/dynamaxd/changelog.gz", &changes, 0o644),
        entry("usr/share/doc/dynamaxd/device.md", document!("device.md"), 0o644),
        entry("usr/share/doc/dynamaxd/device-toml.md", document!("device-toml.md"), 0o644),
        entry(
            "usr/share/doc/dynamaxd/copyright",
            include_bytes!("../../../../../LICENSE-MIT"),
            0o644,
        ),
        entry("DEBIAN/control", control.as_bytes(), 0o644),
        entry("DEBIAN/conffiles", b"/etc/dynamax/device.toml\n", 0o644),
        entry("DEBIAN/postinst", packaged!("postinst"), 0o755),
        entry("DEBIAN/prerm", packaged!("prerm"), 0o755),
        entry("DEBIAN/postrm", packaged!("postrm"), 0o755),
    ];
    // The folder of a temporary directory is its owner's alone; that of a package is everybody's.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).context("the package")?;
    for Entry { path, content, mode } in entries {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(folder);
        let written = fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, content))
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)));
        written.with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    Ok(())
}

fn control(architecture: &str, glibc: u32, maintainer: &str, binary_bytes: usize) -> String {
    format!(
        "Package: dynamaxd\nVersion: {VERSION}\nArchitecture: {architecture}\nMaintainer: {maintainer}\n\
         Installed-Size: {}\nDepends: libc6 (>= 2.{glibc}), libgcc-s1, passwd, procps\nSection: net\n\
         Priority: optional\n\
         Description: language models inside a memory, energy and latency budget\n \
         The device service of Dynamax: answers over HTTP from a signed bundle in one of\n two slots.\n",
        binary_bytes.div_ceil(1024) + 64
    )
}

/// What Debian's tools read the history of a package from.
fn changes(maintainer: &str) -> Result<String> {
    let mut date = Command::new("date");
    date.args(["--rfc-email", "--utc"]);
    if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") {
        date.arg(format!("--date=@{epoch}"));
    }
    let said = date.output().context("date cannot be run; install coreutils")?;
    ensure!(said.status.success(), "date failed: {}", String::from_utf8_lossy(&said.stderr));
    let date = String::from_utf8_lossy(&said.stdout);
    Ok(format!(
        "dynamaxd ({VERSION}) unstable; urgency=medium\n\n  * Packaged by dynamax {VERSION}.\n\n -- {maintainer}  {}\n",
        date.trim()
    ))
}

/// As Debian wants its documents: as small as can be, and the same every time.
fn gzip(content: &[u8]) -> Result<Vec<u8>> {
    let mut command = Command::new("gzip");
    command.args(["-9", "-n"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().context("gzip cannot be run; install gzip")?;
    // A page or two: less than a pipe holds.
    child.stdin.take().context("gzip")?.write_all(content).context("gzip")?;
    let output = child.wait_with_output().context("gzip")?;
    ensure!(output.status.success(), "gzip failed");
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_glibc_is_a_number_and_not_a_text() {
        assert_eq!(
            newest_glibc(b"\0GLIBC_2.4\0GLIBC_2.31\0GLIBC_2.17\0"),
            Some(31),
            "31 of 4, 31, 17"
        );
        assert_eq!(newest_glibc(b"GLIBC_2."), None, "no number at the end");
        assert_eq!(newest_glibc(b"GLIBC_PRIVATE"), None, "none");
    }
}
