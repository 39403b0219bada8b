//! One agent after another without a moment in which nobody answers load balancers: the one
//! that ends goes on answering until the next one listens, too.

use std::future::pending;
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{interval, sleep};
use tracing::{info, warn};

use super::Signals;
use super::reports::{Attachments, Reports};
use crate::agent::Agent;
use crate::maps::{KernelMaps, Standby};
use crate::status::Detail;

/// How long the next agent may take: to load its programs, and to list the objects. Below the
/// Pod's grace period.
const LIMIT: Duration = Duration::from_secs(20);

/// How often the next one is looked at.
const INTERVAL: Duration = Duration::from_millis(50);

/// How long those are answered who connected before the next one listened.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

/// What an agent answers with that has left everything else to the next one.
pub(super) struct Predecessor {
    pub(super) agent: Agent<KernelMaps>,
    pub(super) reports: Reports,
    pub(super) attachments: Attachments,
    pub(super) signals: Signals,
    pub(super) succeeded: watch::Sender<bool>,
}

impl Predecessor {
    /// Answers until the agent that waits, if there is one, answers; or another signal comes.
    pub(super) async fn answer_until_succeeded(mut self, bpffs: &Path) {
        if !Standby::is_announced(bpffs) {
            return;
        }
        info!("another agent takes over; health checks are answered until it answers them");
        tokio::select! {
            () = give_way(bpffs, &self.succeeded) => {}
            () = self.signals.next() => {}
            () = sleep(LIMIT) => {
                warn!(seconds = LIMIT.as_secs(), "the next agent does not answer yet; exiting");
            }
            () = answer(&mut self.reports, &mut self.agent, &self.attachments) => {}
        }
    }
}

/// Returns when the next agent answers everything that comes.
async fn give_way(bpffs: &Path, succeeded: &watch::Sender<bool>) {
    let mut interval = interval(INTERVAL);
    while Standby::is_announced(bpffs) {
        interval.tick().await;
    }
    succeeded.send_replace(true);
    sleep(LAST_ANSWERS).await;
}

async fn answer(reports: &mut Reports, agent: &mut Agent<KernelMaps>, attachments: &Attachments) {
    while let Some(query) = reports.next().await {
        // The maps are the next agent's.
        if query.detail != Detail::Audit {
            reports.answer(query, agent, attachments);
        }
    }
    pending::<()>().await;
}
