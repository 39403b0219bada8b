//! Whether the maps still hold what was planned: drift, and the writes that mend it.

use std::collections::{HashMap, HashSet};

use ipnet::IpNet;

use super::content::{Content, Element};
use super::flags;
use super::names;
use super::planner::{Planner, at};
use super::programmed::Programmed;
use super::write::{BackendEntry, FrontendId, Write};
use crate::model::object::Family;

impl Planner {
    /// The writes that bring the maps back to what was planned; none where they hold it.
    /// What waits to be written looks like drift.
    pub fn audit(&self, content: &Content) -> Vec<Write> {
        let mut repairs = Vec::new();
        self.audit_backends(content, &mut repairs);
        for port in self.ports.values() {
            // Slots to which no frontend leads are not read.
            let found = content.slots_of(port.block);
            if found.is_some_and(|found| *found != *port.slots) {
                repairs.push(Write::Slots {
                    start: port.block.start,
                    backends: port.slots.to_vec(),
                });
            }
        }
        self.audit_source_ranges(content, &mut repairs);
        self.audit_frontends(content, &mut repairs);
        self.audit_names(content, &mut repairs);
        repairs
    }

    fn audit_backends(&self, content: &Content, repairs: &mut Vec<Write>) {
        let mut wanted: HashMap<(Family, u32), BackendEntry> = HashMap::new();
        for (name, port) in &self.ports {
            for (index, entry) in self.entries(name.family, port) {
                wanted.insert((name.family, index), entry);
            }
        }
        for (family, index, element) in &content.backends {
            let generation = self.backends[at(*family)].last_generation(*index);
            match (wanted.remove(&(*family, *index)), element) {
                (Some(entry), element) if *element != Element::Living(entry) => {
                    let index = *index;
                    repairs.push(Write::Backend { index, entry });
                }
                (None, element) if element.ended_with() != Some(generation) => {
                    repairs.push(Write::EndBackend {
                        family: *family,
                        index: *index,
                        generation,
                    });
                }
                _ => {}
            }
        }
        let missing = wanted.into_iter();
        repairs.extend(missing.map(|((_, index), entry)| Write::Backend { index, entry }));
    }

    /// The elements of a port's backends.
    fn entries<'a>(
        &'a self,
        family: Family,
        port: &'a Programmed,
    ) -> impl Iterator<Item = (u32, BackendEntry)> + 'a {
        let flags = flags::of_backends(port);
        let pool = &self.backends[at(family)];
        port.backends.iter().map(move |(endpoint, index)| {
            let entry = BackendEntry {
                address: endpoint.address,
                port: endpoint.port,
                flags: flags.get(index).copied().unwrap_or(0),
                generation: pool.generation(*index),
                service: port.service,
            };
            (*index, entry)
        })
    }

    fn audit_source_ranges(&self, content: &Content, repairs: &mut Vec<Write>) {
        let ports = self.ports.values();
        let wanted: HashSet<(u32, IpNet)> = ports
            .flat_map(|port| port.ranges().iter().map(|range| (port.service, *range)))
            .collect();
        let found: HashSet<(u32, IpNet)> = content.source_ranges.iter().copied().collect();
        for (service, range) in wanted.difference(&found).copied() {
            repairs.push(Write::SourceRange { service, range });
        }
        for (service, range) in found.difference(&wanted).copied() {
            repairs.push(Write::RemoveSourceRange { service, range });
        }
    }

    fn audit_names(&self, content: &Content, repairs: &mut Vec<Write>) {
        let mut found = content.service_names.clone();
        for (name, port) in &self.ports {
            let (service, name) = (port.service, names::text(name));
            if found.remove(&service).as_ref() != Some(&name) {
                repairs.push(Write::ServiceName { service, name });
            }
        }
        let others = found.into_keys();
        repairs.extend(others.map(|service| Write::RemoveServiceName { service }));
    }

    fn audit_frontends(&self, content: &Content, repairs: &mut Vec<Write>) {
        let mut found: HashMap<FrontendId, _> = content.frontends.iter().copied().collect();
        for (name, port) in &self.ports {
            for frontend in &port.frontends {
                let id = FrontendId::of(name, frontend);
                if self.owners.get(&id) != Some(name) {
                    continue;
                }
                let value = port.value(frontend.kind);
                if found.remove(&id) != Some(value) {
                    repairs.push(Write::Frontend { id, value });
                }
            }
        }
        repairs.extend(found.into_keys().map(|id| Write::RemoveFrontend { id }));
    }
}
