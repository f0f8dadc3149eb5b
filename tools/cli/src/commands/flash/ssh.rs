//! A device at the other end of an SSH connection, which the system's own `ssh` makes.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use dynamax_slots::{Report, SYNC_BYTES, Slots};
use serde::Deserialize;
use tempfile::TempDir;

use super::parcel::{PIECE_BYTES, Parcel};
use super::shell::ShellDisk;
use super::{Arguments, Done, Limits};
use crate::failure::Failure;
use crate::progress;

/// Where slots are on a device whose configuration cannot be asked.
const DEFAULT_FOLDER: &str = "/var/lib/dynamax";
/// What `ssh` says with this status is about the connection, not about what ran at its other end.
const SSH_FAILED: i32 = 255;

/// Time until a connection that broke is made again: what broke it may take as long.
const BEFORE_RETRY: Duration = Duration::from_secs(1);

/// A host, as `ssh://[user@]host[:port][/directory]` names it.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// With the user, as `ssh` takes it.
    name: String,
    port: Option<u16>,
    folder: Option<String>,
    /// Where `ssh` keeps the one connection that all commands share.
    shared: Arc<TempDir>,
}

/// What the device says about itself.
#[derive(Deserialize)]
pub(super) struct Status {
    #[serde(flatten)]
    pub(super) report: Report,
    #[serde(default)]
    memory_bytes: Option<u64>,
    #[serde(default)]
    context: Option<u32>,
    #[serde(default)]
    drafts: Option<u32>,
}

/// The first line of `dynamaxd slot receive`.
#[derive(Deserialize)]
struct Offered {
    offset: u64,
}

/// Its last.
#[derive(Deserialize)]
struct Received {
    active: String,
    fallback: Option<String>,
}

/// A connection that broke, as against a device that refused.
#[derive(Debug, thiserror::Error)]
#[error("the connection to {host} broke{said}; repeat the command, it goes on from there")]
struct Broken {
    host: String,
    /// What ssh said, behind a colon; it may say nothing.
    said: String,
}

impl Broken {
    fn new(host: &str, stderr: &[u8]) -> Self {
        let said = String::from_utf8_lossy(stderr);
        let said =
            if said.trim().is_empty() { String::new() } else { format!(": {}", said.trim()) };
        Self { host: host.to_owned(), said }
    }
}

impl Host {
    /// Parses what follows `ssh://`.
    pub(super) fn parse(rest: &str) -> Result<Self> {
        let (name, folder) = match rest.split_once('/') {
            Some((name, folder)) => (name, Some(format!("/{folder}")).filter(|it| it.len() > 1)),
            None => (rest, None),
        };
        let (name, port) = match name.rsplit_once(':') {
            // Colons inside brackets belong to an address.
            Some((host, port)) if !port.contains(']') => {
                let number = port.parse().ok().filter(|port| *port > 0);
                (host, Some(number.with_context(|| format!("--to: {port} is not a port"))?))
            }
            _ => (name, None),
        };
        let host = name.rsplit('@').next().unwrap_or(name);
        // What starts with a dash would be taken for a flag of ssh's.
        let is_name = !host.is_empty() && !name.starts_with('-') && !host.starts_with('-');
        ensure!(is_name, "--to ssh://{rest}: expected ssh://[user@]host[:port][/directory]");
        let name = name.replace(['[', ']'], "");
        let shared = Arc::new(tempfile::tempdir().context("there is no place for a socket")?);
        Ok(Self { name, port, folder, shared })
    }

    /// `ssh` with the user's own configuration, running `command` at the other end.
    pub(super) fn command(&self, command: &str) -> Command {
        let program = std::env::var_os("DYNAMAX_SSH").unwrap_or_else(|| "ssh".into());
        let mut ssh = Command::new(program);
        let socket = self.shared.path().join("s");
        ssh.args(["-o", "ControlMaster=auto", "-o", "ControlPersist=10", "-o"]);
        ssh.arg(format!("ControlPath={}", socket.display()));
        if let Some(port) = self.port {
            ssh.arg("-p").arg(port.to_string());
        }
        ssh.arg(&self.name).arg("--").arg(command);
        ssh
    }

    /// Runs `command` to its end.
    fn output(&self, command: &str) -> Result<Output> {
        let output = self.command(command).stdin(Stdio::null()).output();
        let output = output.context("ssh cannot be run; install OpenSSH's client")?;
        if output.status.code() == Some(SSH_FAILED) {
            return Err(Broken::new(&self.name, &output.stderr).into());
        }
        Ok(output)
    }

