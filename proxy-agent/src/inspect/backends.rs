//! The endpoints that the maps hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use proxy_ebpf::layout::backend_flags;
use serde::Serialize;

use super::services::members;
use super::{Filter, Names, ServiceRef, State};
use crate::model::object::{Family, Protocol};
use crate::plan::{Content, Element};

/// An endpoint of a Service port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendRow {
    /// The Service port; none of an endpoint that is gone.
    pub service: Option<ServiceRef>,
    /// The Service port's protocol, where a frontend says it.
    pub protocol: Option<String>,
    /// Address and port.
    pub endpoint: SocketAddr,
    /// `serving`: new connections go to it; `suspect`: they avoid it, since it does not answer;
    /// `draining`: only established ones do; `gone`.
    pub state: &'static str,
    /// Whether it is on this node.
    pub local: bool,
    /// Whether new connections go to it under the policy Cluster.
    pub in_cluster_set: bool,
    /// Whether new connections go to it under the policy Local.
    pub in_local_set: bool,
    /// Connections, and flows of datagrams, since it came.
    pub connections: u64,
    /// Packets of both directions since then.
    pub packets: u64,
    /// Its index in the maps.
    pub index: u32,
    /// Which life of the index it is; odd while it serves.
    pub generation: u32,
}

/// The state of an endpoint to which new connections go.
pub const SERVING: &str = "serving";
/// That of one that they avoid.
pub const SUSPECT: &str = "suspect";
/// That of one whose life has ended.
const GONE: &str = "gone";

/// What frontends say of the backends of one Service port.
#[derive(Default)]
struct Sets {
    protocol: Option<Protocol>,
    cluster: BTreeSet<u32>,
    local: BTreeSet<u32>,
}

/// The sets of all Service ports, or of the one.
fn sets(content: &Content, only: Option<u32>) -> BTreeMap<(u32, Family), Sets> {
    let mut sets: BTreeMap<_, Sets> = BTreeMap::new();
    let is_meant = |service| only.is_none_or(|it| it == service);
    let frontends = content.frontends.iter();
    for (id, value) in frontends.filter(|(_, value)| is_meant(value.service)) {
        let of_port = sets
            .entry((value.service, Family::of(id.address)))
            .or_default();
        // All frontends of a port lead to the same sets.
        if of_port.protocol.is_none() {
            *of_port = Sets {
                protocol: Some(id.protocol),
                cluster: members(content, value.cluster),
                local: members(content, value.local),
            };
        }
    }
    sets
}

/// The endpoints, sorted by Service port; those that are gone only if `with_gone`.
pub fn list(state: &State, filter: &Filter, with_gone: bool) -> Vec<BackendRow> {
    let sets = sets(&state.content, None);
    rows(state, filter, with_gone, &sets)
}

/// The endpoints of the Service port with this id.
pub fn of_service_port(state: &State, id: u32) -> Vec<BackendRow> {
    let sets = sets(&state.content, Some(id));
    let mut rows = rows(state, &Filter::default(), false, &sets);
    rows.retain(|row| row.service.as_ref().is_some_and(|it| it.id == id));
    rows
}

fn rows(
    state: &State,
    filter: &Filter,
    with_gone: bool,
    sets: &BTreeMap<(u32, Family), Sets>,
) -> Vec<BackendRow> {
    let names = Names::new(&state.content.service_names);
    let none = Sets::default();
    let rows = state
        .content
        .backends
        .iter()
        .filter_map(|(family, index, element)| {
            let traffic = state.of_backend(*family, *index);
            let row = match element {
                Element::Living(entry) => {
                    let sets = sets.get(&(entry.service, *family)).unwrap_or(&none);
                    let is_suspect = state.is_suspect(*family, *index, entry.generation);
                    let is_in_a_set = sets.cluster.contains(index) || sets.local.contains(index);
                    BackendRow {
                        service: Some(names.of(entry.service)),
                        protocol: sets.protocol.map(|it| it.to_string()),
                        endpoint: SocketAddr::new(entry.address, entry.port),
                        state: match (is_in_a_set, is_suspect) {
                            (false, _) => "draining",
                            (true, true) => SUSPECT,
                            (true, false) => SERVING,
                        },
                        local: entry.flags & backend_flags::LOCAL != 0,
                        in_cluster_set: sets.cluster.contains(index),
                        in_local_set: sets.local.contains(index),
                        connections: traffic.connections,
                        packets: traffic.packets,
                        index: *index,
                        generation: entry.generation,
                    }
                }
                Element::Ended {
                    endpoint,
                    generation,
                } => BackendRow {
                    service: None,
                    protocol: None,
                    endpoint: *endpoint,
                    state: GONE,
                    local: false,
                    in_cluster_set: false,
                    in_local_set: false,
                    connections: traffic.connections,
                    packets: traffic.packets,
                    index: *index,
                    generation: *generation,
                },
            };
            is_wanted(&row, *family, filter, with_gone).then_some(row)
        });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by(|a, b| {
        let key = |it: &BackendRow| (it.state == GONE, it.service.clone(), it.endpoint, it.index);
        key(a).cmp(&key(b))
    });
    rows
}

fn is_wanted(row: &BackendRow, family: Family, filter: &Filter, with_gone: bool) -> bool {
    let protocol = filter.protocol.map(|it| it.to_string());
    (row.state != GONE || with_gone)
        && filter.has_family(family)
        && filter.has_any([row.endpoint])
        && match &row.service {
            Some(service) => filter.has_service(service),
            None => filter.service.is_none(),
        }
        && (protocol.is_none() || protocol == row.protocol)
}
