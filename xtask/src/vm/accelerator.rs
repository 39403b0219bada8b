//! Whether guests run on the processor itself, or are emulated.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::guard::Guard;
use crate::arch::Arch;
use crate::{command, paths, terminal};

/// How a guest's instructions are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accelerator {
    Kvm,
    Emulation,
}

impl Accelerator {
    /// KVM if a kernel really boots under it: that there is a device proves nothing.
    pub(super) fn find(arch: Arch, image: &Path) -> Result<Self> {
        if arch != Arch::HOST || !Path::new("/dev/kvm").exists() {
            return Ok(Self::Emulation);
        }
        let folder = paths::target().join("vm");
        fs::create_dir_all(&folder)?;
        let verdict = folder.join("accelerator");
        // For as long as this machine runs.
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let remembered = fs::read_to_string(&verdict).unwrap_or_default();
        let works = match remembered.strip_prefix(&boot) {
            Some("kvm") => true,
            Some("none") => false,
            _ => boots_under_kvm(image, &folder)?,
        };
        let word = if works { "kvm" } else { "none" };
        fs::write(&verdict, format!("{boot}{word}"))?;
        if !works {
            terminal::note("no guest boots under KVM here: they are emulated");
        }
        Ok(if works { Self::Kvm } else { Self::Emulation })
    }

    /// What qemu is told, with the processor to show.
    pub(super) fn arguments(self, arch: Arch) -> [&'static str; 4] {
        let emulated = match arch {
            Arch::Amd64 => "max",
            // Of the greatest one old kernels know not all (52 bits of addresses).
            Arch::Arm64 => "cortex-a72",
        };
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Emulation => ["-accel", "tcg,thread=multi", "-cpu", emulated],
        }
    }
}

/// The program that is a machine with such a processor.
pub(super) fn qemu(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "qemu-system-x86_64",
        Arch::Arm64 => "qemu-system-aarch64",
    }
}

fn boots_under_kvm(image: &Path, folder: &Path) -> Result<bool> {
    const PATIENCE: Duration = Duration::from_secs(8);
    let console = folder.join("kvm.log");
    let mut qemu = command::outside(qemu(Arch::HOST));
    qemu.args([
        "-accel",
        "kvm",
        "-m",
        "512",
        "-nodefaults",
        "-nographic",
        "-no-reboot",
    ]);
    qemu.arg("-kernel")
        .arg(image)
        .args(["-append", "console=ttyS0 panic=-1"]);
    qemu.arg("-serial")
        .arg(format!("file:{}", console.display()));
    qemu.stdin(Stdio::null()).stdout(Stdio::null());
    qemu.stderr(File::create(folder.join("kvm.err"))?);
    let mut guest = Guard(qemu.spawn().context("qemu")?);
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let text = fs::read(&console).unwrap_or_default();
        if String::from_utf8_lossy(&text).contains("Linux version") {
            return Ok(true);
        }
        if guest.0.try_wait()?.is_some() {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(false)
}