    /// Runs `command`, which must succeed: what it prints.
    fn ask(&self, command: &str) -> Result<String> {
        let output = self.output(command)?;
        if !output.status.success() {
            return Err(self.refusal(output.status.code(), &output.stderr));
        }
        String::from_utf8(output.stdout).context("the device does not answer in text")
    }

    /// What the device says against it, with its own exit status.
    fn refusal(&self, status: Option<i32>, stderr: &[u8]) -> anyhow::Error {
        let said = String::from_utf8_lossy(stderr);
        let said = format!("{}: {}", self.name, said.trim());
        if status == Some(1) { Failure(said).into() } else { anyhow::Error::msg(said) }
    }

    /// The first thing that is asked.
    fn has_dynamaxd(&self) -> Result<bool> {
        let output = self.output("command -v dynamaxd >/dev/null").map_err(|error| match error
            .downcast::<Broken>(
        ) {
            Ok(Broken { host, said }) => anyhow!("{host} cannot be reached{said}"),
            Err(other) => other,
        })?;
        Ok(output.status.success())
    }

    fn dynamaxd(&self, command: &str) -> String {
        let folder = self.folder.as_ref().map(|folder| format!(" --dir {}", quoted(folder)));
        format!("dynamaxd slot {command}{}", folder.unwrap_or_default())
    }

    /// The slots of a device that has only a shell.
    fn slots(&self) -> Slots<ShellDisk> {
        let folder = self.folder.clone().unwrap_or_else(|| DEFAULT_FOLDER.into());
        Slots::new(ShellDisk::new(self.clone(), folder))
    }

    pub(super) fn status(&self) -> Result<Status> {
        if self.has_dynamaxd()? {
            return self.status_of_dynamaxd();
        }
        let report = Report::of(&self.slots())?;
        Ok(Status { report, memory_bytes: None, context: None, drafts: None })
    }

    fn status_of_dynamaxd(&self) -> Result<Status> {
        let said = self.ask(&self.dynamaxd("status --json"))?;
        serde_json::from_str(&said)
            .with_context(|| format!("{}: dynamaxd speaks another version", self.name))
    }

    pub(super) fn rollback(&self) -> Result<String> {
        if self.has_dynamaxd()? {
            #[derive(Deserialize)]
            struct Now {
                active: String,
            }
            let said = self.ask(&self.dynamaxd("rollback --json"))?;
            let now: Now = serde_json::from_str(&said)
                .with_context(|| format!("{}: dynamaxd speaks another version", self.name))?;
            return Ok(now.active);
        }
        Ok(self.slots().rollback()?.to_string())
    }

    /// Tells the service to look at its slots.
    pub(super) fn reload(&self, asked: bool) -> Result<()> {
        if asked {
            self.ask("systemctl reload-or-restart dynamaxd")?;
        }
        Ok(())
    }

    /// Sends a bundle, again where a connection broke.
    pub(super) fn flash(
        &self,
        parcel: &Parcel,
        limits: &mut Limits,
        arguments: &Arguments,
    ) -> Result<Done> {
        let has_dynamaxd = self.has_dynamaxd()?;
        let mut retries = arguments.retries;
        let done = loop {
            let sent = if has_dynamaxd {
                self.check_and_send(parcel, limits, arguments.reset)
            } else {
                limits.check(parcel).and_then(|planned_bytes| {
                    self.send_through_shell(parcel, arguments.reset, planned_bytes)
                })
            };
            match sent {
                Err(error) if error.is::<Broken>() && retries > 0 => {
                    retries -= 1;
                    eprintln!("dynamax: {error}; trying again");
                    std::thread::sleep(BEFORE_RETRY);
                }
                other => break other?,
            }
        };
        self.reload(arguments.reload)?;
        Ok(done)
    }

    /// Asks the device what it allows, where flags do not say it, and sends.
    fn check_and_send(&self, parcel: &Parcel, limits: &mut Limits, reset: bool) -> Result<Done> {
        let status = if reset { None } else { Some(self.status_of_dynamaxd()?) };
        if let Some(status) = status {
            let options = &mut limits.0;
            options.memory_bytes = options.memory_bytes.or(status.memory_bytes);
            options.context = options.context.or(status.context);
            options.drafts = status.drafts;
        }
        let planned_bytes = limits.check(parcel)?;
        self.send(parcel, reset, planned_bytes)
    }

