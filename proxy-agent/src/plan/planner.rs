//! The planner: what is programmed now, and how to get from it to what is
//! desired.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use proxy_ebpf::layout::{Span, maps};

use super::adopt::Unclaimed;
use super::builder::PlanBuilder;
use super::flags;
use super::maglev;
use super::outcome::{CapacityError, FullMap, Plan, Retired};
use super::pool::{Backends, IdAllocator};
use super::programmed::{Programmed, index_of};
use super::span::SlotAllocator;
use super::write::{BackendEntry, BackendId, FrontendId, Write};
use crate::model::desired::{DesiredPort, Endpoint, PortName};
use crate::model::object::{Algorithm, Family, Forwarding};

/// How much the maps hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Frontends of one IP version.
    pub frontends: u32,
    /// Backends of one IP version.
    pub backends: u32,
    /// Slots.
    pub slots: u32,
}

/// Knows what the kernel's maps hold and plans their changes.
#[derive(Debug)]
pub struct Planner {
    pub(super) capacity: Capacity,
    pub(super) ports: HashMap<Arc<PortName>, Programmed>,
    /// Which port a frontend in the kernel belongs to.
    pub(super) owners: HashMap<FrontendId, Arc<PortName>>,
    pub(super) frontends: [u32; 2],
    pub(super) source_ranges: [usize; 2],
    pub(super) services: IdAllocator,
    pub(super) backends: [Backends; 2],
    pub(super) slots: SlotAllocator,
    /// Ports for which a map had no room, with what they want: tried again when something
    /// was freed.
    pub(super) waiting: BTreeMap<PortName, DesiredPort>,
    /// What the maps held at the start, until the first plan.
    pub(super) unclaimed: Unclaimed,
    /// How long after the end of an endpoint TCP connections to it are reset, if at all.
    pub(super) reset_after: Option<Duration>,
}

