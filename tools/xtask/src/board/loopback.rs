//! A device at the other end of a real SSH connection: OpenSSH's server on loopback, for the time of the check.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::output_of;

/// Its name in the configuration of `ssh`.
pub(super) const HOST: &str = "ssh://board";

/// The server.
#[derive(Debug)]
pub(super) struct Sshd {
    child: Child,
    /// What `dynamax flash` runs in place of `ssh`: the same, with a configuration of our own.
    pub(super) client: PathBuf,
}

impl Sshd {
    /// Starts it; commands find `dynamaxd`, a script, before anything else.
    pub(super) fn start(folder: &Path, dynamaxd: &str) -> Result<Self> {
        let folder = folder.join("ssh");
        fs::create_dir_all(folder.join("bin"))?;
        script(&folder.join("bin/dynamaxd"), dynamaxd)?;
        for key in ["host", "user"] {
            let path = folder.join(key);
            let made = ["-q", "-t", "ed25519", "-N", "", "-C", "emulated board", "-f"];
            output_of(Command::new("ssh-keygen").args(made).arg(path))?;
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let shown = folder.display();
        let server = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {shown}/host\nAuthorizedKeysFile {shown}/user.pub\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile none\n\
             SetEnv PATH={shown}/bin:/usr/local/bin:/usr/bin:/bin\n"
        );
        fs::write(folder.join("sshd_config"), server)?;
        let user = output_of(Command::new("id").arg("-un"))?;
        let config = format!(
            "Host board\nHostName 127.0.0.1\nPort {port}\nUser {}\nIdentityFile {shown}/user\nIdentitiesOnly yes\n\
             UserKnownHostsFile {shown}/known\nStrictHostKeyChecking accept-new\nLogLevel ERROR\n",
            user.trim()
        );
        fs::write(folder.join("config"), config)?;
        let client = folder.join("ssh");
        script(&client, &format!("exec ssh -F '{shown}/config' \"$@\""))?;
        if user.trim() == "root" {
            // Where it sheds its rights.
            fs::create_dir_all("/run/sshd").context("/run/sshd")?;
        }
        let mut sshd = Command::new("/usr/sbin/sshd");
        sshd.args(["-D", "-e", "-f"]).arg(folder.join("sshd_config")).stderr(Stdio::null());
        let child = sshd.spawn().context("/usr/sbin/sshd cannot be run; install openssh-server")?;
        let sshd = Self { child, client };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if start.elapsed() > Duration::from_secs(10) {
                bail!("sshd does not listen; run `/usr/sbin/sshd -D -e -f {shown}/sshd_config`");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(sshd)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn script(path: &Path, body: &str) -> Result<()> {
    fs::write(path, format!("#!/bin/sh\n{body}\n"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
