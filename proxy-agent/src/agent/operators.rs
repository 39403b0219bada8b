//! What operators want to know of the agent.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::SystemTime;

use super::Agent;
use crate::maps::Maps;
use crate::model::desired::FrontendKind;
use crate::model::object::{Protocol, TrafficPolicy};
use crate::model::{OfferedEndpoint, OfferedFrontend};
use crate::plan::{Write, service_name};
use crate::recorder::Event;
use crate::status::{
    AuditReport, DesiredEndpoint, DesiredFrontend, DesiredReport, Details, Difference, Refusal,
    SocketPathReport,
};

impl<M: Maps> Agent<M> {
    /// What operators want to know of it; the rest is known to others.
    pub fn details(&self) -> Details {
        let ports = || self.planner.ports();
        let services: BTreeSet<_> = ports().map(|(name, ..)| &name.service).collect();
        Details {
            started: self.started,
            in_sync_since: self.in_sync_since,
            services: services.len(),
            endpoints: ports().map(|(_, _, endpoints)| endpoints.len()).sum(),
            devices: Vec::new(),
            socket_path: SocketPathReport::default(),
            refusals: self.refusals.newest_first(),
            api_server: self.metrics().requests.contact(),
        }
    }

    /// What should be served at a destination.
    pub fn desired_at(&self, at: SocketAddr, protocol: Protocol) -> DesiredReport {
        let offered = self.model.offered_at(at.ip(), at.port(), protocol);
        DesiredReport {
            is_pending: !self.is_programmed
                || self.waiting_since.is_some()
                || self.writer.pending_since().is_some(),
            frontend: offered.map(|it| desired_frontend(&it)),
        }
    }

    /// Keeps what is to be reported at an object.
    pub(super) fn add_event(&mut self, event: Event) {
        self.refusals.add(Refusal {
            time: SystemTime::now(),
            object: event.regarding.to_string(),
            reason: event.reason,
            note: event.note.clone(),
        });
        self.events.push(event);
    }
}

fn desired_frontend(offered: &OfferedFrontend) -> DesiredFrontend {
    let endpoint = |it: &OfferedEndpoint| DesiredEndpoint {
        endpoint: it.endpoint.socket(),
        local: it.endpoint.local,
        under_cluster: it.cluster.name().to_owned(),
        under_local: it.local.name().to_owned(),
    };
    let kind = match offered.kind {
        FrontendKind::ClusterIp => "ClusterIP",
        FrontendKind::NodePort => "NodePort",
        FrontendKind::LoadBalancer | FrontendKind::ExternalIp => "External",
        FrontendKind::LeftToHost => "Host",
    };
    let policy = match offered.policy {
        TrafficPolicy::Cluster => "Cluster",
        TrafficPolicy::Local => "Local",
    };
    DesiredFrontend {
        service: service_name(&offered.port).as_ref().to_owned(),
        kind: kind.to_owned(),
        traffic_policy: policy.to_owned(),
        endpoints: offered.endpoints.iter().map(endpoint).collect(),
    }
}

/// What was not as it should be: bits of the packet filter, and the elements of these writes.
pub(super) fn audit_report(filter_bits: usize, repairs: &[Write]) -> AuditReport {
    let bits = (filter_bits > 0).then(|| Difference {
        element: format!("{filter_bits} bits of the packet filter"),
        repair: "written".to_owned(),
    });
    let elements = repairs.iter().map(|write| Difference {
        element: write.element().to_string(),
        repair: if write.is_removal() {
            "removed"
        } else {
            "written"
        }
        .to_owned(),
    });
    AuditReport {
        not_done: None,
        count: repairs.len() + usize::from(bits.is_some()),
        differences: bits
            .into_iter()
            .chain(elements)
            .take(AuditReport::TOLD)
            .collect(),
    }
}
