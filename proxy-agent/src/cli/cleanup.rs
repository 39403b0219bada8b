//! `run --cleanup`: removes what agents have left on this machine.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use tracing::info;

use super::mount::{BPFFS, is_bpffs};
use crate::attach::{Cleaned, clean_up};

/// The agent's folder in the BPF file system.
const PINS: &str = "proxy-agent";

/// Removes all that is there, and says what that was.
pub(super) fn run() -> Result<()> {
    let cleaned = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(clean_up())?;
    for Cleaned {
        device,
        filters,
        qdisc,
    } in cleaned
    {
        info!(device, filters, clsact = qdisc, "removed");
    }
    remove_pins(Path::new(BPFFS))?;
    info!("cleaned up");
    Ok(())
}

/// This agent pins nothing, but another version may have.
fn remove_pins(bpffs: &Path) -> Result<()> {
    let pins = bpffs.join(PINS);
    if !pins.exists() || !is_bpffs(bpffs)? {
        return Ok(());
    }
    fs::remove_dir_all(&pins).with_context(|| format!("cannot remove {}", pins.display()))?;
    info!(pins = %pins.display(), "removed");
    Ok(())
}
