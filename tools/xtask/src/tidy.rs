//! Our own rules, as code: what no compiler checks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The workspace's folder.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// Which of our crates each may use. Dependencies point one way: host-only code never enters the runtime.
const ALLOWED: [(&str, &[&str]); 15] = [
    ("dynamax-bundle", &[]),
    ("dynamax-plan", &[]),
    ("dynamax-kernels", &[]),
    ("dynamax-engine", &["dynamax-bundle", "dynamax-plan", "dynamax-kernels"]),
    ("dynamax-governor", &[]),
    ("dynamax-config", &["dynamax-governor"]),
    (
        "dynamax-session",
        &[
            "dynamax-bundle",
            "dynamax-kernels",
            "dynamax-engine",
            "dynamax-governor",
            "dynamax-config",
        ],
    ),
    ("dynamax-slots", &["dynamax-bundle"]),
    ("dynamax-burn", &["dynamax-bundle", "dynamax-plan", "dynamax-kernels", "dynamax-engine"]),
    ("dynamax-wgpu", &["dynamax-bundle", "dynamax-kernels", "dynamax-engine"]),
    (
        "dynamax-models",
        &["dynamax-bundle", "dynamax-plan", "dynamax-kernels", "dynamax-engine", "dynamax-burn"],
    ),
    (
        "dynamax-tests",
        &[
            "dynamax-bundle",
            "dynamax-plan",
            "dynamax-kernels",
            "dynamax-engine",
            "dynamax-governor",
        ],
    ),
    (
        "dynamax",
        &[
            "dynamax-bundle",
            "dynamax-plan",
            "dynamax-kernels",
            "dynamax-engine",
            "dynamax-governor",
            "dynamax-config",
            "dynamax-session",
            "dynamax-slots",
            "dynamax-burn",
            "dynamax-models",
            "dynamax-wgpu",
        ],
    ),
    (
        "dynamaxd",
        &[
            "dynamax-bundle",
            "dynamax-engine",
            "dynamax-governor",
            "dynamax-config",
            "dynamax-session",
            "dynamax-slots",
            "dynamax-burn",
            "dynamax-wgpu",
        ],
    ),
    ("xtask", &[]),
];

/// Crates that never see Burn.
const WITHOUT_BURN: [&str; 11] = [
    "dynamax-bundle",
    "dynamax-plan",
    "dynamax-kernels",
    "dynamax-engine",
    "dynamax-governor",
    "dynamax-config",
    "dynamax-session",
    "dynamax-slots",
    "dynamax-wgpu",
    "dynamaxd",
    "dynamax-tests",
];

/// What the top level holds, besides dot files.
const TOP_LEVEL: [&str; 14] = [
    "Cargo.toml",
    "Cargo.lock",
    "clippy.toml",
    "rustfmt.toml",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "README.md",
    "docs",
    "runtime",
    "models",
    "targets",
    "tools",
    "tests",
    "GLOSSARY.md",
];

/// Words that must not be left in code, with what to do instead.
const BANNED: [(&str, &str); 4] = [
    ("todo!(", "write it"),
    ("unimplemented!(", "write it"),
    ("dbg!(", "remove it"),
    ("#[ignore", "assert the behaviour there is"),
];

/// No file is longer than the longest, which is a table of operators with their documentation.
const MOST_LINES: usize = 510;

/// A rule: what of it is broken.
type Rule = fn() -> Result<Vec<String>>;

pub(crate) fn run() -> Result<()> {
    let rules: [(&str, Rule); 4] = [
        ("dependencies", dependencies),
        ("top level", top_level),
        ("links", links),
        ("code", code),
    ];
    let mut broken = Vec::new();
    for (name, rule) in rules {
        broken.extend(rule()?.into_iter().map(|what| format!("{name}: {what}")));
    }
    for what in &broken {
        eprintln!("{what}");
    }
    ensure!(broken.is_empty(), "{} rules broken", broken.len());
    Ok(())
}

/// Every dependency between our crates is allowed, and the runtime does not reach Burn.
fn dependencies() -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for (package, manifest) in manifests()? {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package) else {
            broken.push(format!(
                "{package}: not in the table of tools/xtask/src/tidy.rs; say what it may use"
            ));
            continue;
        };
        for used in normal_dependencies(&manifest) {
            let ours = ALLOWED.iter().any(|(name, _)| *name == used);
            if ours && !allowed.contains(&used.as_str()) {
                broken.push(format!("{package} must not use {used}"));
            }
            if used.starts_with("burn") && WITHOUT_BURN.contains(&package.as_str()) {
                broken.push(format!("{package} must not use Burn"));
            }
        }
    }
    Ok(broken)
}

/// Every package of the workspace with the text of its manifest.
fn manifests() -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for path in tracked(&["*Cargo.toml"])? {
        let text = std::fs::read_to_string(root().join(&path))?;
        let name = text
            .lines()
            .find_map(|line| line.strip_prefix("name = \""))
            .map(|name| name.trim_end_matches('"'));
        let own_workspace = text.lines().any(|line| line.trim() == "[workspace]");
        if let (Some(name), false) = (name, own_workspace) {
            found.insert(name.to_owned(), text.clone());
        }
    }
    Ok(found)
}

/// Names in `[dependencies]`: what is linked into the crate itself.
fn normal_dependencies(manifest: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside && let Some(end) = line.find(['.', '=', ' ']) {
            names.insert(line[..end].to_owned());
        }
    }
    names
}

fn top_level() -> Result<Vec<String>> {
    let tracked = tracked(&[])?;
    let first: BTreeSet<_> = tracked
        .iter()
        .filter_map(|path| path.iter().next())
        .map(|part| part.to_string_lossy())
        .collect();
    let stray = first
        .into_iter()
        .filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_ref()));
    Ok(stray.map(|name| format!("{name} does not belong there")).collect())
}

/// Every relative link in a Markdown file leads to a file.
fn links() -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for path in tracked(&["*.md"])? {
        let text = std::fs::read_to_string(root().join(&path))?;
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or(target);
            let elsewhere = target.contains("://") || target.starts_with('#') || file.is_empty();
            let folder = root().join(&path).parent().map(Path::to_path_buf).unwrap_or_default();
            if !elsewhere && !folder.join(file).exists() {
                broken.push(format!("{}: {target} leads nowhere", path.display()));
            }
        }
    }
    Ok(broken)
}

fn code() -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for path in tracked(&["*.rs"])? {
        if path.ends_with("tools/xtask/src/tidy.rs") {
            continue;
        }
        let text = std::fs::read_to_string(root().join(&path))?;
        for (word, instead) in BANNED {
            if text.contains(word) {
                broken.push(format!("{}: {word}: {instead}", path.display()));
            }
        }
        let lines = text.lines().count();
        if lines > MOST_LINES {
            broken
                .push(format!("{}: {lines} lines, at most {MOST_LINES}: split it", path.display()));
        }
    }
    Ok(broken)
}

/// Files that git knows, or would add.
fn tracked(patterns: &[&str]) -> Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard", "--"])
        .args(patterns)
        .current_dir(root());
    let output = git.output().context("git cannot be run")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let files = String::from_utf8(output.stdout)?;
    Ok(files.lines().map(PathBuf::from).filter(|path| root().join(path).exists()).collect())
}
