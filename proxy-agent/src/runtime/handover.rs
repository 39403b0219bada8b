//! Takeover from kube-proxy: connections that netfilter already translates are left to it.

use tracing::info;

use crate::host::translated_by_netfilter;
use crate::maps::NetfilterFlows;

/// Notes the connections that netfilter translates, around the moment in which programs with
/// these maps are attached for the first time.
pub(super) struct Handover {
    flows: Option<NetfilterFlows>,
    is_over: bool,
}

impl Handover {
    /// A handover into these tables; none where an agent has attached programs with them.
    pub(super) fn new(flows: Option<NetfilterFlows>) -> Self {
        Self {
            flows,
            is_over: false,
        }
    }

    /// To be called before the programs are attached.
    pub(super) async fn begin(&self) {
        if let Some(flows) = &self.flows {
            let noted = note(flows).await;
            if noted > 0 {
                info!(connections = noted, "connections left to netfilter");
            }
        }
    }

    /// To be called when they are: a connection may have begun in between. Whether it was the
    /// first time.
    pub(super) async fn end(&mut self) -> bool {
        if let Some(flows) = self.flows.take() {
            note(&flows).await;
        }
        !std::mem::replace(&mut self.is_over, true)
    }
}

/// How many connections were noted.
async fn note(flows: &NetfilterFlows) -> usize {
    let noted = translated_by_netfilter().await.and_then(|connections| {
        flows.note(&connections)?;
        Ok(connections.len())
    });
    noted.unwrap_or_else(|error| {
        // Mostly there is no connection tracking, and so nobody to take over from.
        info!("cannot list netfilter's connections: {error}");
        0
    })
}
