//! Adopts the maps of the previous agent: ids, spans and generations stay, so that its flows
//! stay valid and unchanged Services cost no write.
//!
//! The maps know Service ports by id only. An adopted port is unclaimed until a Service port
//! with one of its frontends is planned; what is unclaimed after the first plan is removed.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use proxy_ebpf::layout::{Frontend as Value, Span, backend_flags, frontend_flags};

use super::builder::PlanBuilder;
use super::content::{Content, Element};
use super::flags;
use super::names;
use super::planner::{Planner, at};
use super::pool::{Backends, IdAllocator, QuarantinedBackend};
use super::programmed::Programmed;
use super::span::SlotAllocator;
use super::write::{BackendEntry, FrontendId, Write};
use crate::model::desired::{Endpoint, Frontend, FrontendKind, PortName};
use crate::model::object::{Algorithm, Family, Forwarding, TrafficPolicy};

/// Why the maps' content cannot be gone on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IncompatibleMaps {
    /// It uses more than there is room for now.
    #[error("it does not fit into the configured map sizes")]
    TooLarge,
    /// Two spans overlap, or a number is used twice: not the work of an agent.
    #[error("it contradicts itself")]
    Inconsistent,
}

/// What was adopted and nobody has claimed yet.
#[derive(Debug, Default)]
pub(super) struct Unclaimed {
    /// Ports by Service port id.
    ports: HashMap<u32, (Family, Programmed)>,
    /// Every frontend that nobody has claimed, with the port that it leads to in one
    /// piece; none where its value is not the one that the rest of the port says.
    frontends: HashMap<FrontendId, Option<u32>>,
    /// What only such values, or nothing at all, lead to.
    spans: Vec<Span>,
    backends: Vec<(SocketAddr, u32)>,
    source_ranges: Vec<(u32, IpNet)>,
    services: Vec<u32>,
    names: BTreeMap<u32, Arc<str>>,
}

impl Unclaimed {
    /// Whether a frontend is in the kernel and nobody's.
    pub(super) fn has_frontend(&self, id: &FrontendId) -> bool {
        self.frontends.contains_key(id)
    }

    /// An id has another name now.
    pub(super) fn forget_name(&mut self, service: u32) {
        self.names.remove(&service);
    }

    /// Takes over a single frontend; whether it was there.
    pub(super) fn take_frontend(&mut self, id: &FrontendId) -> bool {
        self.frontends.remove(id).is_some()
    }

    /// Takes over the port that one of these frontends leads to, ClusterIPs first.
    fn take_port(&mut self, name: &PortName, frontends: &[Frontend]) -> Option<Programmed> {
        let known = |frontend: &Frontend| {
            let id = FrontendId::of(name, frontend);
            let service = self.frontends.get(&id).copied().flatten()?;
            Some((frontend.kind, service))
        };
        let (_, service) = frontends.iter().filter_map(known).min()?;
        let (_, mut port) = self.ports.remove(&service)?;
        // Another port may have taken over some of its frontends meanwhile.
        let frontends = port.frontends.into_iter();
        port.frontends = frontends
            .filter(|frontend| self.take_frontend(&FrontendId::of(name, frontend)))
            .collect();
        Some(port)
    }
}

