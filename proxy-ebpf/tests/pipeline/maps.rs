//! The maps of a node in a scenario, in memory: of these tests, and of the fuzzer, which has
//! this file as well.

use std::net::IpAddr;
use std::ops::Range;
use std::rc::Rc;

use proxy_tests::lab::Family;
use proxy_tests::packets::{self, Element, Scenario};

use crate::host::{Memory, Shared};
use crate::layout::{
    Address, Backend, Frontend, FrontendKey, Port, Settings, Span, Timeouts, V4, V6, backend_flags,
    frontend_flags, settings_flags,
};

/// An address of the layout, from one of the standard library.
pub(super) trait FromIp: Address {
    /// `None` if it is of the other family.
    fn from_ip(address: IpAddr) -> Option<Self>;

    /// Which addresses these are.
    const FAMILY: Family;
}

impl FromIp for V4 {
    const FAMILY: Family = Family::V4;

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(address.into()),
            IpAddr::V6(_) => None,
        }
    }
}

impl FromIp for V6 {
    const FAMILY: Family = Family::V6;

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V6(address) => Some(address.into()),
            IpAddr::V4(_) => None,
        }
    }
}

/// The maps of IPv4 and IPv6.
pub(super) fn maps(scenario: &Scenario) -> (Memory<V4>, Memory<V6>) {
    let shared = Rc::new(Shared::default());
    let mut v4 = Memory {
        shared: Rc::clone(&shared),
        ..Memory::default()
    };
    let mut v6 = Memory {
        shared,
        ..Memory::default()
    };
    for element in scenario.elements() {
        write(&mut v4, &element);
        write(&mut v6, &element);
    }
    (v4, v6)
}

/// Writes an element where it is of this family, or of both.
fn write<A: FromIp>(memory: &mut Memory<A>, element: &Element<'_>) {
    match element {
        Element::Backend { index, backend } => {
            if let Some(address) = A::from_ip(backend.address.ip()) {
                memory.backends.insert(*index, backend_of(address, backend));
            }
        }
        Element::Slots { start, backends } => {
            let slots = (*start..).zip(backends.iter().copied());
            memory.shared.slots.borrow_mut().extend(slots);
        }
        Element::Frontend {
            service,
            frontend,
            cluster,
            local,
        } => {
            if let Some(address) = A::from_ip(frontend.address.ip()) {
                let port = Port::new(frontend.address.port());
                let key = FrontendKey::new(address, port, frontend.protocol.number());
                let value = Frontend {
                    service: *service,
                    flags: flags_of(frontend),
                    affinity_seconds: 0,
                    cluster: span(cluster),
                    local: span(local),
                };
                memory.frontends.insert(key, value);
            }
        }
        Element::NatPorts(ports) => {
            let ports = ports.iter().copied().map(Port::new).collect();
            memory.shared.nat_ports.replace(ports);
        }
        Element::NodeAddress(address) => memory.node_addresses.extend(A::from_ip(*address)),
        Element::Settings {
            family,
            node_address,
            nat_ports,
            masquerade_all,
        } => {
            if *family == A::FAMILY {
                memory.settings = Settings {
                    node_address: node_address.and_then(A::from_ip).unwrap_or_default(),
                    nat_ports: (*nat_ports).into(),
                    service_cidrs: Default::default(),
                    timeouts: Timeouts::DEFAULT,
                    flags: if *masquerade_all {
                        settings_flags::MASQUERADE_ALL
                    } else {
                        0
                    },
                };
            }
        }
    }
}

fn backend_of<A>(address: A, backend: &packets::Backend) -> Backend<A> {
    Backend {
        address,
        port: Port::new(backend.address.port()),
        flags: if backend.local {
            backend_flags::LOCAL
        } else {
            0
        },
        generation: 1,
        service: 0,
    }
}

fn flags_of(frontend: &packets::Frontend) -> u32 {
    let flag = |is_set, bit| if is_set { bit } else { 0 };
    flag(frontend.external, frontend_flags::EXTERNAL)
        | flag(frontend.local_policy, frontend_flags::LOCAL_POLICY)
        | flag(frontend.direct, frontend_flags::DSR)
}

fn span(slots: &Range<u32>) -> Span {
    Span {
        start: slots.start,
        len: slots.end - slots.start,
    }
}
