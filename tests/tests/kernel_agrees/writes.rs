//! The maps of a node in a scenario, as the agent would write them: of these tests, and of the
//! benchmark of the programs, which has this file as well.

use std::net::IpAddr;
use std::ops::Range;

use proxy_agent::model::object;
use proxy_agent::plan::{BackendEntry, FrontendId, Write};
use proxy_ebpf::layout::{
    Frontend, Settings, Span, Timeouts, V4, V6, backend_flags, frontend_flags, settings_flags,
};
use proxy_tests::lab::Family;
use proxy_tests::packets::{self, Element, Protocol, Scenario};

/// All writes, in an order that the agent may choose.
pub(crate) fn writes(scenario: &Scenario) -> Vec<Write> {
    scenario.elements().into_iter().map(write).collect()
}

fn write(element: Element<'_>) -> Write {
    match element {
        Element::Backend { index, backend } => Write::Backend {
            index,
            entry: BackendEntry {
                address: backend.address.ip(),
                port: backend.address.port(),
                flags: if backend.local {
                    backend_flags::LOCAL
                } else {
                    0
                },
                generation: 1,
                service: 0,
            },
        },
        Element::Slots { start, backends } => Write::Slots { start, backends },
        Element::Frontend {
            service,
            frontend,
            cluster,
            local,
        } => Write::Frontend {
            id: FrontendId {
                address: frontend.address.ip(),
                port: frontend.address.port(),
                protocol: match frontend.protocol {
                    Protocol::Tcp => object::Protocol::Tcp,
                    Protocol::Udp => object::Protocol::Udp,
                    Protocol::Sctp => object::Protocol::Sctp,
                },
            },
            value: Frontend {
                service,
                flags: flags_of(frontend),
                affinity_seconds: 0,
                cluster: span(&cluster),
                local: span(&local),
            },
        },
        Element::NatPorts(ports) => Write::NatPorts {
            ports: ports.into(),
        },
        Element::NodeAddress(address) => Write::NodeAddress { address },
        Element::Settings {
            family,
            node_address,
            nat_ports,
            masquerade_all,
        } => {
            let flags = if masquerade_all {
                settings_flags::MASQUERADE_ALL
            } else {
                0
            };
            match family {
                Family::V4 => {
                    let address = match node_address {
                        Some(IpAddr::V4(address)) => address.into(),
                        _ => V4::default(),
                    };
                    Write::SettingsV4(settings(address, nat_ports, flags))
                }
                Family::V6 => {
                    let address = match node_address {
                        Some(IpAddr::V6(address)) => address.into(),
                        _ => V6::default(),
                    };
                    Write::SettingsV6(settings(address, nat_ports, flags))
                }
            }
        }
    }
}

fn settings<A: Default>(node_address: A, nat_ports: u16, flags: u32) -> Settings<A> {
    Settings {
        node_address,
        nat_ports: nat_ports.into(),
        service_cidrs: Default::default(),
        flags,
        timeouts: Timeouts::DEFAULT,
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
