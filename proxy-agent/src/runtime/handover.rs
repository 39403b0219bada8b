//! Taking over from a proxy that works in netfilter: its connections stay its own.

use tracing::info;

use crate::host::translated_by_netfilter;
use crate::maps::ForeignFlows;

/// Notes the connections that netfilter translates, around the moment in which the
/// programs are attached for the first time.
pub(super) struct Handover {
    flows: Option<ForeignFlows>,
}

impl Handover {
    /// A handover into these tables; none where an agent has served before.
    pub(super) fn new(flows: Option<ForeignFlows>) -> Self {
        Self { flows }
    }

    /// To be called before the programs are attached.
    pub(super) async fn begin(&self) {
        if let Some(flows) = &self.flows {
            let noted = note(flows).await;
            if noted > 0 {
                info!(
                    connections = noted,
                    "left to netfilter, which translates them"
                );
            }
        }
    }

    /// To be called when they are: a connection may have begun in between.
    pub(super) async fn end(&mut self) {
        if let Some(flows) = self.flows.take() {
            note(&flows).await;
        }
    }
}

/// How many connections were noted.
async fn note(flows: &ForeignFlows) -> usize {
    let noted = translated_by_netfilter().await.and_then(|connections| {
        flows.note(&connections)?;
        Ok(connections.len())
    });
    noted.unwrap_or_else(|error| {
        // Mostly there is no connection tracking, and so nobody to take over from.
        info!("connections that netfilter translates, if any, cannot be listed: {error}");
        0
    })
}