    fn send(&self, parcel: &Parcel, reset: bool, planned_bytes: u64) -> Result<Done> {
        let image = parcel.image;
        let reset = if reset { " --reset" } else { "" };
        let receive = format!(
            "receive --hash {} --bytes {} --counter {}{reset}",
            image.hash, image.bytes, image.counter
        );
        let mut child = self
            .command(&self.dynamaxd(&receive))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("ssh cannot be run; install OpenSSH's client")?;
        let mut out = BufReader::new(child.stdout.take().context("ssh has no output")?);
        let mut line = String::new();
        out.read_line(&mut line).context("ssh cannot be read")?;
        let Ok(Offered { offset }) = serde_json::from_str(&line) else {
            return Err(self.ended(child)?);
        };
        let is_sent = pour(&mut child, parcel, offset)?;
        let mut rest = String::new();
        out.read_to_string(&mut rest).context("ssh cannot be read")?;
        match serde_json::from_str(&rest) {
            Ok(Received { active, fallback }) if is_sent => {
                child.wait().context("ssh does not end")?;
                Ok(parcel.done(active, fallback, offset, planned_bytes))
            }
            _ => Err(self.ended(child)?),
        }
    }

    /// Why a transfer ended too early.
    fn ended(&self, child: Child) -> Result<anyhow::Error> {
        let output = child.wait_with_output().context("ssh does not end")?;
        Ok(match output.status.code() {
            Some(SSH_FAILED) | None => Broken::new(&self.name, &output.stderr).into(),
            status => self.refusal(status, &output.stderr),
        })
    }

    fn send_through_shell(&self, parcel: &Parcel, reset: bool, planned_bytes: u64) -> Result<Done> {
        let sent = || {
            let mut slots = self.slots();
            slots.disk().prepare()?;
            if reset {
                slots.reset()?;
            }
            parcel.deliver(&mut slots, SYNC_BYTES as usize, planned_bytes, |disk, file| {
                disk.compare(file, parcel.source.bytes())
            })
        };
        sent().map_err(|error| {
            let is_broken = error.chain().any(|cause| {
                let io = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
                io == Some(std::io::ErrorKind::ConnectionAborted)
            });
            if is_broken { Broken::new(&self.name, b"").into() } else { error }
        })
    }
}

/// Sends what follows `offset`; false if the other end stopped reading.
fn pour(child: &mut Child, parcel: &Parcel, offset: u64) -> Result<bool> {
    let mut stdin = child.stdin.take().context("ssh has no input")?;
    let bytes = parcel.source.bytes();
    let start = usize::try_from(offset).ok().filter(|start| *start <= bytes.len());
    let start = start.context("the device has more of the bundle than there is")?;
    let bar = progress::bytes(parcel.image.bytes, "sending");
    bar.inc(offset);
    for piece in bytes[start..].chunks(PIECE_BYTES) {
        if stdin.write_all(piece).is_err() {
            return Ok(false);
        }
        bar.inc(piece.len() as u64);
    }
    bar.finish_and_clear();
    Ok(true)
}

/// A word of a shell's, whatever is in it.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_understood() {
        let host = |rest: &str| Host::parse(rest).map(|host| (host.name, host.port, host.folder));
        let plain = |name: &str, port, folder: Option<&str>| {
            Some((name.to_owned(), port, folder.map(str::to_owned)))
        };
        assert_eq!(host("drone").ok(), plain("drone", None, None), "a name");
        assert_eq!(
            host("root@drone:2222/data/slots").ok(),
            plain("root@drone", Some(2222), Some("/data/slots"))
        );
        assert_eq!(host("[fe80::1]:22/").ok(), plain("fe80::1", Some(22), None), "an address");
        assert_eq!(host("root@[::1]").ok(), plain("root@::1", None, None), "without a port");
        for wrong in ["", "root@", "-oProxyCommand=x", "root@-x", "drone:port", "drone:0", ":22"] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_shell_takes_a_quoted_word_as_it_is() {
        let word = "a 'b' $(c) `d` \\ \"e\"";
        let output =
            Command::new("sh").arg("-c").arg(format!("printf %s {}", quoted(word))).output();
        assert_eq!(output.unwrap().stdout, word.as_bytes(), "nothing is expanded");
    }
}
