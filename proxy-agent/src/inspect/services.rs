//! Service ports with their frontends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use proxy_ebpf::layout::{Frontend, Span, frontend_flags};
use serde::Serialize;

use super::{Filter, Names, ServiceRef, State, family_name};
use crate::model::desired::FrontendKind;
use crate::model::object::{Family, TrafficPolicy, Unanswered};
use crate::plan::{Content, Element, FrontendId, unanswered_of};

/// A Service port in one IP family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Its name.
    pub service: ServiceRef,
    /// Its protocol.
    pub protocol: String,
    /// `IPv4` or `IPv6`.
    pub family: &'static str,
    /// Where clients find it.
    pub frontends: Vec<FrontendRow>,
    /// Endpoints to which new connections go under the policy Cluster.
    pub cluster_endpoints: usize,
    /// Endpoints to which new connections go under the policy Local.
    pub local_endpoints: usize,
    /// How long a client is sent to the endpoint of its last connection; 0 for no affinity.
    pub affinity_seconds: u32,
    /// Who may use its load balancer addresses; everybody where there is no list.
    pub source_ranges: Option<Vec<String>>,
    /// `random` or `maglev`.
    pub algorithm: &'static str,
    /// `snat` or `dsr`.
    pub forwarding: &'static str,
    /// What it says itself of connections whose endpoint does not answer: `off`, `retry` or
    /// `avoid`; none where this is left to the node's setting, or where there is no endpoint.
    pub unanswered: Option<&'static str>,
    /// Connections, and flows of datagrams, since it came.
    pub connections: u64,
    /// Packets of both directions since then.
    pub packets: u64,
}

/// A frontend of a Service port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FrontendRow {
    /// Its address; none of a NodePort, which is at all of the node's.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
    /// What it is: `ClusterIP`, `NodePort`, `External` (of load balancers, or an external IP), or
    /// `Host` where something on the node answers in the Service's place.
    pub kind: &'static str,
    /// `Cluster` or `Local`.
    pub traffic_policy: &'static str,
    /// Whether only the source ranges may use it.
    pub restricted: bool,
}

impl FrontendRow {
    pub(super) fn new(id: &FrontendId, value: &Frontend) -> Self {
        let has = |flag| value.flags & flag != 0;
        let kind = if has(frontend_flags::LEFT_TO_HOST) {
            FrontendKind::LeftToHost
        } else if !has(frontend_flags::EXTERNAL) {
            FrontendKind::ClusterIp
        } else if id.address.is_unspecified() {
            FrontendKind::NodePort
        } else {
            FrontendKind::ExternalIp
        };
        let policy = if has(frontend_flags::LOCAL_POLICY) {
            TrafficPolicy::Local
        } else {
            TrafficPolicy::Cluster
        };
        Self {
            address: Some(id.address).filter(|it| !it.is_unspecified()),
            port: id.port,
            kind: kind.name(),
            traffic_policy: policy.name(),
            restricted: has(frontend_flags::SOURCE_RANGES),
        }
    }

    /// `address:port`; of a NodePort `*:port`.
    pub fn address_and_port(&self) -> String {
        match self.address {
            Some(address) => SocketAddr::new(address, self.port).to_string(),
            None => format!("*:{}", self.port),
        }
    }
}

/// The Service ports, sorted by name.
pub fn list(state: &State, filter: &Filter) -> Vec<ServicePort> {
    let mut by_id: BTreeMap<(u32, Family), Vec<&(FrontendId, Frontend)>> = BTreeMap::new();
    for frontend in &state.content.frontends {
        let (id, value) = frontend;
        let key = (value.service, Family::of(id.address));
        by_id.entry(key).or_default().push(frontend);
    }
    let names = Names::new(&state.content.service_names);
    let unanswered = unanswered(&state.content);
    let mut ports: Vec<_> = by_id
        .into_iter()
        .filter(|((id, family), frontends)| {
            let ends = || {
                frontends
                    .iter()
                    .map(|(id, _)| SocketAddr::new(id.address, id.port))
            };
            filter.has_service(&names.of(*id))
                && filter.has_family(*family)
                && filter.has_any(ends())
                && frontends
                    .iter()
                    .any(|(id, _)| filter.has_protocol(id.protocol.number()))
        })
        .filter_map(|((id, family), frontends)| {
            let unanswered = unanswered.get(&(id, family)).map(|it| it.name());
            port(state, names.of(id), family, frontends, unanswered)
        })
        .collect();
    ports.sort_by(|a, b| {
        let key = |it: &ServicePort| (it.service.clone(), it.family, it.protocol.clone());
        key(a).cmp(&key(b))
    });
    ports
}

/// What Service ports say themselves of connections that are not answered; their backends know it.
fn unanswered(content: &Content) -> BTreeMap<(u32, Family), Unanswered> {
    let backends = content.backends.iter();
    let said = backends.filter_map(|(family, _, element)| match element {
        Element::Living(entry) => Some(((entry.service, *family), unanswered_of(entry.flags)?)),
        Element::Ended { .. } => None,
    });
    said.collect()
}

fn port(
    state: &State,
    service: ServiceRef,
    family: Family,
    mut frontends: Vec<&(FrontendId, Frontend)>,
    unanswered: Option<&'static str>,
) -> Option<ServicePort> {
    frontends.sort_by_key(|(id, value)| (value.flags & frontend_flags::EXTERNAL, *id));
    let (first, value) = frontends.first()?;
    let has = |flag| frontends.iter().any(|(_, value)| value.flags & flag != 0);
    let traffic = state.of_service(service.id);
    let ranges = state.content.source_ranges.iter();
    let ranges =
        ranges.filter(|(id, range)| *id == service.id && Family::of(range.network()) == family);
    Some(ServicePort {
        protocol: first.protocol.to_string(),
        family: family_name(family),
        cluster_endpoints: members(&state.content, value.cluster).len(),
        local_endpoints: members(&state.content, value.local).len(),
        affinity_seconds: value.affinity_seconds,
        source_ranges: has(frontend_flags::SOURCE_RANGES)
            .then(|| ranges.map(|(_, range)| range.to_string()).collect()),
        algorithm: if has(frontend_flags::HASHED) {
            "maglev"
        } else {
            "random"
        },
        forwarding: if has(frontend_flags::DSR) {
            "dsr"
        } else {
            "snat"
        },
        unanswered,
        connections: traffic.connections,
        packets: traffic.packets,
        frontends: frontends
            .iter()
            .map(|(id, value)| FrontendRow::new(id, value))
            .collect(),
        service,
    })
}

/// The backends in a set.
pub(super) fn members(content: &Content, span: Span) -> BTreeSet<u32> {
    let slots = content.slots_of(span).unwrap_or_default();
    slots.iter().copied().collect()
}
