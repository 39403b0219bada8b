//! What operators want to know of the agent.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::SystemTime;

use super::Agent;
use crate::maps::Maps;
use crate::model::object::{Family, Protocol};
use crate::model::{OfferedEndpoint, OfferedFrontend};
use crate::plan::service_name;
use crate::recorder::Event;
use crate::status::{
    CounterValue, DesiredEndpoint, DesiredFrontend, DesiredReport, Details, DevicesReport,
    FamilyReport, MapUsage, Refusal, Report, SocketPathReport,
};

impl<M: Maps> Agent<M> {
    /// How the agent is; `devices` and `counters` are known to others.
    pub fn report(&self, devices: DevicesReport, counters: Vec<CounterValue>) -> Report {
        // Both families are programmed in one pass.
        let pending_since = self
            .writer
            .pending_since()
            .into_iter()
            .chain(self.waiting_since)
            .min();
        let families = Family::ALL.map(|family| FamilyReport {
            family,
            last_updated: self.last_updated,
            pending_for: pending_since.map(|since| since.elapsed()),
        });
        Report {
            families: families.to_vec(),
            node_eligible: self.is_node_eligible(),
            devices,
            ports: self.planner.programmed(),
            maps: self
                .planner
                .usage()
                .map(|(map, used, capacity)| MapUsage {
                    map,
                    used,
                    capacity,
                })
                .to_vec(),
            counters,
            ..Report::at_start(self.health_timeout)
        }
    }

    /// Whether load balancers should use this node. Until its object is known they go on with
    /// what an agent has left that still serves.
    fn is_node_eligible(&self) -> bool {
        match self.model.node() {
            Some(node) => node.is_eligible,
            None => self.node.was_attached && !self.model.is_node_listed(),
        }
    }

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
    DesiredFrontend {
        service: service_name(&offered.port).as_ref().to_owned(),
        kind: offered.kind.name().to_owned(),
        traffic_policy: offered.policy.name().to_owned(),
        endpoints: offered.endpoints.iter().map(endpoint).collect(),
    }
}
