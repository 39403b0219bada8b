//! What the maps of a node in a scenario hold, element by element.

use std::net::IpAddr;
use std::ops::Range;

use super::{Backend, Frontend, Scenario};
use crate::lab::Family;

/// Something to write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Element<'a> {
    /// An endpoint, of generation 1 and with the Service id 0.
    Backend {
        /// Its index.
        index: u32,
        /// The endpoint.
        backend: &'a Backend,
    },
    /// The endpoints of a set.
    Slots {
        /// The position of the first.
        start: u32,
        /// Their indices.
        backends: Vec<u32>,
    },
    /// A frontend, behind its sets.
    Frontend {
        /// Its Service's id.
        service: u32,
        /// The frontend.
        frontend: &'a Frontend,
        /// The slots of the endpoints of the cluster.
        cluster: Range<u32>,
        /// The slots of the endpoints of the node.
        local: Range<u32>,
    },
    /// The range of translated source ports.
    NatPorts(Vec<u16>),
    /// An address on which NodePorts answer.
    NodeAddress(IpAddr),
    /// The settings of an IP version.
    Settings {
        /// Of which.
        family: Family,
        /// The source of what the node sends on, if it has one.
        node_address: Option<IpAddr>,
        /// How many translated source ports there are.
        nat_ports: u16,
        /// Whether all that comes from outside is translated.
        masquerade_all: bool,
    },
}

impl Scenario {
    /// All elements, in an order in which each finds those that it needs.
    pub fn elements(&self) -> Vec<Element<'_>> {
        let mut elements = Vec::new();
        for (index, backend) in (0..).zip(&self.backends) {
            elements.push(Element::Backend { index, backend });
        }
        let mut slots = Slots::default();
        for (service, frontend) in (0..).zip(&self.frontends) {
            let cluster = slots.add(&frontend.cluster, &mut elements);
            let local = slots.add(&frontend.local, &mut elements);
            elements.push(Element::Frontend {
                service,
                frontend,
                cluster,
                local,
            });
        }
        let (first, count) = self.nat_ports;
        let ports = (first..=u16::MAX).take(count.into()).collect();
        elements.push(Element::NatPorts(ports));
        for &address in &self.node {
            elements.push(Element::NodeAddress(address));
        }
        for family in Family::BOTH {
            let mut addresses = self.node.iter().copied();
            elements.push(Element::Settings {
                family,
                node_address: addresses.find(|it| it.is_ipv4() == (family == Family::V4)),
                nat_ports: count,
                masquerade_all: self.masquerade_all,
            });
        }
        elements
    }
}

/// Where the next set goes.
struct Slots(u32);

impl Default for Slots {
    /// Positions are not indices of backends.
    fn default() -> Self {
        Self(7)
    }
}

impl Slots {
    /// Between sets is a gap: whoever counts wrong finds nothing.
    const GAP: u32 = 2;

    fn add(&mut self, set: &[usize], elements: &mut Vec<Element<'_>>) -> Range<u32> {
        let start = self.0;
        let indices = set.iter().map(|&index| u32::try_from(index));
        let backends: Vec<u32> = indices.collect::<Result<_, _>>().expect("few backends");
        if backends.is_empty() {
            return start..start;
        }
        let end = start + u32::try_from(backends.len()).expect("few backends");
        self.0 = end + Self::GAP;
        elements.push(Element::Slots { start, backends });
        start..end
    }
}
