//! A BPF file system of a test's own.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::process::Process;

/// Where it is for whoever is inside.
const PLACE: &str = "/sys/fs/bpf";
const TIMEOUT: Duration = Duration::from_secs(10);

/// A mount namespace with a BPF file system of its own at `/sys/fs/bpf`, and all else as
/// outside. What is pinned there goes with it, also when the test is killed.
#[derive(Debug)]
pub struct Bpffs {
    holder: Process,
}

impl Bpffs {
    /// Makes one.
    pub fn new() -> Result<Self> {
        let mut command = Command::new("unshare");
        let script = format!("mount -t bpf bpf {PLACE} && echo mounted && exec sleep infinity");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        let holder = Process::spawn("a BPF file system", command)?;
        holder.wait_for_line(TIMEOUT, |line| line == "mounted")?;
        Ok(Self { holder })
    }

    /// The option of `nsenter` that leads inside.
    pub fn entrance(&self) -> String {
        format!("--mount=/proc/{}/ns/mnt", self.holder.id())
    }

    /// Where it is for whoever is outside.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/root{PLACE}", self.holder.id()).into()
    }

    /// What is in a folder of it, as names.
    pub fn list(&self, folder: &str) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(self.path().join(folder))?;
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }
}
