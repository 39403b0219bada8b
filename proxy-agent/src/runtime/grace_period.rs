//! Grace periods: after one no program looks at what was replaced before it.

use tokio::task::{JoinHandle, spawn_blocking};
use tracing::error;

use crate::agent::Agent;
use crate::maps::{self, KernelMaps};
use crate::plan::Retired;

/// The grace period under way, with what may be used again after it.
#[derive(Default)]
pub(super) struct GracePeriod {
    waiting: Option<(JoinHandle<()>, Retired)>,
}

impl GracePeriod {
    /// Begins one if there is need for it and none is under way.
    pub(super) fn begin(&mut self, agent: &mut Agent<KernelMaps>) {
        if self.waiting.is_none() {
            self.waiting = agent
                .take_retired()
                .map(|retired| (spawn_blocking(maps::synchronize_rcu), retired));
        }
    }

    /// Returns at its end; never while none is under way. Safe to cancel.
    pub(super) async fn next(&mut self) -> Retired {
        let Some((wait, _)) = &mut self.waiting else {
            return std::future::pending().await;
        };
        if let Err(error) = wait.await {
            error!("waiting for a grace period failed: {error}");
        }
        self.waiting
            .take()
            .map(|(_, retired)| retired)
            .unwrap_or_default()
    }
}
