//! The planner: what is programmed now, and how to get from it to what is
//! desired.

use std::collections::{BTreeMap, HashMap};

use proxy_ebpf::layout::Span;

use super::outcome::{Full, Plan, Refused, Retired};
use super::pool::{Backends, Pool};
use super::programmed::Programmed;
use super::span::Spans;
use super::write::{BackendEntry, FrontendId, Write};
use crate::model::desired::{DesiredPort, Endpoint, Frontend, PortName};
use crate::model::object::Family;

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
    capacity: Capacity,
    ports: HashMap<PortName, Programmed>,
    /// Which port a frontend in the kernel belongs to.
    owners: HashMap<FrontendId, PortName>,
    frontends: [u32; 2],
    services: Pool,
    backends: [Backends; 2],
    slots: Spans,
    /// Ports that were refused, with what they want: tried again when something
    /// was freed.
    waiting: BTreeMap<PortName, DesiredPort>,
}

fn at(family: Family) -> usize {
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
            services: Pool::new(capacity.frontends.saturating_mul(2)),
            backends: [
                Backends::new(capacity.backends),
                Backends::new(capacity.backends),
            ],
            slots: Spans::new(capacity.slots),
            waiting: BTreeMap::new(),
        }
    }

    /// Number of ports in the kernel.
    pub fn programmed(&self) -> usize {
        self.ports.len()
    }

    /// The port that a frontend belongs to.
    pub fn owner(&self, frontend: &FrontendId) -> Option<&PortName> {
        self.owners.get(frontend)
    }

    /// Elements in use and elements that there are, by map. What waits for a grace
    /// period counts as in use.
    pub fn usage(&self) -> [(&'static str, u64, u64); 5] {
        let count = |used: usize| u64::try_from(used).unwrap_or(u64::MAX);
        let (frontends, backends) = (self.capacity.frontends, self.capacity.backends);
        let slots = u64::from(self.capacity.slots);
        [
            ("FRONTENDS_V4", self.frontends[0].into(), frontends.into()),
            ("FRONTENDS_V6", self.frontends[1].into(), frontends.into()),
            (
                "BACKENDS_V4",
                count(self.backends[0].used()),
                backends.into(),
            ),
            (
                "BACKENDS_V6",
                count(self.backends[1].used()),
                backends.into(),
            ),
            ("SLOTS", slots - self.slots.available(), slots),
        ]
    }

    /// Plans the step to new desired states; `None` is a port that is gone.
    ///
    /// Ports come and change before others go, so a frontend that moves from one
    /// port to another is never missing in between.
    pub fn plan(
        &mut self,
        changes: impl IntoIterator<Item = (PortName, Option<DesiredPort>)>,
    ) -> Plan {
        let mut draft = Draft::default();
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
        self.finish(draft)
    }

    /// Takes back what a plan has retired, after the plan was written and a grace
    /// period has passed; plans again what found no room before.
    pub fn reclaim(&mut self, retired: Retired) -> Plan {
        for span in retired.spans {
            self.slots.free(span);
        }
        for (family, index) in retired.backends {
            self.backends[at(family)].give_back(index);
        }
        for service in retired.services {
            self.services.give_back(service);
        }
        let mut draft = Draft::default();
        for (name, desired) in std::mem::take(&mut self.waiting) {
            self.attempt(name, desired, &mut draft);
        }
        // Each was reported when it was refused first.
        draft.refused.clear();
        self.finish(draft)
    }

    fn attempt(&mut self, name: PortName, desired: DesiredPort, draft: &mut Draft) {
        if let Err(full) = self.set(&name, &desired, draft) {
            draft.refused.push(Refused {
                port: name.clone(),
                full,
            });
            self.waiting.insert(name, desired);
        }
    }

    /// Takes stock of a draft: frontends that lost their port and were not taken
    /// over by another one go.
    fn finish(&mut self, draft: Draft) -> Plan {
        let mut plan = Plan {
            retired: draft.retired,
            refused: draft.refused,
            ..Plan::default()
        };
        plan.writes.extend(draft.backends);
        plan.writes.extend(draft.slots);
        plan.writes.extend(draft.frontends);
        for (id, loser) in draft.dropped {
            if self.owners.get(&id) == Some(&loser) {
                self.owners.remove(&id);
                self.frontends[at(Family::of(id.address))] -= 1;
                plan.writes.push(Write::RemoveFrontend { id });
            }
        }
        plan.writes.extend(draft.ends);
        plan
    }

    /// Plans one port's new state; on an error nothing has changed.
    fn set(
        &mut self,
        name: &PortName,
        desired: &DesiredPort,
        draft: &mut Draft,
    ) -> Result<(), Full> {
        let family = name.family;
        let mut old = self.ports.remove(name);
        if let Err(full) = self.has_room(name, desired, old.as_ref()) {
            self.ports.extend(old.map(|old| (name.clone(), old)));
            return Err(full);
        }
        let (service, block) = match self.room_for(desired, old.as_ref()) {
            Ok(room) => room,
            Err(full) => {
                self.ports.extend(old.map(|old| (name.clone(), old)));
                return Err(full);
            }
        };
        let before = old
            .as_mut()
            .map(|old| std::mem::take(&mut old.backends))
            .unwrap_or_default();
        let backends = self.change_backends(family, service, before, &desired.endpoints, draft);
        let slots = slots_of(desired, &backends);
        let block = match &old {
            Some(old) if old.slots == slots => {
                self.slots.free(block);
                old.block
            }
            _ => {
                draft.slots.push(Write::Slots {
                    start: block.start,
                    backends: slots.clone(),
                });
                if let Some(old) = &old {
                    draft.retired.spans.push(old.block);
                }
                block
            }
        };
        let programmed = Programmed {
            service,
            frontends: desired.frontends.clone(),
            backends,
            slots,
            block,
            cluster: u32::try_from(desired.cluster.len()).unwrap_or(0),
            internal_policy: desired.internal_policy,
            external_policy: desired.external_policy,
            affinity_seconds: desired.affinity.unwrap_or(0),
        };
        self.switch_frontends(name, &programmed, old.as_ref(), draft);
        self.ports.insert(name.clone(), programmed);
        Ok(())
    }

    /// Whether the frontends and backends of `desired` fit.
    fn has_room(
        &self,
        name: &PortName,
        desired: &DesiredPort,
        old: Option<&Programmed>,
    ) -> Result<(), Full> {
        let new_frontends = desired
            .frontends
            .iter()
            .filter(|frontend| !self.owners.contains_key(&id_of(name, frontend)))
            .count();
        let used = self.frontends[at(name.family)] as usize;
        if used + new_frontends > self.capacity.frontends as usize {
            return Err(Full::Frontends);
        }
        let new_backends = desired
            .endpoints
            .iter()
            .filter(|endpoint| old.is_none_or(|old| !old.backends.contains_key(endpoint)))
            .count();
        if new_backends > self.backends[at(name.family)].available() {
            return Err(Full::Backends);
        }
        Ok(())
    }

    /// An id and a block of slots for `desired`.
    fn room_for(
        &mut self,
        desired: &DesiredPort,
        old: Option<&Programmed>,
    ) -> Result<(u32, Span), Full> {
        let len = desired.cluster.len() + desired.local.len();
        let block = u32::try_from(len)
            .ok()
            .and_then(|len| self.slots.allocate(len))
            .ok_or(Full::Slots)?;
        let service = old.map_or_else(|| self.services.take(), |old| Some(old.service));
        let Some(service) = service else {
            self.slots.free(block);
            return Err(Full::Frontends);
        };
        Ok((service, block))
    }

    /// Begins, keeps and ends backends, so that `endpoints` are there. An endpoint
    /// that moved to another node with its address is another endpoint.
    fn change_backends(
        &mut self,
        family: Family,
        service: u32,
        mut before: BTreeMap<Endpoint, u32>,
        endpoints: &[Endpoint],
        draft: &mut Draft,
    ) -> BTreeMap<Endpoint, u32> {
        let pool = &mut self.backends[at(family)];
        let mut after = BTreeMap::new();
        for endpoint in endpoints {
            if let Some(index) = before.remove(endpoint) {
                after.insert(*endpoint, index);
                continue;
            }
            // `has_room` has seen that there are enough.
            let Some((index, generation)) = pool.begin() else {
                continue;
            };
            draft.backends.push(Write::Backend {
                index,
                entry: BackendEntry {
                    address: endpoint.address,
                    port: endpoint.port,
                    local: endpoint.local,
                    generation,
                    service,
                },
            });
            after.insert(*endpoint, index);
        }
        for index in before.into_values() {
            end_backend(pool, family, index, draft);
        }
        after
    }

    /// Puts the new value under each frontend, and drops those that are no more.
    fn switch_frontends(
        &mut self,
        name: &PortName,
        new: &Programmed,
        old: Option<&Programmed>,
        draft: &mut Draft,
    ) {
        for frontend in &new.frontends {
            let id = id_of(name, frontend);
            let value = new.value(frontend.kind);
            let owner = self.owners.insert(id, name.clone());
            if owner.is_none() {
                self.frontends[at(name.family)] += 1;
            }
            let is_there = owner.as_ref() == Some(name)
                && old.is_some_and(|old| {
                    old.frontends.contains(frontend) && old.value(frontend.kind) == value
                });
            if !is_there {
                draft.frontends.push(Write::Frontend { id, value });
            }
        }
        for frontend in old.iter().flat_map(|old| &old.frontends) {
            let id = id_of(name, frontend);
            let is_kept = new.frontends.iter().any(|kept| id_of(name, kept) == id);
            if !is_kept {
                draft.dropped.push((id, name.clone()));
            }
        }
    }

    fn remove(&mut self, name: &PortName, draft: &mut Draft) {
        let Some(old) = self.ports.remove(name) else {
            return;
        };
        for frontend in &old.frontends {
            draft.dropped.push((id_of(name, frontend), name.clone()));
        }
        let pool = &mut self.backends[at(name.family)];
        for index in old.backends.values() {
            end_backend(pool, name.family, *index, draft);
        }
        draft.retired.spans.push(old.block);
        draft.retired.services.push(old.service);
    }
}

/// The writes of a plan by their stage.
#[derive(Default)]
struct Draft {
    backends: Vec<Write>,
    slots: Vec<Write>,
    frontends: Vec<Write>,
    /// Frontends that a port no longer has; another one may have taken them over.
    dropped: Vec<(FrontendId, PortName)>,
    ends: Vec<Write>,
    retired: Retired,
    refused: Vec<Refused>,
}

fn end_backend(pool: &mut Backends, family: Family, index: u32, draft: &mut Draft) {
    let generation = pool.end(index);
    draft.ends.push(Write::EndBackend {
        family,
        index,
        generation,
    });
    draft.retired.backends.push((family, index));
}

fn id_of(name: &PortName, frontend: &Frontend) -> FrontendId {
    FrontendId {
        address: frontend.address,
        port: frontend.port,
        protocol: name.protocol,
    }
}

/// The backend indices of both sets, one behind the other.
fn slots_of(desired: &DesiredPort, backends: &BTreeMap<Endpoint, u32>) -> Vec<u32> {
    desired
        .cluster
        .iter()
        .chain(&desired.local)
        .filter_map(|position| desired.endpoints.get(*position))
        .filter_map(|endpoint| backends.get(endpoint).copied())
        .collect()
}
