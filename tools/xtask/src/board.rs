//! `cargo xtask board [BINARY]`: from a cross-compiled service to tokens on an arm64 board, which is emulated.
//!
//! ```text
//! dynamax ─sign─▶ bundle ─┬─ flash DIR ───────────────▶ dynamaxd under qemu-aarch64 ──▶ HTTP ─┐
//!                         ├─ flash ssh://, a real sshd ▶ the same service, after a SIGHUP ────┼─▶ the desk's tokens
//!                         └─ flash data.img ───────────▶ a Debian kernel in QEMU ─────────────┘   and joules of a sensor
//! ```
//!
//! Needed beside what `ci` needs: a Debian with `make`, `openssh-server` and `openssh-client`, and its mirror once, for
//! the kernel (75 MB).

mod answers;
mod kernel;
mod loopback;
mod machine;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cross;
use crate::service::{Client, Service, build, configure, target_folder};
use crate::tidy::root;
use kernel::Kernel;
use loopback::{HOST, Sshd};
use machine::Machine;

/// What clients of the emulated board present: it is not on loopback.
const API_KEY: &str = "of the emulated board";
/// Watts that the sensor shows: amperes over 5 milliohms, times 12 V.
const WATTS: [f64; 2] = [12.0, 24.0];
/// How far a mean over some tokens may be from what the sensor shows: it is sampled beside them.
const TOLERANCE: f64 = 0.05;

/// Goes all the way.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let binary = match arguments {
        [] => {
            cross::run(&[])?;
            cross::binary("dynamaxd")
        }
        [binary] => PathBuf::from(binary).canonicalize().with_context(|| binary.clone())?,
        _ => bail!("usage: cargo xtask board [BINARY]"),
    };
    let desk = Desk::new(build("dynamax")?, binary)?;
    by_directory_and_ssh(&desk)?;
    by_image(&desk)
}

/// What the workstation has.
struct Desk {
    folder: tempfile::TempDir,
    dynamax: PathBuf,
    dynamaxd: PathBuf,
    /// Signed, with what they say here.
    bundles: Vec<(PathBuf, Vec<u32>)>,
}

