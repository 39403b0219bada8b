//! A plan while it is made.

use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::outcome::{CapacityError, FullMap, Plan, Retired};
use super::write::{FrontendId, Write};
use crate::model::desired::PortName;
use crate::model::object::Family;

/// Passes on the writes that put something in place, and holds back those that take
/// something away until all else is in place.
pub(super) struct PlanBuilder<'a> {
    write: &'a mut dyn FnMut(Write),
    /// Frontends that a port no longer has; another one may have taken them over.
    pub(super) dropped: Vec<(FrontendId, Arc<PortName>)>,
    ends: Vec<Write>,
    pub(super) retired: Retired,
    pub(super) capacity_errors: Vec<CapacityError>,
}

impl<'a> PlanBuilder<'a> {
    pub(super) fn new(write: &'a mut dyn FnMut(Write)) -> Self {
        Self {
            write,
            dropped: Vec::new(),
            ends: Vec::new(),
            retired: Retired::default(),
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

    /// A write whose turn it is.
    pub(super) fn write(&mut self, write: Write) {
        (self.write)(write);
    }

    /// The end of a backend's life, once no frontend leads to it.
    pub(super) fn end_backend(&mut self, endpoint: SocketAddr, index: u32, generation: u32) {
        self.ends.push(Write::EndBackend {
            family: Family::of(endpoint.ip()),
            index,
            generation,
        });
        self.retired.backends.push((endpoint, index));
    }

    /// The end of a range of sources, once no frontend asks for it.
    pub(super) fn end_source_range(&mut self, service: u32, range: IpNet) {
        self.ends.push(Write::RemoveSourceRange { service, range });
    }

    /// Makes the writes that were held back.
    pub(super) fn finish(self) -> Plan {
        self.ends.into_iter().for_each(self.write);
        Plan {
            retired: self.retired,
            capacity_errors: self.capacity_errors,
        }
    }
}
