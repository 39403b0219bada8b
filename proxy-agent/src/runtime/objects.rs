//! The source of objects, and changes of them.

use anyhow::Result;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use crate::agent::Agent;
use crate::config::Source;
use crate::maps::KernelMaps;
use crate::model::Change;
use crate::source::kube::RequestMetrics;
use crate::source::{files, kube};

/// Batches of changes that may wait between the source and the model.
const WAITING_BATCHES: usize = 64;

/// A source, which runs while [`Self::next`] is awaited.
pub(super) struct SourceTask(BoxFuture<'static, Result<()>>);

/// Batches of changes.
pub(super) struct Changes(mpsc::Receiver<Vec<Change>>);

/// A source of the objects that this node needs.
pub(super) fn start(
    source: Source,
    node_name: String,
    requests: RequestMetrics,
) -> (SourceTask, Changes) {
    let (sender, changes) = mpsc::channel(WAITING_BATCHES);
    let task = async move {
        match source {
            Source::Kube(settings) => {
                kube::watch(&settings, &node_name, requests, sender).await?;
            }
            Source::Files(directory) => files::watch(&directory, &node_name, sender).await?,
        }
        Ok(())
    };
    (SourceTask(task.boxed()), Changes(changes))
}

impl SourceTask {
    /// Returns when the source has ended, which it does only with an error. Safe to cancel.
    pub(super) async fn next(&mut self) -> Result<()> {
        (&mut self.0).await
    }
}

impl Changes {
    /// A batch. Safe to cancel.
    pub(super) async fn next(&mut self) -> Option<Vec<Change>> {
        self.0.recv().await
    }

    /// Hands the agent a batch, and with it all that came meanwhile: under load changes are
    /// merged, when idle they are programmed as they come.
    pub(super) fn apply(&mut self, batch: Vec<Change>, agent: &mut Agent<KernelMaps>) {
        agent.apply(batch);
        while let Ok(batch) = self.0.try_recv() {
            agent.apply(batch);
        }
    }
}