impl Desk {
    fn new(dynamax: PathBuf, dynamaxd: PathBuf) -> Result<Self> {
        let folder = tempfile::tempdir().context("there is no place for a desk")?;
        let mut desk = Self { folder, dynamax, dynamaxd, bundles: Vec::new() };
        let key = desk.path("key");
        output_of(desk.dynamax().arg("keygen").arg("-o").arg(&key))?;
        for (counter, name) in (1..).zip(["mamba2.dmx", "transformer.dmx"]) {
            let bundle = desk.path(name);
            std::fs::copy(root().join("tools/cli/demo").join(name), &bundle).context(name)?;
            let mut sign = desk.dynamax();
            sign.arg("sign").arg(&bundle).arg("--key").arg(&key);
            output_of(sign.args(["--counter", &format!("{counter}")]))?;
            let tokens = answers::at_the_desk(&desk.dynamax, &bundle)?;
            desk.bundles.push((bundle, tokens));
        }
        Ok(desk)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn dynamax(&self) -> Command {
        Command::new(&self.dynamax)
    }

    /// The service out of a Debian package of it.
    fn packaged(&self) -> Result<PathBuf> {
        let (package, folder) = (self.path("d.deb"), self.path("package"));
        let mut make = self.dynamax();
        make.arg("package").arg(&self.dynamaxd).args(["--board", "jetson-orin-nano-8gb", "-o"]);
        print!("{}", output_of(make.arg(&package))?);
        output_of(Command::new("dpkg-deb").arg("-x").arg(package).arg(&folder))?;
        Ok(folder.join("usr/bin/dynamaxd"))
    }

    fn trust(&self) -> String {
        format!("\n[trust]\nkeys = [{:?}]\n", self.path("key.pub"))
    }

    /// Flashes one of the bundles, checked against the key here too: its hash.
    fn flash(&self, index: usize, to: &str, more: &[&str], ssh: Option<&Path>) -> Result<String> {
        let mut flash = self.dynamax();
        flash.arg("flash").arg(&self.bundles[index].0).args(["--to", to, "--key"]);
        flash.arg(self.path("key.pub")).args(more).arg("--json");
        if let Some(ssh) = ssh {
            flash.env("DYNAMAX_SSH", ssh);
        }
        let said = output_of(&mut flash)?;
        print!("{said}");
        let said: Value = serde_json::from_str(&said).context("dynamax flash --json")?;
        Ok(said["hash"].as_str().context("dynamax flash tells no hash")?.to_owned())
    }
}

/// The service alone, under an emulator of the processor: flashed to a directory, then over SSH while it runs.
fn by_directory_and_ssh(desk: &Desk) -> Result<()> {
    let device = desk.path("device");
    std::fs::create_dir_all(&device)?;
    configure(&device, &format!("{}\n[power]\nmeter = \"model\"\n", desk.trust()))?;
    let slots = device.join("slots").display().to_string();
    desk.flash(0, &slots, &["--board", "jetson-orin-nano-8gb"], None)?;
    let emulated = ["qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu", "-cpu", "cortex-a76"];
    let config = device.join("device.toml");
    let mut command = Command::new(emulated[0]);
    command.args(&emulated[1..]).arg(&desk.dynamaxd).arg("--config").arg(&config);
    let service = Service::start(&mut command)?;
    let answer = answers::on_the_board(&service.client())?;
    answers::compare("flashed to a directory", &desk.bundles[0].1, &answer)?;

    let script = format!(
        "exec {} '{}' --config '{}' \"$@\"",
        emulated.join(" "),
        desk.dynamaxd.display(),
        config.display()
    );
    let sshd = Sshd::start(desk.folder.path(), &script)?;
    let expected = desk.flash(1, HOST, &[], Some(&sshd.client))?;
    let pid = service.id().to_string();
    output_of(Command::new("kill").args(["-s", "HUP", &pid]))?;
    let start = Instant::now();
    while !service.client().get("/v1/models")?.contains(&expected) {
        ensure!(start.elapsed() < Duration::from_secs(60), "the service does not switch");
        std::thread::sleep(Duration::from_millis(200));
    }
    let answer = answers::on_the_board(&service.client())?;
    answers::compare("flashed over SSH, and reloaded", &desk.bundles[1].1, &answer)?;
    let mut status = desk.dynamax();
    status.args(["flash", "--to", HOST, "--status"]).env("DYNAMAX_SSH", &sshd.client);
    let status = output_of(&mut status)?;
    ensure!(!status.contains("on trial"), "the new one is confirmed by its start: {status}");
    Ok(())
}

/// A whole board: kernel, partition, network, sensor.
fn by_image(desk: &Desk) -> Result<()> {
    let disk = desk.path("data.img");
    desk.flash(0, &disk.display().to_string(), &["--size", "64 MiB"], None)?;
    let kernel = Kernel::get(&target_folder().join("emulated-board"))?;
    // One of its two cores decodes: the other samples the sensor.
    let config = format!(
        "[device]\nboard = \"jetson-orin-nano-8gb\"\nthreads = 1\n\n[server]\nsocket = \"/run/dynamax/dynamaxd.sock\"\n\
         tcp = \"0.0.0.0:8080\"\napi_key = {API_KEY:?}\n\n[power]\nmeter = \"ina3221\"\nrail = \"VDD_IN\"\n\n\
         [trust]\nkeys = [\"/etc/dynamax/key.pub\"]\n"
    );
    let files = [
        ("etc/dynamax/device.toml", config.into_bytes()),
        ("etc/dynamax/key.pub", std::fs::read(desk.path("key.pub"))?),
    ];
    let initrd = desk.path("initrd");
    machine::write_initrd(&initrd, &kernel, &desk.packaged()?, &files)?;
    let mut machine = Machine::boot(&kernel, &initrd, &disk)?;
    let client = Client::new(&machine.address, Some(API_KEY));
    for watts in WATTS {
        let microvolts = (watts / 12.0 * 5000.0).round();
        let parameter = "/sys/module/board_sensor/parameters/shunt_uv";
        machine.type_line(&format!("echo {microvolts},0,0 > {parameter} && echo sensor set"))?;
        machine.wait_for("sensor set")?;
        let answer = answers::on_the_board(&client)?;
        answers::compare("on the emulated board", &desk.bundles[0].1, &answer)?;
        ensure!(answer.energy_source == "ina3221", "energy is from {}", answer.energy_source);
        let measured = answer.watts();
        let is_right = (measured / watts - 1.0).abs() < TOLERANCE;
        ensure!(is_right, "the sensor shows {watts} W, tokens cost {measured:.2} W");
        println!("the sensor shows {watts} W, tokens cost {measured:.2} W");
    }
    machine.type_line("dynamaxd slot status")?;
    machine.wait_for("oldest version that may start: 1")?;
    machine.power_off()
}

/// What a command prints; it must succeed.
fn output_of(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?} cannot be run"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {}", said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
