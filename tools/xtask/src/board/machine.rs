//! A boot of the emulated board: QEMU's `virt` with a Debian kernel, a partition, a network and a serial port.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::kernel::Kernel;

const INIT: &str = include_str!("../../board/init.sh");
/// Where Debian's cross compiler has the libraries of arm64.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu/lib";
/// What `dynamaxd` is linked with; the last two where it was built for an older glibc.
const NEEDED: [&str; 6] = [
    "ld-linux-aarch64.so.1",
    "libc.so.6",
    "libm.so.6",
    "libgcc_s.so.1",
    "libpthread.so.0",
    "libdl.so.2",
];
/// A boot takes ten seconds; more than this is a hang.
const PATIENCE: Duration = Duration::from_secs(240);

/// The emulated board, running.
#[derive(Debug)]
pub(super) struct Machine {
    qemu: Child,
    lines: Receiver<String>,
    /// Where this machine reaches port 8080 of the board.
    pub(super) address: String,
}

impl Machine {
    /// Boots with `disk` as the partition of the slots, and waits until the service listens.
    pub(super) fn boot(kernel: &Kernel, initrd: &Path, disk: &Path) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut qemu = Command::new("qemu-system-aarch64");
        // The A76 is the nearest to Orin's A78AE that QEMU knows.
        qemu.args(["-M", "virt", "-cpu", "cortex-a76", "-smp", "2", "-m", "1024", "-nodefaults"]);
        qemu.args(["-nographic", "-no-reboot", "-serial", "stdio", "-append"]);
        qemu.arg("console=ttyAMA0 panic=-1 quiet").arg("-kernel").arg(&kernel.image);
        qemu.arg("-initrd").arg(initrd).arg("-drive");
        qemu.arg(format!("file={},format=raw,if=none,id=data", disk.display()));
        qemu.args(["-device", "virtio-blk-device,drive=data", "-netdev"]);
        qemu.arg(format!("user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:8080"));
        qemu.args(["-device", "virtio-net-device,netdev=net"]);
        let qemu = qemu.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut qemu =
            qemu.context("qemu-system-aarch64 cannot be run; install qemu-system-arm")?;
        let (send, lines) = channel();
        let serial = BufReader::new(qemu.stdout.take().context("the serial port")?);
        std::thread::spawn(move || {
            for line in serial.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                eprintln!("  | {line}");
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let machine = Self { qemu, lines, address: format!("127.0.0.1:{port}") };
        machine.wait_for("listening on")?;
        Ok(machine)
    }

    /// Waits for a line with `words`.
    pub(super) fn wait_for(&self, words: &str) -> Result<String> {
        let start = Instant::now();
        loop {
            let rest = PATIENCE.saturating_sub(start.elapsed());
            match self.lines.recv_timeout(rest) {
                Ok(line) if line.contains(words) => return Ok(line),
                Ok(line) if line.contains("Kernel panic") => bail!("the board: {line}"),
                Ok(_) => {}
                Err(_) => bail!("the board never said {words:?}"),
            }
        }
    }

    /// Types a line into the board's shell.
    pub(super) fn type_line(&mut self, line: &str) -> Result<()> {
        let serial = self.qemu.stdin.as_mut().context("the serial port")?;
        writeln!(serial, "{line}").and_then(|()| serial.flush()).context("the serial port")
    }

    /// Switches it off in good order.
    pub(super) fn power_off(mut self) -> Result<()> {
        self.type_line(
            "killall dynamaxd; sleep 1; umount /var/lib/dynamax && echo unmounted; poweroff -f",
        )?;
        self.wait_for("unmounted")?;
        let status = self.qemu.wait()?;
        anyhow::ensure!(status.success(), "QEMU ended with {status}");
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have been switched off.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Writes the first file system: a shell, drivers, the service and its configuration.
pub(super) fn write_initrd(
    path: &Path,
    kernel: &Kernel,
    dynamaxd: &Path,
    extra: &[(&str, Vec<u8>)],
) -> Result<()> {
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "proc", "sys", "tmp", "run", "run/dynamax", "lib", "lib/modules"] {
        archive.folder(folder);
    }
    for folder in ["etc", "etc/dynamax", "var", "var/lib", "var/lib/dynamax"] {
        archive.folder(folder);
    }
    archive.file("init", 0o755, INIT.as_bytes());
    archive.file("bin/busybox", 0o755, &read(&kernel.busybox)?);
    archive.file("bin/dynamaxd", 0o755, &read(dynamaxd)?);
    for library in NEEDED {
        archive.file(&format!("lib/{library}"), 0o755, &read(&Path::new(LIBRARIES).join(library))?);
    }
    let mut order = String::new();
    for driver in &kernel.drivers {
        let name = driver.file_stem().unwrap_or_default().to_string_lossy();
        archive.file(&format!("lib/modules/{name}.ko"), 0o644, &read(driver)?);
        order += &format!("{name}\n");
    }
    archive.file("lib/modules/order", 0o644, order.as_bytes());
    for (name, content) in extra {
        archive.file(name, 0o644, content);
    }
    fs::write(path, archive.end()).with_context(|| path.display().to_string())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

/// A cpio archive in the form that the kernel unpacks ("newc": 13 numbers of 8 hexadecimal digits before each file).
#[derive(Debug, Default)]
struct Archive {
    bytes: Vec<u8>,
    count: usize,
}

impl Archive {
    fn folder(&mut self, name: &str) {
        self.entry(name, 0o040_755, &[]);
    }

    fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entry(name, 0o100_000 | mode, content);
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.count += 1;
        let mut head = format!("070701{:08x}{mode:08x}", self.count);
        // User, group, links, time; then the length, four numbers of devices, the length of the name, a sum.
        for number in [0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0] {
            head += &format!("{number:08x}");
        }
        self.bytes.extend(head.bytes().chain(name.bytes()).chain([0]));
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn end(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_fields_of_eight_digits_and_lengths_of_four() {
        let mut archive = Archive::default();
        archive.file("init", 0o755, b"hello");
        let bytes = archive.end();
        assert_eq!(&bytes[..6], b"070701", "the magic");
        assert_eq!(&bytes[14..22], b"000081ed", "a file for all to run");
        assert_eq!(&bytes[54..62], b"00000005", "the length of its content");
        assert_eq!(&bytes[94..102], b"00000005", "of its name, with the zero");
        assert_eq!(&bytes[110..115], b"init\0", "the name");
        assert_eq!(&bytes[116..124], b"hello\0\0\0", "the content, at a multiple of four");
        assert_eq!(&bytes[124..130], b"070701", "the next");
        assert_eq!(bytes.len() % 4, 0, "the end");
    }
}