impl Planner {
    /// Takes over what the maps hold, as nobody's yet. The writes mend what an agent that
    /// was killed has left half done.
    ///
    /// # Errors
    ///
    /// Nothing was taken over; the maps have to be filled anew.
    pub fn adopt(
        &mut self,
        content: &Content,
        now: Instant,
    ) -> Result<Vec<Write>, IncompatibleMaps> {
        let mut reading = Adoption::new(content);
        for (service, frontends) in reading.take_frontends() {
            reading.read_port(service, &frontends)?;
        }
        reading.keep_the_rest();
        let Adoption {
            unclaimed, repairs, ..
        } = reading;

        let spans = unclaimed.ports.values().map(|(_, port)| port.block);
        let slots = SlotAllocator::without(
            self.capacity.slots,
            spans.chain(unclaimed.spans.iter().copied()),
        )?;
        let backends = Family::ALL.map(|family| {
            let of_family = content.backends.iter().filter(|(it, ..)| *it == family);
            let lives = of_family.map(|(_, index, element)| match element {
                Element::Living(entry) => (*index, entry.generation),
                Element::Ended { generation, .. } => (*index, *generation),
            });
            let resting = self.quarantine_of(content, family, now);
            Backends::holding(self.capacity.backends, lives, resting)
        });
        let [Some(v4), Some(v6)] = backends else {
            return Err(IncompatibleMaps::TooLarge);
        };
        let ids = unclaimed.ports.keys().chain(&unclaimed.services);
        let services = IdAllocator::holding(self.services.limit(), &ids.copied().collect());
        self.services = services.ok_or(IncompatibleMaps::TooLarge)?;
        self.slots = slots;
        self.backends = [v4, v6];
        for (id, _) in &content.frontends {
            self.frontends[at(Family::of(id.address))] += 1;
        }
        for (_, range) in &content.source_ranges {
            self.source_ranges[at(Family::of(range.network()))] += 1;
        }
        self.unclaimed = unclaimed;
        Ok(repairs)
    }

    /// The backends of which connections may still have to be reset: it is not known how long
    /// they have rested.
    fn quarantine_of(
        &self,
        content: &Content,
        family: Family,
        now: Instant,
    ) -> VecDeque<QuarantinedBackend> {
        let ended = content.backends.iter().filter_map(|(of, index, element)| {
            let Element::Ended { endpoint, .. } = element else {
                return None;
            };
            (*of == family && self.reset_after.is_some()).then_some(QuarantinedBackend {
                since: now,
                index: *index,
                endpoint: *endpoint,
            })
        });
        ended.collect()
    }

    /// Gives a port that is planned for the first time what was adopted for it.
    pub(super) fn claim(
        &mut self,
        name: &PortName,
        frontends: &[Frontend],
        draft: &mut PlanBuilder<'_>,
    ) {
        if self.ports.contains_key(name) {
            return;
        }
        if let Some(port) = self.unclaimed.take_port(name, frontends) {
            if self.unclaimed.names.remove(&port.service) != Some(names::text(name)) {
                draft.name(port.service, name);
            }
            let name = Arc::new(name.clone());
            self.tables.replace(&name.service, 0, port.table_slots());
            for frontend in &port.frontends {
                let id = FrontendId::of(&name, frontend);
                self.owners.insert(id, Arc::clone(&name));
            }
            self.insert_port(name, port);
        }
    }

    /// Ends what was adopted and not claimed: nobody wants it.
    pub(super) fn end_unclaimed(&mut self, draft: &mut PlanBuilder<'_>) {
        let unclaimed = std::mem::take(&mut self.unclaimed);
        for id in unclaimed.frontends.into_keys() {
            self.frontends[at(Family::of(id.address))] -= 1;
            draft.write_other(Write::RemoveFrontend { id });
        }
        for (family, port) in unclaimed.ports.into_values() {
            self.end_port(family, &port, None, draft);
        }
        for (endpoint, index) in unclaimed.backends {
            let pool = &mut self.backends[at(Family::of(endpoint.ip()))];
            draft.end_backend(None, endpoint, index, pool.end(index));
        }
        for (service, range) in unclaimed.source_ranges {
            self.source_ranges[at(Family::of(range.network()))] -= 1;
            draft.end_source_range(None, service, range);
        }
        for span in unclaimed.spans {
            draft.end_span(None, span);
        }
        for service in unclaimed.services {
            draft.end_service(None, service);
        }
        for service in unclaimed.names.into_keys() {
            draft.write_other(Write::RemoveServiceName { service });
        }
    }
}

/// Service ports while they are put together from the maps' content.
struct Adoption<'a> {
    content: &'a Content,
    /// Living backends by Service port id and IP family.
    backends: HashMap<(u32, Family), Vec<(u32, BackendEntry)>>,
    ranges: BTreeMap<(u32, Family), Vec<IpNet>>,
    unclaimed: Unclaimed,
    repairs: Vec<Write>,
}

