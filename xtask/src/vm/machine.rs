//! A virtual machine: boots, runs a script, and ends.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::accelerator::{Accelerator, qemu};
use super::guard::Guard;
use super::kernel::{Files, Kernel};
use super::{initrd, root};
use crate::arch::Arch;
use crate::{command, paths};

/// What the guest says when its script has ended.
const ENDED: &str = "guest: exit status ";
const MEMORY: &str = "4G";

/// A machine that has not booted yet.
pub(crate) struct Machine {
    arch: Arch,
    kernel: Kernel,
    files: Files,
    accelerator: Accelerator,
    /// What belongs to this machine.
    folder: PathBuf,
    initrd: PathBuf,
    /// The guest's root, where it is not this machine's.
    root: Option<PathBuf>,
}

impl Machine {
    pub(super) fn new(
        arch: Arch,
        kernel: Kernel,
        files: Files,
        accelerator: Accelerator,
    ) -> Result<Self> {
        let folder = paths::target().join("vm").join(kernel.folder(arch));
        let (root, busybox) = if arch == Arch::HOST {
            let busybox = command::find("busybox").context("busybox: not found")?;
            (None, busybox)
        } else {
            (Some(root::prepare(arch)?), root::busybox(arch)?)
        };
        let initrd = initrd::write(&files, &busybox, &folder)?;
        Ok(Self {
            arch,
            kernel,
            files,
            accelerator,
            folder,
            initrd,
            root,
        })
    }

    /// Its kernel's name and release.
    pub(crate) fn title(&self) -> String {
        format!(
            "Linux {} ({}, {})",
            self.files.release,
            self.kernel.name(),
            self.arch.name()
        )
    }

    /// Boots, runs a script of bash, and shows what it prints. Its exit status.
    pub(crate) fn run(&self, script: &str) -> Result<i32> {
        let path = self.folder.join("script.sh");
        fs::write(&path, script)?;
        let socket = self.folder.join("root.sock");
        let _shared = self.share_root(&socket)?;
        let mut qemu = self.qemu(&socket, &path)?;
        let mut guest = Guard(qemu.spawn().context("qemu")?);
        let output = guest.0.stdout.take().context("no output of the guest")?;
        let mut status = None;
        for line in BufReader::new(output).lines() {
            let line = line.context("output of the guest")?;
            let line = line.trim_end_matches('\r');
            match line.strip_prefix(ENDED) {
                Some(number) => status = number.parse().ok(),
                None => println!("{line}"),
            }
        }
        guest.0.wait()?;
        let Some(status) = status else {
            bail!(
                "{} ended before its script did; its console is in {}",
                self.title(),
                self.console().display()
            );
        };
        Ok(status)
    }

    /// Where the guest finds a root of its own, and what of this machine it has there as well.
    fn root_parameters(&self) -> Result<String> {
        let Some(root) = &self.root else {
            return Ok(String::new());
        };
        let shared = [paths::root().to_owned(), paths::target(), paths::cache()?];
        let shared = shared.map(|it| it.display().to_string()).join(":");
        Ok(format!(
            "guest.root={} guest.shared={shared}",
            root.display()
        ))
    }

    fn console(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    /// Offers this machine's root to the guest, until the guard goes.
    fn share_root(&self, socket: &Path) -> Result<Guard> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let program = ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .context("virtiofsd: not found")?;
        let mut daemon = command::outside(program);
        daemon.arg(format!("--socket-path={}", socket.display()));
        if program.starts_with("/usr/libexec") {
            daemon.args(["--shared-dir", "/", "--cache", "always"]);
        } else {
            daemon.args([
                "-o",
                "source=/",
                "-o",
                "cache=always",
                "-o",
                "sandbox=chroot",
            ]);
        }
        let log = File::create(self.folder.join("virtiofsd.log"))?;
        daemon
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let guard = Guard(daemon.spawn().context(program)?);
        let deadline = Instant::now() + PATIENCE;
        while !fs::metadata(socket).is_ok_and(|it| it.file_type().is_socket()) {
            if Instant::now() > deadline {
                bail!("virtiofsd does not listen; see {}", self.folder.display());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(guard)
    }

    fn qemu(&self, socket: &Path, script: &Path) -> Result<Command> {
        let modules = fs::canonicalize(&self.files.modules)?;
        let script = fs::canonicalize(script)?;
        let mut qemu = command::outside(qemu(self.arch));
        let console = match self.arch {
            Arch::Amd64 => "ttyS0",
            Arch::Arm64 => {
                qemu.args(["-machine", "virt"]);
                "ttyAMA0"
            }
        };
        qemu.args(self.accelerator.arguments(self.arch));
        qemu.args(["-smp", "2", "-m", MEMORY, "-nodefaults", "-no-user-config"]);
        qemu.args(["-nographic", "-no-reboot"]);
        // virtiofs shares the guest's memory.
        let memory = format!("memory-backend-memfd,id=memory,size={MEMORY},share=on");
        qemu.args(["-object", &memory, "-numa", "node,memdev=memory"]);
        qemu.arg("-chardev");
        qemu.arg(format!("socket,id=root,path={}", socket.display()));
        qemu.args(["-device", "vhost-user-fs-pci,chardev=root,tag=root"]);
        // The kernel's messages go to a file, the script's to our output.
        qemu.arg("-serial");
        qemu.arg(format!("file:{}", self.console().display()));
        qemu.args([
            "-device",
            "virtio-serial-pci",
            "-chardev",
            "stdio,id=out,signal=off",
        ]);
        qemu.args(["-device", "virtconsole,chardev=out"]);
        qemu.arg("-kernel").arg(&self.files.image);
        qemu.arg("-initrd").arg(&self.initrd);
        qemu.arg("-append").arg(format!(
            "console={console} no_timer_check panic=-1 guest.modules={} guest.script={} {}",
            modules.display(),
            script.display(),
            self.root_parameters()?
        ));
        qemu.stdin(Stdio::null()).stdout(Stdio::piped());
        qemu.stderr(File::create(self.folder.join("qemu.log"))?);
        Ok(qemu)
    }
}