pub(super) fn at(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

impl Planner {
    /// A planner for empty maps.
    pub fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            ports: HashMap::new(),
            owners: HashMap::new(),
            frontends: [0; 2],
            source_ranges: [0; 2],
            services: IdAllocator::new(capacity.frontends.saturating_mul(2)),
            backends: [
                Backends::new(capacity.backends),
                Backends::new(capacity.backends),
            ],
            slots: SlotAllocator::new(capacity.slots),
            waiting: BTreeMap::new(),
            unclaimed: Unclaimed::default(),
            reset_after: None,
        }
    }

    /// The same, where TCP connections to an endpoint that is gone are reset so long
    /// after its end.
    #[must_use]
    pub fn with_resets(self, reset_after: Option<Duration>) -> Self {
        Self {
            reset_after,
            ..self
        }
    }

    /// Number of ports in the kernel.
    pub fn programmed(&self) -> usize {
        self.ports.len()
    }

    /// Every port with its id and the indices of its backends.
    pub fn ports(&self) -> impl Iterator<Item = (&PortName, u32, &[(Endpoint, u32)])> {
        let ports = self.ports.iter();
        ports.map(|(name, port)| (&**name, port.service, &*port.backends))
    }

    /// The port that a frontend belongs to.
    pub fn owner(&self, frontend: &FrontendId) -> Option<&PortName> {
        self.owners.get(frontend).map(|owner| &**owner)
    }

    /// The backend of an endpoint behind a frontend.
    pub fn backend_of(&self, frontend: &FrontendId, endpoint: SocketAddr) -> Option<BackendId> {
        let name = self.owners.get(frontend)?;
        let port = self.ports.get(name)?;
        let mut backends = port.backends.iter();
        let (_, index) = backends.find(|(known, _)| known.socket() == endpoint)?;
        Some(BackendId {
            index: *index,
            generation: self.backends[at(name.family)].generation(*index),
            service: port.service,
        })
    }

    /// Elements in use and elements that there are, by map. What waits for a grace
    /// period counts as in use.
    pub fn usage(&self) -> [(&'static str, u64, u64); 5] {
        let count = |used: usize| u64::try_from(used).unwrap_or(u64::MAX);
        let (frontends, backends) = (self.capacity.frontends, self.capacity.backends);
        let slots = u64::from(self.capacity.slots);
        [
            (
                maps::FRONTENDS_V4.name,
                self.frontends[0].into(),
                frontends.into(),
            ),
            (
                maps::FRONTENDS_V6.name,
                self.frontends[1].into(),
                frontends.into(),
            ),
            (
                maps::BACKENDS_V4.name,
                count(self.backends[0].used()),
                backends.into(),
            ),
            (
                maps::BACKENDS_V6.name,
                count(self.backends[1].used()),
                backends.into(),
            ),
            (maps::SLOTS.name, slots - self.slots.available(), slots),
        ]
    }

    /// Plans the step to new desired states, and hands out the writes in the order in
    /// which they are to be made; `None` is a port that is gone.
    ///
    /// Ports come and change before others go, so a frontend that moves from one
    /// port to another is never missing in between.
    pub fn plan(
        &mut self,
        changes: impl IntoIterator<Item = (PortName, Option<DesiredPort>)>,
        mut write: impl FnMut(Write),
    ) -> Plan {
        let mut draft = PlanBuilder::new(&mut write);
        let mut gone = Vec::new();
        for (name, desired) in changes {
            self.waiting.remove(&name);
            match desired {
                Some(desired) => self.attempt(name, desired, &mut draft),
                None => gone.push(name),
            }
        }
        for name in gone {
            self.remove(&name, &mut draft);
        }
        self.remove_lost(&mut draft);
        self.end_unclaimed(&mut draft);
        draft.finish()
    }

    /// Takes back what a plan has retired, after the plan was written and a grace
    /// period has passed; plans again what found no room before.
    pub fn reclaim(
        &mut self,
        retired: Retired,
        now: Instant,
        mut write: impl FnMut(Write),
    ) -> Plan {
        for span in retired.spans {
            self.slots.free(span);
        }
        for (endpoint, index) in retired.backends {
            self.retire_index(endpoint, index, now);
        }
        for service in retired.services {
            self.services.release(service);
        }
        let mut draft = PlanBuilder::new(&mut write);
        for (name, desired) in std::mem::take(&mut self.waiting) {
            self.attempt(name, desired, &mut draft);
        }
        // Each was reported when it found no room first.
        draft.capacity_errors.clear();
        self.remove_lost(&mut draft);
        draft.finish()
    }

    fn attempt(&mut self, name: PortName, desired: DesiredPort, draft: &mut PlanBuilder<'_>) {
        self.claim(&name, &desired.frontends);
        if let Err(full) = self.set(&name, &desired, draft) {
            draft.capacity_errors.push(CapacityError {
                port: name.clone(),
                full,
            });
            self.waiting.insert(name, desired);
        }
    }

    /// Removes frontends that lost their port and were not taken over by another one.
    fn remove_lost(&mut self, draft: &mut PlanBuilder<'_>) {
        for (id, loser) in std::mem::take(&mut draft.dropped) {
            if self.owners.get(&id) == Some(&loser) {
                self.owners.remove(&id);
                self.frontends[at(Family::of(id.address))] -= 1;
                draft.write(Write::RemoveFrontend { id });
            }
        }
    }

    /// Plans one port's new state; on an error nothing has changed.
    fn set(
        &mut self,
        name: &PortName,
        desired: &DesiredPort,
        draft: &mut PlanBuilder<'_>,
    ) -> Result<(), FullMap> {
        let family = name.family;
        let (name, old) = match self.ports.remove_entry(name) {
            Some((name, old)) => (name, Some(old)),
            None => (Arc::new(name.clone()), None),
        };
        let room = self
            .has_room(&name, desired, old.as_ref())
            .and_then(|()| self.room_for(desired, old.as_ref()));
        let (service, block) = match room {
            Ok(room) => room,
            Err(full) => {
                self.ports.extend(old.map(|old| (name, old)));
                return Err(full);
            }
        };
        if old.is_none() {
            draft.write(Write::Service { service });
        }
        let backends = self.change_backends(family, service, old.as_ref(), desired, draft);
        let (cluster, slots) = slots_of(desired, &backends);
        let block = match &old {
            Some(old) if old.slots == slots => {
                self.slots.free(block);
                old.block
            }
            _ => {
                draft.write(Write::Slots {
                    start: block.start,
                    backends: slots.to_vec(),
                });
                if let Some(old) = &old {
                    draft.retired.spans.push(old.block);
                }
                block
            }
        };
        let programmed = Programmed {
            service,
            frontends: desired.frontends.as_slice().into(),
            backends,
            slots,
            block,
            cluster,
            algorithm: desired.algorithm,
            forwarding: desired.forwarding,
            internal_policy: desired.internal_policy,
            external_policy: desired.external_policy,
            affinity_seconds: desired.affinity.unwrap_or(0),
            source_ranges: desired.source_ranges.as_deref().map(Box::from),
        };
        let ranges_before = old.as_ref().map_or(&[][..], Programmed::ranges);
        self.change_source_ranges(family, service, ranges_before, programmed.ranges(), draft);
        self.switch_frontends(&name, &programmed, old.as_ref(), draft);
        self.ports.insert(name, programmed);
        Ok(())
    }

    /// Whether the frontends and backends of `desired` fit.
    fn has_room(
        &self,
        name: &PortName,
        desired: &DesiredPort,
        old: Option<&Programmed>,
    ) -> Result<(), FullMap> {
        let new_frontends = desired
            .frontends
            .iter()
            .map(|frontend| FrontendId::of(name, frontend))
            .filter(|id| !self.owners.contains_key(id) && !self.unclaimed.has_frontend(id))
            .count();
        let used = self.frontends[at(name.family)] as usize;
        if used + new_frontends > self.capacity.frontends as usize {
            return Err(FullMap::Frontends);
        }
        let new_backends = desired
            .endpoints
            .iter()
            .filter(|endpoint| old.is_none_or(|old| index_of(&old.backends, endpoint).is_none()))
            .count();
        if new_backends > self.backends[at(name.family)].available() {
            return Err(FullMap::Backends);
        }
        let new_ranges = desired.source_ranges.as_ref().map_or(0, Vec::len);
        if self.source_ranges[at(name.family)] + new_ranges > self.capacity.frontends as usize {
            return Err(FullMap::SourceRanges);
        }
        Ok(())
    }

    /// An id and a block of slots for `desired`.
    fn room_for(
        &mut self,
        desired: &DesiredPort,
        old: Option<&Programmed>,
    ) -> Result<(u32, Span), FullMap> {
        let len = |set: &[usize], algorithm| match algorithm {
            Algorithm::Random => set.len(),
            Algorithm::Maglev => maglev::size(set.len()),
        };
        let cluster = len(&desired.cluster, desired.algorithm);
        let local = len(&desired.local, algorithm_of_local_set(desired));
        let block = u32::try_from(cluster + local)
            .ok()
            .and_then(|len| self.slots.allocate(len))
            .ok_or(FullMap::Slots)?;
        let service = old.map_or_else(|| self.services.take(), |old| Some(old.service));
        let Some(service) = service else {
            self.slots.free(block);
            return Err(FullMap::Frontends);
        };
        Ok((service, block))
    }

    /// Begins, keeps and ends backends, so that the port's endpoints are there, in their
    /// order. An endpoint that moved to another node with its address is another endpoint.
    fn change_backends(
        &mut self,
        family: Family,
        service: u32,
        old: Option<&Programmed>,
        desired: &DesiredPort,
        draft: &mut PlanBuilder<'_>,
    ) -> Box<[(Endpoint, u32)]> {
        let before = old.map_or(&[][..], |old| &old.backends);
        let flags_before = old.map(flags::of_backends).unwrap_or_default();
        let pool = &mut self.backends[at(family)];
        let mut after = Vec::with_capacity(desired.endpoints.len());
        for (endpoint, flags) in desired.endpoints.iter().zip(flags::of_endpoints(desired)) {
            let (index, generation) = match index_of(before, endpoint) {
                Some(index) => (index, pool.generation(index)),
                // `has_room` has seen that there are enough.
                None => match pool.begin() {
                    Some(begun) => begun,
                    None => continue,
                },
            };
            after.push((*endpoint, index));
            if flags_before.get(&index) != Some(&flags) {
                let entry = BackendEntry {
                    address: endpoint.address,
                    port: endpoint.port,
                    flags,
                    generation,
                    service,
                };
                draft.write(Write::Backend { index, entry });
            }
        }
        for (endpoint, index) in before {
            if index_of(&after, endpoint).is_none() {
                draft.end_backend(endpoint.socket(), *index, pool.end(*index));
            }
        }
        after.into()
    }

    /// Lets in new ranges of sources at once, and takes away old ones when no frontend
    /// asks for them any more.
    fn change_source_ranges(
        &mut self,
        family: Family,
        service: u32,
        before: &[IpNet],
        after: &[IpNet],
        draft: &mut PlanBuilder<'_>,
    ) {
        let used = &mut self.source_ranges[at(family)];
        *used = *used + after.len() - before.len();
        for range in after.iter().filter(|range| !before.contains(range)) {
            let range = *range;
            draft.write(Write::SourceRange { service, range });
        }
        for range in before.iter().filter(|range| !after.contains(range)) {
            draft.end_source_range(service, *range);
        }
    }

    /// Puts the new value under each frontend, and drops those that are no more.
    fn switch_frontends(
        &mut self,
        name: &Arc<PortName>,
        new: &Programmed,
        old: Option<&Programmed>,
        draft: &mut PlanBuilder<'_>,
    ) {
        for frontend in &new.frontends {
            let id = FrontendId::of(name, frontend);
            let value = new.value(frontend.kind);
            let owner = self.owners.insert(id, Arc::clone(name));
            if owner.is_none() && !self.unclaimed.take_frontend(&id) {
                self.frontends[at(name.family)] += 1;
            }
            let is_there = owner.as_ref() == Some(name)
                && old.is_some_and(|old| {
                    old.frontends.contains(frontend) && old.value(frontend.kind) == value
                });
            if !is_there {
                draft.write(Write::Frontend { id, value });
            }
        }
        for frontend in old.iter().flat_map(|old| &old.frontends) {
            let id = FrontendId::of(name, frontend);
            let is_kept = new
                .frontends
                .iter()
                .any(|kept| FrontendId::of(name, kept) == id);
            if !is_kept {
                draft.dropped.push((id, Arc::clone(name)));
            }
        }
    }

    fn remove(&mut self, name: &PortName, draft: &mut PlanBuilder<'_>) {
        let Some((name, old)) = self.ports.remove_entry(name) else {
            return;
        };
        for frontend in &old.frontends {
            let dropped = FrontendId::of(&name, frontend);
            draft.dropped.push((dropped, Arc::clone(&name)));
        }
        self.end_port(name.family, &old, draft);
    }

    /// Ends a port, and what its frontends led to.
    pub(super) fn end_port(
        &mut self,
        family: Family,
        old: &Programmed,
        draft: &mut PlanBuilder<'_>,
    ) {
        let pool = &mut self.backends[at(family)];
        for (endpoint, index) in &old.backends {
            draft.end_backend(endpoint.socket(), *index, pool.end(*index));
        }
        self.change_source_ranges(family, old.service, old.ranges(), &[], draft);
        draft.retired.spans.push(old.block);
        draft.retired.services.push(old.service);
    }
}