impl<'a> Adoption<'a> {
    fn new(content: &'a Content) -> Self {
        let mut reading = Self {
            content,
            backends: HashMap::new(),
            ranges: BTreeMap::new(),
            unclaimed: Unclaimed::default(),
            repairs: Vec::new(),
        };
        for (family, index, element) in &content.backends {
            if let Element::Living(entry) = element {
                let key = (entry.service, *family);
                reading
                    .backends
                    .entry(key)
                    .or_default()
                    .push((*index, *entry));
            }
        }
        for (service, range) in &content.source_ranges {
            let key = (*service, Family::of(range.network()));
            reading.ranges.entry(key).or_default().push(*range);
        }
        reading
            .ranges
            .values_mut()
            .for_each(|it| it.sort_unstable());
        reading
    }

    fn take_frontends(&self) -> BTreeMap<u32, Vec<(FrontendId, Value)>> {
        let mut by_service: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (id, value) in &self.content.frontends {
            by_service
                .entry(value.service)
                .or_default()
                .push((*id, *value));
        }
        by_service
    }

    /// Puts one port together: it is what its ClusterIP says.
    fn read_port(
        &mut self,
        service: u32,
        frontends: &[(FrontendId, Value)],
    ) -> Result<(), IncompatibleMaps> {
        let is_inner =
            |(_, value): &&(FrontendId, Value)| value.flags & frontend_flags::EXTERNAL == 0;
        let Some((id, main)) = frontends.iter().find(is_inner).or(frontends.first()) else {
            return Ok(());
        };
        let family = Family::of(id.address);
        let block = block_of(main)?;
        let slots = self
            .content
            .slots_of(block)
            .ok_or(IncompatibleMaps::TooLarge)?;
        let backends = self.take_backends(service, family);
        let actual: HashMap<u32, BackendEntry> = backends.iter().copied().collect();
        if !slots.iter().all(|index| actual.contains_key(index)) {
            return Err(IncompatibleMaps::Inconsistent);
        }
        let is_restricted = frontends
            .iter()
            .any(|(_, value)| value.flags & frontend_flags::SOURCE_RANGES != 0);
        let ranges = self.ranges.remove(&(service, family));
        let source_ranges = ranges.or(is_restricted.then(Vec::new));
        let mut port = Programmed {
            service,
            frontends: Box::default(),
            backends: endpoints_of(&backends),
            slots: slots.into(),
            block,
            cluster: main.cluster.len,
            algorithm: algorithm_of(frontends),
            forwarding: forwarding_of(frontends),
            unanswered: backends
                .first()
                .and_then(|(_, entry)| flags::unanswered_of(entry.flags)),
            internal_policy: policy_of(frontends, 0),
            external_policy: policy_of(frontends, frontend_flags::EXTERNAL),
            affinity_seconds: main.affinity_seconds,
            source_ranges: source_ranges.map(Into::into),
        };
        port.frontends = self.sort_out(&port, frontends)?;
        for (index, flags) in flags::of_backends(&port) {
            if let Some(entry) = actual.get(&index).filter(|entry| entry.flags != flags) {
                let entry = BackendEntry { flags, ..*entry };
                self.repairs.push(Write::Backend { index, entry });
            }
        }
        self.unclaimed.ports.insert(service, (family, port));
        Ok(())
    }

    /// The living backends of a port, sorted by endpoint.
    fn take_backends(&mut self, service: u32, family: Family) -> Vec<(u32, BackendEntry)> {
        let mut backends = self.backends.remove(&(service, family)).unwrap_or_default();
        backends.sort_by_key(|(index, entry)| (endpoint_of(entry), *index));
        backends
    }

    /// The frontends whose value the port explains; the others, and what only they lead
    /// to, are left to be replaced or removed.
    fn sort_out(
        &mut self,
        port: &Programmed,
        frontends: &[(FrontendId, Value)],
    ) -> Result<Box<[Frontend]>, IncompatibleMaps> {
        let mut explained = Vec::new();
        for (id, value) in frontends {
            let frontend = Frontend {
                address: id.address,
                port: id.port,
                kind: kind_of(id, value, port),
            };
            let is_explained = port.value(frontend.kind) == *value;
            let owner = is_explained.then_some(port.service);
            self.unclaimed.frontends.insert(*id, owner);
            if is_explained {
                explained.push(frontend);
                continue;
            }
            let block = block_of(value)?;
            if block != port.block && !self.unclaimed.spans.contains(&block) {
                self.unclaimed.spans.push(block);
            }
        }
        Ok(explained.into())
    }

