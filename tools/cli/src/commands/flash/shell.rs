//! The disk of a device that has no `dynamaxd` yet: plain commands over SSH. Each operation is one command, so that what
//! is promised of slots holds here too.

use std::io::{self, Write};
use std::process::Stdio;

use anyhow::{Context, Result};
use dynamax_slots::Disk;
use sha2::{Digest, Sha256};

use super::ssh::{Host, quoted};

/// What a command ends with if the file is not there.
const NOT_THERE: i32 = 44;
/// What `ssh` ends with if the connection breaks.
const SSH_FAILED: i32 = 255;

/// A directory at the other end of SSH.
#[derive(Debug)]
pub(super) struct ShellDisk {
    host: Host,
    folder: String,
}

impl ShellDisk {
    pub(super) fn new(host: Host, folder: String) -> Self {
        Self { host, folder }
    }

    /// Makes the directory.
    pub(super) fn prepare(&self) -> Result<()> {
        self.run(&format!("mkdir -p {}", quoted(&self.folder)), &[])
            .map(drop)
            .with_context(|| format!("{}: cannot be made on the device", self.folder))
    }

    fn path(&self, name: &str) -> String {
        quoted(&format!("{}/{name}", self.folder.trim_end_matches('/')))
    }

    /// Runs a command that reads `input`, and returns what it prints.
    fn run(&self, command: &str, input: &[u8]) -> io::Result<Vec<u8>> {
        let mut ssh = self.host.command(command);
        let mut child =
            ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command that ends early says why below.
            let _ = stdin.write_all(input);
        }
        let output = child.wait_with_output()?;
        match output.status.code() {
            Some(0) => Ok(output.stdout),
            Some(NOT_THERE) => Err(io::ErrorKind::NotFound.into()),
            Some(SSH_FAILED) | None => Err(io::ErrorKind::ConnectionAborted.into()),
            Some(_) => {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                Err(io::Error::other(said))
            }
        }
    }

    /// As [`Self::run`], with nothing for what is not there.
    fn look(&self, command: &str) -> io::Result<Option<Vec<u8>>> {
        match self.run(command, &[]) {
            Ok(output) => Ok(Some(output)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn number(&self, command: &str) -> io::Result<Option<u64>> {
        let Some(output) = self.look(command)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&output);
        let number =
            text.trim().parse().map_err(|_| io::Error::other(format!("{text:?} is no number")));
        number.map(Some)
    }

    /// Compares a file with `bytes`, by a hash that every system can compute.
    pub(super) fn compare(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let command = format!("sha256sum < {}", self.path(name));
        let output = self.run(&command, &[]).map_err(|error| format!("sha256sum: {error}"))?;
        let found = String::from_utf8_lossy(&output);
        let expected: String =
            Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        if found.split_whitespace().next() == Some(&expected) {
            return Ok(());
        }
        Err("what arrived is not what was sent; send it again".into())
    }
}

impl Disk for ShellDisk {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let path = self.path(name);
        self.look(&format!("test -e {path} || exit {NOT_THERE}; cat {path}"))
    }

    fn len(&self, name: &str) -> io::Result<Option<u64>> {
        let path = self.path(name);
        self.number(&format!("test -e {path} || exit {NOT_THERE}; wc -c < {path}"))
    }

    fn truncate(&mut self, name: &str, len: u64) -> io::Result<()> {
        self.run(&format!("truncate -s {len} {}", self.path(name)), &[]).map(drop)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        // What came of a broken connection must not count: the length says if all of it did.
        let path = self.path(name);
        let before = self.len(name)?.ok_or(io::ErrorKind::NotFound)?;
        let output = self.run(&format!("cat >> {path} && wc -c < {path}"), bytes)?;
        let after: u64 = String::from_utf8_lossy(&output).trim().parse().unwrap_or(0);
        if after == before + bytes.len() as u64 {
            return Ok(());
        }
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        // Older systems know only the one that forces everything.
        self.run(&format!("sync {} 2>/dev/null || sync", self.path(name)), &[]).map(drop)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.run(&format!("mv -f {} {}", self.path(from), self.path(to)), &[]).map(drop)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.run(&format!("rm -f {}", self.path(name)), &[]).map(drop)
    }

    fn sync_names(&mut self) -> io::Result<()> {
        self.run("sync", &[]).map(drop)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let command = format!("df -Pk {} | tail -n 1 | awk '{{print $4}}'", quoted(&self.folder));
        Ok(self.number(&command)?.unwrap_or(0).saturating_mul(1024))
    }
}
