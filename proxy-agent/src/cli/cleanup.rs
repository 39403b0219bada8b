//! `run --cleanup`: removes what agents have left on this machine.

use std::path::Path;

use anyhow::{Context as _, Result};
use tracing::{info, warn};

use crate::attach::{CleanedDevice, clean_up};
use crate::config::Settings;
use crate::maps::{PinnedMapsError, Pins, is_bpffs};
use crate::runtime::{GiveBackError, give_back};

/// Removes all that is there, and says what that was.
pub(super) fn run(settings: &Settings) -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(remove(settings))
}

async fn remove(settings: &Settings) -> Result<()> {
    if let Some(bpffs) = &settings.own.bpffs {
        remove_pins(bpffs).await?;
    }
    let cleaned = clean_up().await?;
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

/// Removes maps and links: what these have attached is detached. Before that netfilter gets the
/// flows.
async fn remove_pins(bpffs: &Path) -> Result<()> {
    if !is_bpffs(bpffs).unwrap_or(false) {
        return Ok(());
    }
    let pins = Pins::open(bpffs).context("stop it first")?;
    match give_back(bpffs).await {
        Ok(()) | Err(GiveBackError::Pins(PinnedMapsError::Absent(_))) => {}
        Err(error) => {
            let error = anyhow::Error::from(error);
            warn!("connections end that the programs have translated: {error:#}");
        }
    }
    pins.remove_all()?;
    info!(bpffs = %bpffs.display(), "removed the pins");
    Ok(())
}
