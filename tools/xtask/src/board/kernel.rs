//! A Debian kernel for the emulated board, and a driver of our own for the sensor that QEMU does not have.
//!
//! Packages of arm64 are downloaded with a state of apt's that is not this system's, and only unpacked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::output_of;

const SENSOR_SOURCE: &str = include_str!("../../board/board_sensor.c");
/// Drivers in the order in which they are loaded: a disk, a network, a bus.
const DRIVERS: [&str; 11] = [
    "lib/crc16",
    "crypto/crc32c_generic",
    "fs/mbcache",
    "fs/jbd2/jbd2",
    "fs/ext4/ext4",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/virtio/virtio_mmio",
    "drivers/block/virtio_blk",
    "drivers/net/virtio_net",
    "drivers/i2c/i2c-dev",
];

/// Files for a boot.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) image: PathBuf,
    pub(super) busybox: PathBuf,
    /// In the order in which they are loaded.
    pub(super) drivers: Vec<PathBuf>,
}

impl Kernel {
    /// Brings everything into `folder`; what is there from an earlier time is used again.
    pub(super) fn get(folder: &Path) -> Result<Self> {
        let apt = Apt::new(&folder.join("apt"))?;
        let root = folder.join("root");
        let (done, package) = (folder.join("package"), apt.newest_kernel());
        let package = match (package, fs::read_to_string(&done)) {
            (Ok(package), Ok(before)) if package == before => before,
            // Without a network, what is there does.
            (Err(_), Ok(before)) => before,
            (package, _) => {
                let package = package?;
                apt.unpack(&package, &root)?;
                fs::write(done, &package)?;
                package
            }
        };
        build_sensor(&package, &root)?;
        let release = package.trim_start_matches("linux-image-");
        let modules = root.join("lib/modules").join(release).join("kernel");
        let mut drivers: Vec<_> =
            DRIVERS.iter().map(|name| modules.join(format!("{name}.ko"))).collect();
        drivers.push(root.join("sensor/board_sensor.ko"));
        let image = root.join(format!("boot/vmlinuz-{release}"));
        Ok(Self { image, busybox: root.join("bin/busybox"), drivers })
    }
}

/// apt for arm64, beside this system's.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn new(folder: &Path) -> Result<Self> {
        for part in ["state/lists/partial", "cache/archives/partial", "packages"] {
            fs::create_dir_all(folder.join(part)).with_context(|| folder.display().to_string())?;
        }
        fs::write(folder.join("status"), "")?;
        let apt = Self { folder: folder.into() };
        apt.run("apt-get", &["-qq", "update"]).context("the lists of packages")?;
        Ok(apt)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let here = output_of(Command::new("dpkg").arg("--print-architecture"))?;
        let state = |name: &str| self.folder.join(name).display().to_string();
        let mut command = Command::new(program);
        for option in [
            "APT::Architecture=arm64".to_owned(),
            "APT::Architectures::=arm64".to_owned(),
            format!("APT::Architectures::={}", here.trim()),
            "APT::Sandbox::User=root".to_owned(),
            format!("Dir::State={}", state("state")),
            format!("Dir::State::status={}", state("status")),
            format!("Dir::Cache={}", state("cache")),
        ] {
            command.arg("-o").arg(option);
        }
        output_of(command.args(arguments).current_dir(self.folder.join("packages")))
    }

    /// The package of the newest kernel, such as `linux-image-6.1.0-56-arm64`.
    fn newest_kernel(&self) -> Result<String> {
        let said = self.run("apt-cache", &["depends", "linux-image-arm64"])?;
        let package = said.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
        Ok(package
            .context("linux-image-arm64 is not in the lists: Debian's are needed")?
            .to_owned())
    }

    /// Downloads the kernel, what a driver is built with, and a shell, and unpacks them.
    fn unpack(&self, kernel: &str, root: &Path) -> Result<()> {
        let here = output_of(Command::new("dpkg").arg("--print-architecture"))?;
        let version = kernel.trim_start_matches("linux-image-").trim_end_matches("-arm64");
        let series: Vec<&str> = version.split('.').take(2).collect();
        let packages = self.folder.join("packages");
        fs::remove_dir_all(&packages)?;
        fs::create_dir_all(&packages)?;
        let names = [
            kernel.to_owned(),
            format!("linux-headers-{version}-arm64"),
            format!("linux-headers-{version}-common"),
            format!("linux-kbuild-{}:{}", series.join("."), here.trim()),
            "busybox-static".to_owned(),
        ];
        println!("downloading {}", names.join(", "));
        let mut arguments = vec!["-q", "download"];
        arguments.extend(names.iter().map(String::as_str));
        self.run("apt-get", &arguments)?;
        for package in fs::read_dir(packages)? {
            output_of(Command::new("dpkg-deb").arg("-x").arg(package?.path()).arg(root))?;
        }
        Ok(())
    }
}

/// Builds the driver against the kernel's headers, unless it is there.
fn build_sensor(kernel: &str, root: &Path) -> Result<()> {
    let folder = root.join("sensor");
    let (source, driver) = (folder.join("board_sensor.c"), folder.join("board_sensor.ko"));
    let before = fs::read_to_string(&source).unwrap_or_default();
    if driver.exists() && before == SENSOR_SOURCE {
        return Ok(());
    }
    let release = kernel.trim_start_matches("linux-image-");
    let sources = root.join("usr/src");
    let headers = sources.join(format!("linux-headers-{release}"));
    let common = release.trim_end_matches("-arm64");
    // As it is, it looks for its other half below /usr/src.
    let other = sources.join(format!("linux-headers-{common}-common/Makefile"));
    fs::write(headers.join("Makefile"), format!("include {}\n", other.display()))?;
    fs::create_dir_all(&folder)?;
    fs::write(source, SENSOR_SOURCE)?;
    fs::write(folder.join("Makefile"), "obj-m := board_sensor.o\n")?;
    let mut make = Command::new("make");
    make.arg("-C").arg(&headers).arg(format!("M={}", folder.display()));
    make.args(["ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-", "modules"]);
    output_of(&mut make).context("the sensor's driver does not build")?;
    ensure!(driver.exists(), "make made no {}", driver.display());
    Ok(())
}
