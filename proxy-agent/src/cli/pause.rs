//! The command `pause`: waits for a signal.

use anyhow::{Context as _, Result};

use crate::runtime::Signals;

/// Returns when SIGTERM or SIGINT comes.
pub(super) fn run() -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(async {
            Signals::new()?.next().await;
            Ok(())
        })
}
