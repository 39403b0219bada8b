//! The command `mount`: mounts for the host what the agent is not allowed to.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use tracing::info;

use super::logging::LogArgs;

/// Where BPF file systems are mounted.
pub(super) const BPFFS: &str = "/sys/fs/bpf";

/// What to mount, and where.
#[derive(Debug, Args)]
pub(super) struct MountArgs {
    /// Where a BPF file system is to be; where there is one, it stays.
    #[arg(long, value_name = "DIR", default_value = BPFFS)]
    bpffs: PathBuf,

    #[command(flatten)]
    pub(super) log: LogArgs,
}

/// Mounts what is not there yet.
pub(super) fn run(args: &MountArgs) -> Result<()> {
    let MountArgs { bpffs, .. } = args;
    if is_bpffs(bpffs)? {
        info!(directory = %bpffs.display(), "there is a BPF file system");
        return Ok(());
    }
    // As systemd mounts it.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), bpffs, Some("bpf"), flags, Some("mode=0700")).with_context(|| {
        format!(
            "cannot mount a BPF file system at {} (has the process CAP_SYS_ADMIN?)",
            bpffs.display()
        )
    })?;
    info!(directory = %bpffs.display(), "mounted a BPF file system");
    Ok(())
}

/// Whether `directory` is in a BPF file system.
pub(super) fn is_bpffs(directory: &Path) -> Result<bool> {
    let found =
        statfs(directory).with_context(|| format!("cannot look at {}", directory.display()))?;
    Ok(found.filesystem_type() == BPF_FS_MAGIC)
}