/// What the local set is made for. Where nodes hand connections to each other's endpoints,
/// these are looked for there, each once.
fn algorithm_of_local_set(desired: &DesiredPort) -> Algorithm {
    match desired.forwarding {
        Forwarding::Snat => desired.algorithm,
        Forwarding::Dsr => Algorithm::Random,
    }
}

/// The slots of both sets, one behind the other, and how many are the cluster set's.
fn slots_of(desired: &DesiredPort, backends: &[(Endpoint, u32)]) -> (u32, Box<[u32]>) {
    let of_set = |set: &[usize], algorithm| -> Vec<u32> {
        let member = |position: &usize| Some((backends.get(*position)?, *position));
        let members: Vec<_> = set.iter().filter_map(member).collect();
        match algorithm {
            Algorithm::Random => members.iter().map(|((_, index), _)| *index).collect(),
            Algorithm::Maglev => {
                let weigh = |(backend, position): &(&(Endpoint, u32), usize)| {
                    (backend.0, desired.weight(*position))
                };
                let table = maglev::table(members.iter().map(weigh));
                table
                    .into_iter()
                    .map(|position| members[position].0.1)
                    .collect()
            }
        }
    };
    let mut slots = of_set(&desired.cluster, desired.algorithm);
    let cluster = u32::try_from(slots.len()).unwrap_or(0);
    slots.append(&mut of_set(&desired.local, algorithm_of_local_set(desired)));
    (cluster, slots.into())
}