    /// Keeps note of what no frontend leads to, so that it ends.
    fn keep_the_rest(&mut self) {
        let mut services = BTreeSet::new();
        for ((service, _), backends) in self.backends.drain() {
            let indices = backends
                .into_iter()
                .map(|(index, entry)| (endpoint_of(&entry).socket(), index));
            self.unclaimed.backends.extend(indices);
            services.insert(service);
        }
        for ((service, _), ranges) in std::mem::take(&mut self.ranges) {
            let ranges = ranges.into_iter().map(|range| (service, range));
            self.unclaimed.source_ranges.extend(ranges);
            services.insert(service);
        }
        // Of a port in the other family the number is not free.
        services.retain(|service| !self.unclaimed.ports.contains_key(service));
        self.unclaimed.services.extend(services);
        self.unclaimed.names.clone_from(&self.content.service_names);
    }
}

/// Both sets of a frontend as the one run of slots that they are.
fn block_of(value: &Value) -> Result<Span, IncompatibleMaps> {
    let Value { cluster, local, .. } = value;
    let end = cluster.start.checked_add(cluster.len);
    let len = cluster.len.checked_add(local.len);
    match (end, len) {
        (Some(end), Some(len)) if end == local.start => Ok(Span {
            start: cluster.start,
            len,
        }),
        _ => Err(IncompatibleMaps::Inconsistent),
    }
}

/// How the port's connections from outside choose their endpoint.
fn algorithm_of(frontends: &[(FrontendId, Value)]) -> Algorithm {
    let is_hashed = |(_, value): &(FrontendId, Value)| value.flags & frontend_flags::HASHED != 0;
    if frontends.iter().any(is_hashed) {
        Algorithm::Maglev
    } else {
        Algorithm::Random
    }
}

/// How the port's connections from outside reach endpoints of other nodes.
fn forwarding_of(frontends: &[(FrontendId, Value)]) -> Forwarding {
    let is_direct = |(_, value): &(FrontendId, Value)| value.flags & frontend_flags::DSR != 0;
    if frontends.iter().any(is_direct) {
        Forwarding::Dsr
    } else {
        Forwarding::Snat
    }
}

/// The policy of the port's frontends whose flag [`EXTERNAL`](frontend_flags::EXTERNAL)
/// is as in `external`.
fn policy_of(frontends: &[(FrontendId, Value)], external: u32) -> TrafficPolicy {
    let same =
        |(_, value): &&(FrontendId, Value)| value.flags & frontend_flags::EXTERNAL == external;
    let is_local =
        |(_, value): &(FrontendId, Value)| value.flags & frontend_flags::LOCAL_POLICY != 0;
    if frontends.iter().find(same).is_some_and(is_local) {
        TrafficPolicy::Local
    } else {
        TrafficPolicy::Cluster
    }
}

/// The kind of a frontend, as far as its value depends on it.
fn kind_of(id: &FrontendId, value: &Value, port: &Programmed) -> FrontendKind {
    let is_restricted = value.flags & frontend_flags::SOURCE_RANGES != 0;
    if value.flags & frontend_flags::LEFT_TO_HOST != 0 {
        FrontendKind::LeftToHost
    } else if value.flags & frontend_flags::EXTERNAL == 0 {
        FrontendKind::ClusterIp
    } else if id.address.is_unspecified() {
        FrontendKind::NodePort
    } else if port.source_ranges.is_some() && !is_restricted {
        FrontendKind::ExternalIp
    } else {
        FrontendKind::LoadBalancer
    }
}

fn endpoint_of(entry: &BackendEntry) -> Endpoint {
    Endpoint {
        address: entry.address,
        port: entry.port,
        local: entry.flags & backend_flags::LOCAL != 0,
    }
}

fn endpoints_of(backends: &[(u32, BackendEntry)]) -> Box<[(Endpoint, u32)]> {
    let endpoints = backends.iter();
    endpoints
        .map(|(index, entry)| (endpoint_of(entry), *index))
        .collect()
}
