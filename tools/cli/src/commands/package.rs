//! `dynamax package`: the device service as a Debian package, with its unit and configuration.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Serialize;

use super::print_json;

/// Make a Debian package of the device service.
#[derive(Args, Debug)]
#[command(after_help = "\
The package has dynamaxd, its systemd unit, a configuration that upgrades leave alone, and a user of its own; the service
starts once a bundle is flashed. It needs dpkg-deb on this machine.

Example:
  cargo xtask cross --board jetson-orin-nano-8gb
  dynamax package target/aarch64-unknown-linux-gnu/board/dynamaxd --board jetson-orin-nano-8gb")]
pub(crate) struct Arguments {
    /// The service's binary, built for the device.
    binary: PathBuf,
    /// The board that the configuration names.
    #[arg(long, default_value = "generic")]
    board: String,
    /// The oldest glibc that the binary runs on, as `cargo xtask cross` says it.
    #[arg(long, default_value = "2.31")]
    glibc: String,
    /// The package; by default its usual name, here.
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    output: String,
    architecture: &'static str,
    version: &'static str,
    bytes: u64,
}

/// A file of the package: where, what, and who may do what.
struct Entry<'e> {
    path: &'e str,
    content: &'e [u8],
    mode: u32,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

macro_rules! packaged {
    ($name:literal) => {
        include_str!(concat!("../../../../targets/device/package/", $name))
    };
}

macro_rules! document {
    ($name:literal) => {
        include_bytes!(concat!("../../../../docs/", $name))
    };
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let shown = arguments.binary.display();
    let binary = fs::read(&arguments.binary)
        .with_context(|| format!("{shown}: cannot be read; build it with `cargo xtask cross`"))?;
    let architecture = architecture(&binary)
        .with_context(|| format!("{shown}: not a 64-bit Linux binary for arm64 or amd64"))?;
    crate::board::named(&arguments.board)?;
    let is_version = arguments.glibc.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    ensure!(is_version, "--glibc {}: expected a version like 2.31", arguments.glibc);
    let name = format!("dynamaxd_{VERSION}_{architecture}.deb");
    let output = arguments.output.clone().unwrap_or_else(|| name.into());
    let staging = tempfile::tempdir().context("there is no place to put the package together")?;
    stage(staging.path(), arguments, &binary, architecture)?;
    let built = Command::new("dpkg-deb")
        .args(["--build", "--root-owner-group", "-Zxz"])
        .arg(staging.path())
        .arg(&output)
        .output()
        .context("dpkg-deb cannot be run; install dpkg")?;
    if !built.status.success() {
        bail!("dpkg-deb failed: {}", String::from_utf8_lossy(&built.stderr).trim());
    }
    let bytes = fs::metadata(&output).with_context(|| output.display().to_string())?.len();
    let output = output.display().to_string();
    let report = Report { output, architecture, version: VERSION, bytes };
    if arguments.json {
        return print_json(&report);
    }
    println!("{}: {architecture}, {}", report.output, dynamax_config::show_bytes(bytes));
    Ok(())
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

/// Puts the package's files in place.
fn stage(folder: &Path, arguments: &Arguments, binary: &[u8], architecture: &str) -> Result<()> {
    let config = packaged!("device.toml")
        .replace("board = \"generic\"", &format!("board = \"{}\"", arguments.board));
    let control = control(architecture, &arguments.glibc, binary.len());
    let entries = [
        Entry { path: "usr/bin/dynamaxd", content: binary, mode: 0o755 },
        Entry {
            path: "lib/systemd/system/dynamaxd.service",
            content: packaged!("dynamaxd.service").as_bytes(),
            mode: 0o644,
        },
        Entry { path: "etc/dynamax/device.toml", content: config.as_bytes(), mode: 0o644 },
        Entry {
            path: "usr/share/doc/dynamaxd/device.md",
            content: document!("device.md"),
            mode: 0o644,
        },
        Entry {
            path: "usr/share/doc/dynamaxd/device-toml.md",
            content: document!("device-toml.md"),
            mode: 0o644,
        },
        Entry {
            path: "usr/share/doc/dynamaxd/copyright",
            content: include_bytes!("../../../../LICENSE-MIT"),
            mode: 0o644,
        },
        Entry { path: "DEBIAN/control", content: control.as_bytes(), mode: 0o644 },
        Entry { path: "DEBIAN/conffiles", content: b"/etc/dynamax/device.toml\n", mode: 0o644 },
        Entry { path: "DEBIAN/postinst", content: packaged!("postinst").as_bytes(), mode: 0o755 },
        Entry { path: "DEBIAN/prerm", content: packaged!("prerm").as_bytes(), mode: 0o755 },
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

fn control(architecture: &str, glibc: &str, binary_bytes: usize) -> String {
    format!(
        "Package: dynamaxd\nVersion: {VERSION}\nArchitecture: {architecture}\nMaintainer: Dynamax <dynamax@localhost>\n\
         Installed-Size: {}\nDepends: libc6 (>= {glibc}), libgcc-s1, passwd\nSection: net\nPriority: optional\n\
         Description: language models inside a memory, energy and latency budget\n \
         The device service of Dynamax: answers over HTTP from a signed bundle in one of\n two slots.\n",
        binary_bytes.div_ceil(1024) + 64
    )
}
