//! `cargo xtask cross [--board NAME] [--linker zig|gcc] [--cli]`: the device service, for a board.
//!
//! With `cargo-zigbuild` the binary runs on glibc 2.31 and later (JetPack 5, Debian 11); with the cross compiler of Debian it
//! needs what that was built against. Either way, what it needs is read from the binary and said.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::service::target_folder;
use crate::tidy::root;

const TARGET: &str = "aarch64-unknown-linux-gnu";
const USAGE: &str = "usage: cargo xtask cross [--board NAME] [--linker zig|gcc] [--cli]";
/// What `cargo-zigbuild` is asked for: the glibc of JetPack 5.
const OLDEST_GLIBC: &str = "2.31";
/// The glibc of JetPack 6.
const JETPACK_6: (u32, u32) = (2, 35);

/// What is to be built.
struct Wanted {
    board: String,
    /// Whose linker; by default zig's where it is installed.
    has_zig: bool,
    /// The command line, too.
    has_cli: bool,
}

impl Wanted {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut wanted = Self { board: "generic".into(), has_zig: is_there(), has_cli: false };
        let mut rest = arguments.iter();
        while let Some(flag) = rest.next() {
            match (flag.as_str(), rest.as_slice().first().map(String::as_str)) {
                ("--cli", _) => {
                    wanted.has_cli = true;
                    continue;
                }
                ("--board", Some(name)) => name.clone_into(&mut wanted.board),
                ("--linker", Some(name @ ("zig" | "gcc"))) => wanted.has_zig = name == "zig",
                _ => bail!(USAGE),
            }
            rest.next();
        }
        Ok(wanted)
    }
}

fn is_there() -> bool {
    Command::new("cargo-zigbuild").arg("--version").output().is_ok()
}

/// Builds, and says what came of it.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let wanted = Wanted::parse(arguments)?;
    let cpu = cpu(&wanted.board)?;
    let packages = if wanted.has_cli { &["dynamaxd", "dynamax"][..] } else { &["dynamaxd"] };
    let (verb, target) = if wanted.has_zig {
        ("zigbuild", format!("{TARGET}.{OLDEST_GLIBC}"))
    } else {
        ("build", TARGET.to_owned())
    };
    for package in packages {
        let mut command = Command::new("cargo");
        command.args([verb, "--profile", "board", "-p", package, "--target", &target]);
        if let Some(cpu) = cpu {
            command.env("RUSTFLAGS", format!("-Ctarget-cpu={cpu}"));
        }
        println!(
            "$ cargo {verb} --profile board -p {package} --target {target}, cpu {}",
            cpu.unwrap_or("any")
        );
        let status = command.current_dir(root()).status().context("cargo cannot be run")?;
        ensure!(status.success(), "cargo {verb} failed");
        report(&binary(package))?;
    }
    Ok(())
}

/// Where a binary is.
pub(crate) fn binary(package: &str) -> PathBuf {
    target_folder().join(TARGET).join("board").join(package)
}

/// The compiler's name for a board's cores; none for what runs on any.
fn cpu(board: &str) -> Result<Option<&'static str>> {
    let known = root().join("targets/boards").join(format!("{board}.toml"));
    ensure!(known.exists(), "--board {board}: not known; see targets/boards");
    Ok(match board {
        "generic" => None,
        "raspberry-pi-5-8gb" => Some("cortex-a76"),
        _ if board.contains("orin") => Some("cortex-a78ae"),
        _ if board.contains("xavier") => Some("carmel"),
        _ => {
            bail!("--board {board}: its cores are not known to tools/xtask/src/cross.rs; add them")
        }
    })
}

fn report(path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let (major, minor) = newest_glibc(&bytes).context("the binary names no version of glibc")?;
    let runs_on = match (major, minor) {
        needed if needed <= (2, 31) => "JetPack 5 and 6, Debian 11 and later",
        needed if needed <= JETPACK_6 => {
            "JetPack 6, Debian 12 and later; for JetPack 5 install cargo-zigbuild"
        }
        _ => bail!(
            "the binary needs glibc {major}.{minor}, JetPack 6 has 2.35; install cargo-zigbuild"
        ),
    };
    println!("{}", path.display());
    println!(
        "{:.1} MB ({} bytes); needs glibc {major}.{minor}: {runs_on}",
        bytes.len() as f64 / 1e6,
        bytes.len()
    );
    Ok(())
}

/// The newest version of glibc whose symbols a binary names.
fn newest_glibc(bytes: &[u8]) -> Option<(u32, u32)> {
    const PREFIX: &[u8] = b"GLIBC_2.";
    let names = bytes.windows(PREFIX.len()).enumerate().filter(|(_, name)| *name == PREFIX);
    let minor = |(at, _): (usize, &[u8])| {
        let digits = bytes[at + PREFIX.len()..].iter().take_while(|byte| byte.is_ascii_digit());
        digits.fold(None, |number: Option<u32>, digit| {
            number.unwrap_or(0).checked_mul(10)?.checked_add(u32::from(digit - b'0'))
        })
    };
    names.filter_map(minor).max().map(|minor| (2, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_found() {
        let bytes = b"\0GLIBC_2.17\0GLIBC_2.34\0GLIBC_2.4\0GLIBC_PRIVATE\0GLIBC_2.";
        assert_eq!(newest_glibc(bytes), Some((2, 34)), "34 is more than 4 and 17");
        assert_eq!(newest_glibc(b"static"), None, "none");
    }

    #[test]
    fn flags_are_understood() {
        let parse = |line: &str| {
            let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            Wanted::parse(&arguments).map(|wanted| (wanted.board, wanted.has_zig, wanted.has_cli))
        };
        assert_eq!(parse("").unwrap(), ("generic".into(), is_there(), false), "nothing");
        let all = parse("--cli --linker gcc --board x --linker zig").unwrap();
        assert_eq!(all, ("x".into(), true, true), "the last linker");
        for wrong in ["--board", "--linker ld", "x", "--linker"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_board_has_its_cores() {
        for file in std::fs::read_dir(root().join("targets/boards")).unwrap() {
            let path = file.unwrap().path();
            let board = path.file_stem().unwrap().to_str().unwrap();
            assert!(cpu(board).is_ok(), "{board}");
        }
        assert!(cpu("toaster").is_err(), "no board");
    }
}
