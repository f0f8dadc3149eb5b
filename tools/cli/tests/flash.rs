//! `dynamax flash` and `dynamax package`: into directories, images, and over a stand-in for SSH that runs its command on this machine.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dynamax_slots::{Directory, Slots};
use serde_json::Value;
use tempfile::TempDir;

/// A workstation with a device at the other end of a cable.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: TempDir::new().unwrap() };
        // Everything in front of the command is for ssh; "break" ends the connection before its end.
        bench.script("ssh", "while [ \"$1\" != -- ]; do shift; done\nshift\nexec sh -c \"$*\"\n");
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dynamax"));
        command.args(arguments).env("DYNAMAX_SSH", self.path("ssh"));
        command.output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn refused(&self, status: i32, words: &str, arguments: &[&str]) {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {error}");
        assert!(error.contains(words), "{arguments:?} says {error:?}, not {words:?}");
    }
}

fn demo(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo").join(name).display().to_string()
}

/// The file of a slot is this bundle.
fn holds(folder: &Path, file: &str, bundle: &str) -> bool {
    std::fs::read(folder.join(file)).unwrap() == std::fs::read(bundle).unwrap()
}

#[test]
fn an_older_bundle_replaces_a_newer_one_only_on_purpose() {
    let bench = Bench::new();
    let key = bench.path("key").display().to_string();
    bench.json(&["keygen", "-o", &key]);
    let signed = |counter: &str| {
        let path = bench.path(&format!("{counter}.dmx")).display().to_string();
        let demo = demo("mamba2.dmx");
        bench.json(&["sign", &demo, "--key", &key, "--counter", counter, "-o", &path]);
        path
    };
    let (six, seven) = (signed("6"), signed("7"));
    // A directory, and a device that has only a shell.
    for to in [bench.path("slots"), bench.path("device")] {
        let shown = to.display();
        let to_shell = format!("ssh://drone{shown}");
        let to_folder = shown.to_string();
        let to_flag = if to.ends_with("device") { &to_shell } else { &to_folder };
        bench.json(&["flash", &seven, "--to", to_flag]);
        let mut slots = Slots::new(Directory::at(&to));
        bench.json(&["flash", &six, "--to", to_flag]);
        slots.rollback().unwrap();
        slots.confirm().unwrap();
        let words = "is version 6, and version 7 has run here";
        bench.refused(1, words, &["flash", &six, "--to", to_flag]);
        bench.refused(1, "is version 0", &["flash", &demo("mamba2.dmx"), "--to", to_flag]);
        assert_eq!(slots.state().unwrap().active_image().unwrap().counter, 7, "nothing was done");
        let done = bench.json(&["flash", &six, "--to", to_flag, "--allow-downgrade"]);
        assert_eq!(done["counter"], 6, "{done}");
    }
}

#[test]
fn a_directory_is_flashed_and_rolled_back() {
    let bench = Bench::new();
    let (one, two) = (demo("mamba2.dmx"), demo("transformer.dmx"));
    let slots = bench.path("slots");
    let to = slots.to_str().unwrap();
    bench.refused(1, "no bundle is there", &["flash", "--to", to, "--rollback"]);
    let done = bench.json(&["flash", &one, "--to", to]);
    assert_eq!((&done["slot"], &done["fallback"]), (&"a".into(), &Value::Null), "{done}");
    bench.refused(1, "only one with a bundle", &["flash", "--to", to, "--rollback"]);
    let done = bench.json(&["flash", &two, "--to", to]);
    assert_eq!((&done["slot"], &done["fallback"]), (&"b".into(), &"a".into()), "{done}");
    assert!(holds(&slots, "a.dmx", &one) && holds(&slots, "b.dmx", &two), "both are there");
    let status = bench.json(&["flash", "--to", to, "--status"]);
    assert_eq!((&status["active"], &status["trial_starts"]), (&"b".into(), &0.into()), "{status}");
    assert_eq!(status["b"]["hash"], done["hash"], "{status}");
    assert_eq!(bench.json(&["flash", "--to", to, "--rollback"])["active"], "a", "and back");
}

