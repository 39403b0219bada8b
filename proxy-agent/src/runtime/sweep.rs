//! Counting the data path's own records, now and then.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tracing::warn;

use crate::maps::{RecordTables, RecordUsage};

/// How often; a sweep costs some tenths of a second of one CPU where tables are full.
const INTERVAL: Duration = Duration::from_mins(1);

/// The last count, for as long as the process runs.
pub(super) fn watch(tables: RecordTables) -> watch::Receiver<RecordUsage> {
    let (sender, receiver) = watch::channel(RecordUsage::default());
    tokio::spawn(sweep(Arc::new(tables), sender));
    receiver
}

async fn sweep(tables: Arc<RecordTables>, usage: watch::Sender<RecordUsage>) {
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        interval.tick().await;
        let tables = Arc::clone(&tables);
        match spawn_blocking(move || tables.usage()).await {
            Ok(Ok(now)) => {
                usage.send_replace(now);
            }
            Ok(Err(error)) => warn!("{:#}", anyhow::Error::from(error)),
            Err(error) => warn!("counting records failed: {error}"),
        }
    }
}
