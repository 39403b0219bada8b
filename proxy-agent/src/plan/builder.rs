//! A plan while it is made.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;
use proxy_ebpf::layout::Span;

use super::group::{After, Group};
use super::names;
use super::outcome::{CapacityError, FullMap, Plan, Retired, RetiredElements};
use super::write::{FrontendId, Write};
use crate::model::desired::PortName;
use crate::model::object::Family;

/// Passes on the writes that put something in place, and holds back those that take
/// something away until all else is in place.
pub(super) struct PlanBuilder<'a> {
    write: &'a mut dyn FnMut(&After, Write),
    /// Frontends that a port, with its id, no longer has; another one may have taken them
    /// over.
    pub(super) dropped: Vec<(FrontendId, Arc<PortName>, u32)>,
    /// By Service port id, the ports that took over frontends of it.
    takers: BTreeMap<u32, Vec<u32>>,
    /// What ends, by Service port id.
    ends: BTreeMap<u32, Ends>,
    /// What ends that is no known port's.
    other_ends: Ends,
    pub(super) capacity_errors: Vec<CapacityError>,
}

/// The last writes of a port, and what is free after them.
struct Ends {
    writes: Vec<Write>,
    retired: RetiredElements,
}

impl Ends {
    /// Those of a port, once this is written.
    fn new(after: After) -> Self {
        Self {
            writes: Vec::new(),
            retired: RetiredElements::new(after),
        }
    }

    fn finish(mut self, write: &mut dyn FnMut(&After, Write)) -> Option<RetiredElements> {
        for it in std::mem::take(&mut self.writes) {
            write(&self.retired.after, it);
        }
        let retired = &self.retired;
        let is_empty =
            retired.spans.is_empty() && retired.backends.is_empty() && retired.services.is_empty();
        (!is_empty).then_some(self.retired)
    }
}

impl<'a> PlanBuilder<'a> {
    pub(super) fn new(write: &'a mut dyn FnMut(&After, Write)) -> Self {
        Self {
            write,
            dropped: Vec::new(),
            takers: BTreeMap::new(),
            ends: BTreeMap::new(),
            other_ends: Ends::new(After::All),
            capacity_errors: Vec::new(),
        }
    }

    /// A port found no room; those of one Service come one after the other.
    pub(super) fn refuse(&mut self, port: &PortName, full: FullMap) {
        match self.capacity_errors.last_mut() {
            Some(last) if last.port.service == port.service && last.full == full => {
                last.others += 1;
            }
            _ => self.capacity_errors.push(CapacityError {
                port: port.clone(),
                others: 0,
                full,
            }),
        }
    }

    /// A write of a Service port whose turn it is.
    pub(super) fn write(&mut self, service: u32, write: Write) {
        (self.write)(&After::port(service), write);
    }

    /// A Service port's name, for which nothing waits.
    pub(super) fn name(&mut self, service: u32, name: &PortName) {
        let name = names::text(name);
        let write = Write::ServiceName { service, name };
        (self.write)(&After::Groups(vec![write.group()]), write);
    }

    /// A write that takes away what was nobody's.
    pub(super) fn write_other(&mut self, write: Write) {
        (self.write)(&After::All, write);
    }

    /// A Service port takes over a frontend of another one, which ends only after that.
    pub(super) fn take_over(&mut self, loser: u32, taker: u32) {
        let takers = self.takers.entry(loser).or_default();
        if !takers.contains(&taker) {
            takers.push(taker);
        }
    }

    /// What ends of a Service port, or of none that is known.
    fn ends(&mut self, service: Option<u32>) -> &mut Ends {
        let Some(service) = service else {
            return &mut self.other_ends;
        };
        let new = || Ends::new(After::port(service));
        self.ends.entry(service).or_insert_with(new)
    }

    /// The end of a backend's life, once no frontend leads to it.
    pub(super) fn end_backend(
        &mut self,
        service: Option<u32>,
        endpoint: SocketAddr,
        index: u32,
        generation: u32,
    ) {
        let ends = self.ends(service);
        ends.writes.push(Write::EndBackend {
            family: Family::of(endpoint.ip()),
            index,
            generation,
        });
        ends.retired.backends.push((endpoint, index));
    }

    /// The end of a range of sources, once no frontend asks for it.
    pub(super) fn end_source_range(&mut self, owner: Option<u32>, service: u32, range: IpNet) {
        let ends = self.ends(owner);
        ends.writes
            .push(Write::RemoveSourceRange { service, range });
    }

    /// The end of a run of slots.
    pub(super) fn end_span(&mut self, service: Option<u32>, span: Span) {
        self.ends(service).retired.spans.push(span);
    }

    /// The end of a Service port's id.
    pub(super) fn end_service(&mut self, owner: Option<u32>, service: u32) {
        let ends = self.ends(owner);
        ends.writes.push(Write::RemoveServiceName { service });
        ends.retired.services.push(service);
    }

    /// Makes the writes that were held back.
    pub(super) fn finish(mut self) -> Plan {
        let mut retired = Vec::new();
        for (service, mut ends) in self.ends {
            if let Some(takers) = self.takers.remove(&service)
                && let After::Groups(groups) = &mut ends.retired.after
            {
                groups.extend(takers.into_iter().map(Group::Port));
            }
            retired.extend(ends.finish(self.write));
        }
        retired.extend(self.other_ends.finish(self.write));
        Plan {
            retired: Retired(retired),
            capacity_errors: self.capacity_errors,
        }
    }
}