#[test]
fn what_cannot_run_there_is_not_written() {
    let bench = Bench::new();
    let (bundle, slots) = (demo("mamba2.dmx"), bench.path("slots"));
    let to = slots.to_str().unwrap();
    let flash = |more: &[&'static str]| {
        let fixed = ["flash", bundle.as_str(), "--to", to];
        [fixed.as_slice(), more].concat().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let refused = |status, words, more: &[&'static str]| {
        let arguments = flash(more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        bench.refused(status, words, &arguments);
        assert!(!slots.exists(), "nothing was made");
    };
    refused(1, "are missing", &["--memory", "1 MiB"]);
    refused(2, "there are", &["--board", "toaster"]);
    let (key, public) = (bench.path("k"), bench.path("k.pub"));
    bench.json(&["keygen", "-o", key.to_str().unwrap()]);
    let arguments = ["flash", &bundle, "--to", to, "--key", public.to_str().unwrap()];
    bench.refused(1, "is not signed", &arguments);
    let damaged = bench.path("damaged.dmx");
    let mut bytes = std::fs::read(&bundle).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&damaged, bytes).unwrap();
    let arguments = ["flash", damaged.to_str().unwrap(), "--to", to];
    bench.refused(2, "does not match its hash", &arguments);
    assert!(!slots.exists(), "nothing was made");
}

#[test]
fn a_device_with_nothing_but_a_shell_is_flashed() {
    let bench = Bench::new();
    let (one, two) = (demo("mamba2.dmx"), demo("transformer.dmx"));
    let slots = bench.path("it's a device");
    let to = format!("ssh://root@device:2222{}", slots.display());
    // A device without the service, although this machine may have it.
    bench.script("ssh", "while [ \"$1\" != -- ]; do shift; done\nshift\ncase \"$*\" in *dynamaxd*) exit 1;; esac\nexec sh -c \"$*\"\n");
    let done = bench.json(&["flash", &one, "--to", &to]);
    assert_eq!(done["slot"], "a", "{done}");
    let done = bench.json(&["flash", &two, "--to", &to]);
    assert_eq!((&done["slot"], &done["fallback"]), (&"b".into(), &"a".into()), "{done}");
    assert!(holds(&slots, "a.dmx", &one) && holds(&slots, "b.dmx", &two), "both are there");
    let status = bench.json(&["flash", "--to", &to, "--status"]);
    let local = bench.json(&["flash", "--to", slots.to_str().unwrap(), "--status"]);
    assert_eq!(status["b"], local["b"], "told the same through the shell: {status}");
    assert_eq!(bench.json(&["flash", "--to", &to, "--rollback"])["active"], "a", "and back");
}

#[test]
fn a_connection_that_breaks_is_made_again_and_a_wrong_copy_is_refused() {
    let bench = Bench::new();
    let (bundle, slots) = (demo("mamba2.dmx"), bench.path("slots"));
    let to = format!("ssh://device{}", slots.display());
    let broken = bench.path("broken");
    let no_service =
        "while [ \"$1\" != -- ]; do shift; done\nshift\ncase \"$*\" in *dynamaxd*) exit 1;; esac\n";
    let break_once = format!(
        "{no_service}case \"$*\" in cat\\ \\>\\>*a.dmx*) if [ ! -e {0} ]; then touch {0}; exit 255; fi;; esac\nexec sh -c \"$*\"\n",
        broken.display()
    );
    bench.script("ssh", &break_once);
    let done = bench.json(&["flash", &bundle, "--to", &to]);
    assert!(broken.exists() && done["slot"] == "a", "{done}");
    assert!(holds(&slots, "a.dmx", &bundle), "whole");

    bench.script("ssh", "exit 255\n");
    bench.refused(2, "device", &["flash", &bundle, "--to", &to]);
    let lie = format!(
        "{no_service}case \"$*\" in sha256sum*) echo 00; exit 0;; esac\nexec sh -c \"$*\"\n"
    );
    bench.script("ssh", &lie);
    bench.refused(1, "not what was sent", &["flash", &demo("transformer.dmx"), "--to", &to]);
    let status = bench.json(&["flash", "--to", slots.to_str().unwrap(), "--status"]);
    assert_eq!(status["active"], "a", "the one before: {status}");
}

#[test]
fn a_device_with_the_service_is_flashed() {
    let service = Path::new(env!("CARGO_BIN_EXE_dynamax")).with_file_name("dynamaxd");
    if !service.exists() {
        println!("skipped: dynamaxd is not built (cargo build --release -p dynamaxd)");
        return;
    }
    let bench = Bench::new();
    let config = bench.path("device.toml");
    let slots = bench.path("slots");
    let configure = |more: &str| {
        std::fs::write(&config, format!("[device]\n{more}\n[model]\nslots = {slots:?}\n")).unwrap();
    };
    configure("");
    let ssh = format!(
        "while [ \"$1\" != -- ]; do shift; done\nshift\ndynamaxd() {{ {} --config {} \"$@\"; }}\neval \"$*\"\n",
        service.display(),
        config.display()
    );
    bench.script("ssh", &ssh);
    let (one, two) = (demo("mamba2.dmx"), demo("transformer.dmx"));
    let done = bench.json(&["flash", &one, "--to", "ssh://device"]);
    assert_eq!(done["slot"], "a", "{done}");
    let done = bench.json(&["flash", &two, "--to", "ssh://device"]);
    assert_eq!((&done["slot"], &done["fallback"]), (&"b".into(), &"a".into()), "{done}");
    assert!(holds(&slots, "b.dmx", &two), "whole");
    assert_eq!(bench.json(&["flash", "--to", "ssh://device", "--rollback"])["active"], "a");
    configure("memory = \"1 MiB\"");
    bench.refused(1, "are missing", &["flash", &two, "--to", "ssh://device"]);
    let status = bench.json(&["flash", "--to", "ssh://device", "--status"]);
    assert_eq!(status["incoming"], Value::Null, "nothing was sent: {status}");
}

#[test]
fn an_image_holds_the_slots() {
    if Command::new("mke2fs").arg("-V").output().is_err() {
        println!("skipped: mke2fs is not here (e2fsprogs)");
        return;
    }
    let bench = Bench::new();
    let (bundle, image) = (demo("mamba2.dmx"), bench.path("data.img"));
    let to = image.to_str().unwrap();
    bench.json(&["flash", &bundle, "--to", to]);
    let out = bench.path("out.dmx");
    for (name, target) in [("a.dmx", &out), ("state", &bench.path("state"))] {
        let command = format!("dump /{name} {}", target.display());
        let output = Command::new("debugfs").args(["-R", &command, to]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(holds(bench.folder.path(), "out.dmx", &bundle), "the bundle is inside");
    let state = std::fs::read_to_string(bench.path("state")).unwrap();
    assert!(state.contains("active a"), "{state}");
    bench.refused(2, "is there already", &["flash", &bundle, "--to", to]);
    let status = bench.json(&["flash", "--to", to, "--status"]);
    assert_eq!((&status["active"], &status["b"]), (&"a".into(), &Value::Null), "{status}");
    let small = bench.path("small.img");
    let flash = ["flash", &bundle, "--to", small.to_str().unwrap(), "--size", "10 MiB"];
    bench.refused(2, "give at least 35.0 MiB", &flash);
    std::fs::write(&small, "no image").unwrap();
    bench.refused(2, "no slots are in it", &["flash", "--to", small.to_str().unwrap(), "--status"]);
}

#[test]
fn a_package_holds_the_service_and_what_belongs_to_it() {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        println!("skipped: dpkg-deb is not here (dpkg)");
        return;
    }
    let bench = Bench::new();
    // A small binary of this machine's stands in for the service: the package is compressed.
    let package = bench.path("d.deb");
    let (binary, to) = ("/bin/sh", package.to_str().unwrap());
    let board = "jetson-orin-nano-8gb";
    let said = bench.json(&["package", binary, "-o", to, "--board", board]);
    let expected = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    assert_eq!(said["architecture"], expected, "{said}");
    let ask = |arguments: &[&str]| {
        let output = Command::new("dpkg-deb").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let info = ask(&["--info", to]);
    assert!(info.contains("libc6 (>= 2.") && info.contains("conffiles"), "{info}");
    let list = ask(&["--contents", to]);
    let files = [
        "root/root",
        "./usr/bin/dynamaxd",
        "./lib/systemd/system/dynamaxd.service",
        "./usr/share/man/man1/dynamaxd.1.gz",
    ];
    for line in files {
        assert!(list.contains(line), "{line} in {list}");
    }
    let out = bench.path("out");
    ask(&["--extract", to, out.to_str().unwrap()]);
    let config = std::fs::read_to_string(out.join("etc/dynamax/device.toml")).unwrap();
    assert!(config.contains(board), "{config}");
    let parsed = dynamax_config::DeviceConfig::from_text("device.toml", &config);
    assert!(parsed.is_ok(), "the service takes it: {parsed:?}");
    let text = config_of_no_binary(&bench);
    bench.refused(2, "not a 64-bit Linux binary", &["package", &text, "-o", to]);
    let to_nobody = ["package", binary, "-o", to, "--maintainer", "me"];
    bench.refused(2, "expected \"Name <address>\"", &to_nobody);
}

fn config_of_no_binary(bench: &Bench) -> String {
    let path = bench.path("text");
    std::fs::write(&path, "no binary").unwrap();
    path.display().to_string()
}

#[test]
fn a_bundle_becomes_an_update_for_rauc() {
    let bench = Bench::new();
    let (certificate, key) = (bench.path("fleet.pem"), bench.path("fleet.key"));
    let bundle = demo("mamba2.dmx");
    let update = bench.path("m.raucb");
    let paths = [&certificate, &key, &update].map(|path| path.to_str().unwrap());
    let [certificate, key, to] = paths;
    let package = ["package", &bundle, "-o", to, "--board", "jetson-orin-nano-8gb"];
    bench.refused(2, "give --certificate and --key", &package);
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=fleet", "-days", "9"])
        .args(["-out", certificate, "-keyout", key])
        .output();
    if Command::new("rauc").arg("--version").output().is_err() || made.is_err() {
        println!("skipped: rauc or openssl is not here");
        return;
    }
    let said = bench.json(&[&package[..], &["--certificate", certificate, "--key", key]].concat());
    assert_eq!(said["version"], "0", "not signed with one of our keys: {said}");
    let ask = |arguments: &[&str]| {
        let keyring = format!("--keyring={certificate}");
        let output = Command::new("rauc").args(arguments).arg(keyring).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let info: Value = serde_json::from_str(&ask(&["info", "--output-format=json", to])).unwrap();
    assert_eq!(info["compatible"], "jetson-orin-nano-8gb", "{info}");
    let content = bench.path("content");
    ask(&["extract", to, content.to_str().unwrap()]);
    assert!(holds(&content, "model.dmx", &bundle), "the bundle as it is");
    let service = Path::new(env!("CARGO_BIN_EXE_dynamax")).with_file_name("dynamaxd");
    if !service.exists() {
        println!("not installed: dynamaxd is not built (cargo build --release -p dynamaxd)");
        return;
    }
    let slots = bench.path("slots");
    bench.script(
        "dynamaxd",
        &format!(
            "exec {} --config {} \"$@\"\n",
            service.display(),
            bench.path("device.toml").display()
        ),
    );
    std::fs::write(bench.path("device.toml"), format!("[model]\nslots = {slots:?}\n")).unwrap();
    // Not this machine's, should it run the service.
    bench.script("systemctl", "exit 0\n");
    let path = format!("{}:/usr/bin:/bin", bench.folder.path().display());
    let mut handler = Command::new(content.join("install"));
    handler.env("PATH", path).env("RAUC_BUNDLE_MOUNT_POINT", &content);
    let output = handler.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("slot a starts"), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(holds(&slots, "a.dmx", &bundle), "in its slot");
}
