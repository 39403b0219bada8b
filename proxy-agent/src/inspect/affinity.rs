//! Where clients are sent again (`sessionAffinity: ClientIP`).

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use proxy_ebpf::flow_table::idle;
use proxy_ebpf::layout::ticks;
use serde::Serialize;

use super::time::seconds;
use super::{Filter, Names, ServiceRef, State};
use crate::maps::AffinityRecord;
use crate::model::object::Family;
use crate::plan::{BackendEntry, Element};

/// What is remembered of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AffinityRow {
    /// The Service port.
    pub service: ServiceRef,
    /// The client.
    pub client: IpAddr,
    /// The endpoint of its last connection; none where that is gone.
    pub endpoint: Option<SocketAddr>,
    /// Seconds since that connection began.
    pub age_seconds: u64,
    /// Seconds until it is forgotten, unless there is another connection.
    pub expires_in_seconds: u64,
}

/// Reads what is remembered.
pub struct Reader<'a> {
    names: Names<'a>,
    /// Living backends by family and index.
    backends: HashMap<(Family, u32), &'a BackendEntry>,
    /// The time for which Service ports remember.
    affinity_seconds: BTreeMap<u32, u32>,
    now: u32,
}

impl<'a> Reader<'a> {
    /// A reader with what the maps hold, at a time in [`ticks`].
    pub fn new(state: &'a State, now: u32) -> Self {
        let backends = state.content.backends.iter();
        let backends = backends.filter_map(|(family, index, element)| match element {
            Element::Living(entry) => Some(((*family, *index), entry)),
            Element::Ended { .. } => None,
        });
        let frontends = state.content.frontends.iter();
        Self {
            names: Names::new(&state.content.service_names),
            backends: backends.collect(),
            affinity_seconds: frontends
                .map(|(_, value)| (value.service, value.affinity_seconds))
                .collect(),
            now,
        }
    }

    /// What a record says, if it is in force and wanted; with `all` also where the time is over or
    /// the endpoint gone.
    pub fn row(&self, record: &AffinityRecord, filter: &Filter, all: bool) -> Option<AffinityRow> {
        let family = Family::of(record.client);
        let service = self.names.of(record.service);
        if !filter.has_service(&service) || !filter.has_family(family) {
            return None;
        }
        let backend = self.backends.get(&(family, record.backend));
        let is_same = |it: &&&BackendEntry| {
            it.generation == record.generation && it.service == record.service
        };
        let endpoint = backend
            .filter(is_same)
            .map(|it| SocketAddr::new(it.address, it.port));
        let lasts = self.affinity_seconds.get(&record.service);
        let lasts = ticks::from_seconds(lasts.copied().unwrap_or(0));
        let age = idle(record.last_seen, self.now);
        if !all && (age > lasts || endpoint.is_none()) {
            return None;
        }
        let is_wanted = filter.has_any(endpoint) || filter.has_address(record.client);
        (is_wanted && (filter.port.is_none() || filter.has_any(endpoint))).then(|| AffinityRow {
            service,
            client: record.client,
            endpoint,
            age_seconds: seconds(age),
            expires_in_seconds: seconds(lasts.saturating_sub(age)),
        })
    }
}

/// Sorts rows by Service port and client.
pub fn sort(rows: &mut [AffinityRow]) {
    rows.sort_by(|a, b| (&a.service, a.client).cmp(&(&b.service, b.client)));
}
