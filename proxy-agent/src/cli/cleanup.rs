//! `run --cleanup`: removes what agents have left on this machine.

use std::path::Path;

use anyhow::{Context as _, Result};
use tracing::info;

use crate::attach::{CleanedDevice, clean_up};
use crate::config::Settings;
use crate::maps::{Pins, is_bpffs};

/// Removes all that is there, and says what that was.
pub(super) fn run(settings: &Settings) -> Result<()> {
    if let Some(bpffs) = &settings.own.bpffs {
        remove_pins(bpffs)?;
    }
    let cleaned = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(clean_up())?;
    for CleanedDevice {
        device,
        filters,
        qdisc,
    } in cleaned
    {
        info!(device, filters, clsact = qdisc, "removed");
    }
    info!("cleaned up");
    Ok(())
}

/// Removes maps and links: what these have attached is detached.
fn remove_pins(bpffs: &Path) -> Result<()> {
    if !is_bpffs(bpffs).unwrap_or(false) {
        return Ok(());
    }
    let pins = Pins::open(bpffs).context("stop it first")?;
    pins.remove_all()?;
    info!(bpffs = %bpffs.display(), "removed the pins");
    Ok(())
}
