//! The planner: what is programmed now, and how to get from it to what is
//! desired.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::adopt::Unclaimed;
use super::builder::PlanBuilder;
use super::flags;
use super::group::After;
use super::outcome::{FullMap, Plan, Retired};
use super::pool::{Backends, IdAllocator};
use super::programmed::{Programmed, index_of};
use super::room::{Needs, Tables};
use super::slots;
use super::span::SlotAllocator;
use super::write::{BackendEntry, FrontendId, Write};
use crate::model::desired::{DesiredPort, Endpoint, PortName};
use crate::model::object::{Algorithm, Family, ObjectName};

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
    /// How many of these say themselves that endpoints are avoided which do not answer.
    pub(super) avoiding: usize,
    /// Which port a frontend in the kernel belongs to.
    pub(super) owners: HashMap<FrontendId, Arc<PortName>>,
    pub(super) frontends: [u32; 2],
    pub(super) source_ranges: [usize; 2],
    pub(super) services: IdAllocator,
    pub(super) backends: [Backends; 2],
    pub(super) slots: SlotAllocator,
    pub(super) tables: Tables,
    /// Ports for which a map had no room, with what they need: tried again when there is
    /// so much. What they want the model knows.
    pub(super) waiting: BTreeMap<PortName, Needs>,
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
            avoiding: 0,
            owners: HashMap::new(),
            frontends: [0; 2],
            source_ranges: [0; 2],
            services: IdAllocator::new(capacity.frontends.saturating_mul(2)),
            backends: [
                Backends::new(capacity.backends),
                Backends::new(capacity.backends),
            ],
            slots: SlotAllocator::new(capacity.slots),
            tables: Tables::default(),
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

    /// Plans the step to new desired states, and hands out the writes in the order in
    /// which they are to be made, with what has to be written before; `None` is a port that
    /// is gone.
    ///
    /// Ports come and change before others go, so a frontend that moves from one
    /// port to another is never missing in between.
    pub fn plan(
        &mut self,
        changes: impl IntoIterator<Item = (PortName, Option<DesiredPort>)>,
        mut write: impl FnMut(&After, Write),
    ) -> Plan {
        let mut draft = PlanBuilder::new(&mut write);
        let mut gone = Vec::new();
        for (name, desired) in changes {
            self.waiting.remove(&name);
            match desired {
                Some(desired) => self.attempt(&name, &desired, &mut draft),
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
    /// period has passed; plans again what found no room before and has it now. `desired`
    /// knows what the ports of a Service should be.
    pub fn reclaim(
        &mut self,
        retired: Retired,
        now: Instant,
        desired: impl Fn(&ObjectName) -> Vec<(PortName, DesiredPort)>,
        mut write: impl FnMut(&After, Write),
    ) -> Plan {
        for elements in retired.0 {
            for span in elements.spans {
                self.slots.free(span);
            }
            for (endpoint, index) in elements.backends {
                self.retire_index(endpoint, index, now);
            }
            for service in elements.services {
                self.services.release(service);
            }
        }
        let mut draft = PlanBuilder::new(&mut write);
        for service in self.services_with_room() {
            for (name, desired) in desired(&service) {
                let needs = self.waiting.get(&name);
                if needs.is_some_and(|needs| self.has_room(&name, needs).is_ok()) {
                    self.waiting.remove(&name);
                    self.attempt(&name, &desired, &mut draft);
                }
            }
        }
        // Each was reported when it found no room first.
        draft.capacity_errors.clear();
        self.remove_lost(&mut draft);
        draft.finish()
    }

    /// Services with a port that waited for room and has it now.
    fn services_with_room(&self) -> BTreeSet<ObjectName> {
        let waiting = self.waiting.iter();
        let fitting = waiting.filter(|(name, needs)| self.has_room(name, needs).is_ok());
        fitting.map(|(name, _)| name.service.clone()).collect()
    }

    fn attempt(&mut self, name: &PortName, desired: &DesiredPort, draft: &mut PlanBuilder<'_>) {
        self.claim(name, &desired.frontends, draft);
        if let Err((full, needs)) = self.set(name, desired, draft) {
            draft.refuse(name, full);
            self.waiting.insert(name.clone(), needs);
        }
    }

    /// Removes frontends that lost their port and were not taken over by another one.
    fn remove_lost(&mut self, draft: &mut PlanBuilder<'_>) {
        for (id, loser, service) in std::mem::take(&mut draft.dropped) {
            if self.owners.get(&id) == Some(&loser) {
                self.owners.remove(&id);
                self.frontends[at(Family::of(id.address))] -= 1;
                draft.write(service, Write::RemoveFrontend { id });
            }
        }
    }

    /// Plans one port's new state. Where only a table has no room, it does without it; on
    /// any other error nothing has changed. With the error, what would have to be free.
    fn set(
        &mut self,
        name: &PortName,
        desired: &DesiredPort,
        draft: &mut PlanBuilder<'_>,
    ) -> Result<(), (FullMap, Needs)> {
        let old = self.ports.get(name);
        let needs = self.needs(name, desired, desired.algorithm, old);
        let refused = match self.has_room(name, &needs) {
            Ok(()) => {
                let set = self.set_with(name, desired, desired.algorithm, &needs, draft);
                return set.map_err(|full| (full, needs));
            }
            Err(full) => full,
        };
        if needs.tables() == 0 {
            return Err((refused, needs));
        }
        let algorithm = Algorithm::Random;
        let without = self.needs(name, desired, algorithm, old);
        self.has_room(name, &without)
            .and_then(|()| self.set_with(name, desired, algorithm, &without, draft))
            .map_err(|full| (full, needs))?;
        Err((FullMap::Tables, needs))
    }

    pub(super) fn insert_port(&mut self, name: Arc<PortName>, port: Programmed) {
        self.avoiding += usize::from(port.avoids());
        self.ports.insert(name, port);
    }

    fn take_port(&mut self, name: &PortName) -> Option<(Arc<PortName>, Programmed)> {
        let (name, port) = self.ports.remove_entry(name)?;
        self.avoiding -= usize::from(port.avoids());
        Some((name, port))
    }

    /// Plans a state for which there is room; on an error nothing has changed.
    fn set_with(
        &mut self,
        name: &PortName,
        desired: &DesiredPort,
        algorithm: Algorithm,
        needs: &Needs,
        draft: &mut PlanBuilder<'_>,
    ) -> Result<(), FullMap> {
        let family = name.family;
        let known = self.ports.get(name);
        let known = known.map(|old| old.service);
        let block = self.slots.allocate(needs.slots()).ok_or(FullMap::Slots)?;
        let Some(service) = known.or_else(|| self.services.take()) else {
            self.slots.free(block);
            return Err(FullMap::Frontends);
        };
        let (name, old) = match self.take_port(name) {
            Some((name, old)) => (name, Some(old)),
            None => (Arc::new(name.clone()), None),
        };
        if old.is_none() {
            draft.write(service, Write::Service { service });
            draft.name(service, &name);
            self.unclaimed.forget_name(service);
        }
        let backends = self.change_backends(family, service, old.as_ref(), desired, draft);
        let (cluster, slots) = slots::of(desired, algorithm, &backends);
        let block = match &old {
            Some(old) if old.slots == slots => {
                self.slots.free(block);
                old.block
            }
            _ => {
                // A run of none is at no place of its own.
                if !slots.is_empty() {
                    let write = Write::Slots {
                        start: block.start,
                        backends: slots.to_vec(),
                    };
                    draft.write(service, write);
                }
                if let Some(old) = &old {
                    draft.end_span(Some(service), old.block);
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
            algorithm,
            forwarding: desired.forwarding,
            unanswered: desired.unanswered,
            internal_policy: desired.internal_policy,
            external_policy: desired.external_policy,
            affinity_seconds: desired.affinity.unwrap_or(0),
            source_ranges: desired.source_ranges.clone(),
        };
        let tables_before = old.as_ref().map_or(0, Programmed::table_slots);
        let tables = programmed.table_slots();
        self.tables.replace(&name.service, tables_before, tables);
        let ranges_before = old.as_ref().map_or(&[][..], Programmed::ranges);
        self.change_source_ranges(family, service, ranges_before, programmed.ranges(), draft);
        self.switch_frontends(&name, &programmed, old.as_ref(), draft);
        self.insert_port(name, programmed);
        Ok(())
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
                draft.write(service, Write::Backend { index, entry });
            }
        }
        for (endpoint, index) in before {
            if index_of(&after, endpoint).is_none() {
                draft.end_backend(Some(service), endpoint.socket(), *index, pool.end(*index));
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
        for range in after
            .iter()
            .filter(|range| before.binary_search(range).is_err())
        {
            let range = *range;
            draft.write(service, Write::SourceRange { service, range });
        }
        for range in before
            .iter()
            .filter(|range| after.binary_search(range).is_err())
        {
            draft.end_source_range(Some(service), service, *range);
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
        let before: HashSet<_> = old.iter().flat_map(|old| &old.frontends).collect();
        for frontend in &new.frontends {
            let id = FrontendId::of(name, frontend);
            let value = new.value(frontend.kind);
            let owner = self.owners.insert(id, Arc::clone(name));
            let loser = owner.as_ref().and_then(|owner| self.ports.get(owner));
            if let Some(loser) = loser {
                draft.take_over(loser.service, new.service);
            }
            if owner.is_none() && !self.unclaimed.take_frontend(&id) {
                self.frontends[at(name.family)] += 1;
            }
            let is_there = owner.as_ref() == Some(name)
                && old.is_some_and(|old| {
                    before.contains(frontend) && old.value(frontend.kind) == value
                });
            if !is_there {
                draft.write(new.service, Write::Frontend { id, value });
            }
        }
        let kept: HashSet<_> = new
            .frontends
            .iter()
            .map(|it| FrontendId::of(name, it))
            .collect();
        for frontend in old.iter().flat_map(|old| &old.frontends) {
            let id = FrontendId::of(name, frontend);
            if !kept.contains(&id) {
                draft.dropped.push((id, Arc::clone(name), new.service));
            }
        }
    }

    fn remove(&mut self, name: &PortName, draft: &mut PlanBuilder<'_>) {
        let Some((name, old)) = self.take_port(name) else {
            return;
        };
        for frontend in &old.frontends {
            let dropped = FrontendId::of(&name, frontend);
            draft
                .dropped
                .push((dropped, Arc::clone(&name), old.service));
        }
        let tables = old.table_slots();
        self.tables.replace(&name.service, tables, 0);
        self.end_port(name.family, &old, Some(old.service), draft);
    }

    /// Ends a port, and what its frontends led to, after the writes of `owner`; where there
    /// is none, after all.
    pub(super) fn end_port(
        &mut self,
        family: Family,
        old: &Programmed,
        owner: Option<u32>,
        draft: &mut PlanBuilder<'_>,
    ) {
        let service = old.service;
        let pool = &mut self.backends[at(family)];
        for (endpoint, index) in &old.backends {
            draft.end_backend(owner, endpoint.socket(), *index, pool.end(*index));
        }
        let ranges = old.ranges();
        self.source_ranges[at(family)] -= ranges.len();
        for range in ranges {
            draft.end_source_range(owner, service, *range);
        }
        draft.end_span(owner, old.block);
        draft.end_service(owner, service);
    }
}
