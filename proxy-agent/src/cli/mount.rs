//! The command `mount`: mounts for the host what the agent is not allowed to.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use nix::mount::{MsFlags, mount};
use tracing::info;

use super::logging::LogArgs;
use crate::config::DEFAULT_BPFFS;
use crate::maps::is_bpffs;

/// What to mount, and where.
#[derive(Debug, Args)]
pub(super) struct MountArgs {
    /// Where a BPF file system is to be; where there is one, it stays.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_BPFFS)]
    bpffs: PathBuf,

    /// How to log: text for people, or one JSON object a line.
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub(super) log_format: String,

    #[command(flatten)]
    pub(super) log: LogArgs,
}

/// Mounts what is not there yet.
pub(super) fn run(args: &MountArgs) -> Result<()> {
    let MountArgs { bpffs, .. } = args;
    let is_there =
        is_bpffs(bpffs).with_context(|| format!("cannot look at {}", bpffs.display()))?;
    if is_there {
        info!(directory = %bpffs.display(), "BPF file system is already mounted");
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
