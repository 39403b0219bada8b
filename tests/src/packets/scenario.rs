//! What a node's maps hold, in neutral terms: each test writes it in its own way.

use std::net::{IpAddr, SocketAddr};

use crate::lab::Family;

/// A node with its Services.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scenario {
    /// The addresses on which NodePorts answer; the first of a family is also the
    /// source of what the node sends on.
    pub node: Vec<IpAddr>,
    /// First port, and number of ports, of the range of translated source ports.
    pub nat_ports: (u16, u16),
    /// Whether all that comes from outside is translated.
    pub masquerade_all: bool,
    /// Endpoints; a frontend names them by their position.
    pub backends: Vec<Backend>,
    /// Frontends; the position is the Service's id.
    pub frontends: Vec<Frontend>,
}

/// An endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether it runs on the node.
    pub local: bool,
}

/// A frontend.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frontend {
    /// Where clients turn to; the unspecified address makes it a `NodePort`.
    pub address: SocketAddr,
    /// Of which protocol.
    pub protocol: Protocol,
    /// Whether it is meant for clients outside of the cluster.
    pub external: bool,
    /// Whether its traffic policy is Local.
    pub local_policy: bool,
    /// Whether endpoints of other nodes answer its clients themselves.
    pub direct: bool,
    /// The endpoints of the cluster.
    pub cluster: Vec<usize>,
    /// The endpoints of the node.
    pub local: Vec<usize>,
}

/// A transport protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

/// Where a packet is seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hook {
    /// Comes in from a pod of the node.
    FromPod,
    /// Comes in from anybody else.
    FromOutside,
    /// Goes out.
    Out,
    /// Goes out by an uplink, from this host.
    FromHost,
}

impl Hook {
    /// The one of this name.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        match name {
            "from-pod" => Some(Self::FromPod),
            "from-outside" => Some(Self::FromOutside),
            "from-host" => Some(Self::FromHost),
            "out" => Some(Self::Out),
            _ => None,
        }
    }
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// The one of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// The number in an IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl Frontend {
    /// A frontend of both policies Cluster.
    pub fn new(address: SocketAddr, protocol: Protocol, cluster: Vec<usize>) -> Self {
        Self {
            address,
            protocol,
            external: false,
            local_policy: false,
            direct: false,
            cluster,
            local: Vec::new(),
        }
    }
}

/// An address of the tests' own network.
///
/// A packet without link-layer header in a test run of the kernel has to have its
/// own EtherType at bytes 12 and 13, where IPv4 has the first half of its source
/// and IPv6 the third group of it: hence 8.0.0.0/16 and `fd00:0:86dd::/48`. Nothing
/// is ever sent.
pub fn address(family: Family, network: u8, host: u8) -> IpAddr {
    match family {
        Family::V4 => [8, 0, network, host].into(),
        Family::V6 => [
            0xfd00,
            0,
            0x86dd,
            u16::from(network),
            0,
            0,
            0,
            u16::from(host),
        ]
        .into(),
    }
}

/// Hosts in the tests' own network by their names, by network and host.
const NAMES: [(&str, u8, u8); 22] = [
    ("node", 1, 1),
    // Other nodes, and a router between them.
    ("peer", 1, 2),
    ("node-3", 1, 3),
    ("other-address", 1, 9),
    ("fabric-router", 1, 77),
    // Pods of the node, of which the first is an endpoint, and endpoints of other nodes.
    ("near", 2, 1),
    ("pod", 2, 2),
    ("far", 3, 1),
    ("far-2", 3, 2),
    // Outside.
    ("router", 7, 1),
    ("client", 7, 7),
    ("client-2", 7, 8),
    ("nobody", 7, 9),
    ("client-3", 7, 20),
    ("client-4", 7, 30),
    // Services of the usual scenario.
    ("web", 9, 1),
    ("far-web", 9, 2),
    ("empty", 9, 3),
    ("web-too", 9, 4),
    ("external-local", 9, 5),
    ("internal-local", 9, 6),
    ("direct", 9, 7),
];

/// The address of a host in the tests' own network.
pub(super) fn named_address(family: Family, name: &str) -> Option<IpAddr> {
    let mut names = NAMES.iter();
    let (_, network, host) = names.find(|(it, ..)| *it == name)?;
    Some(address(family, *network, *host))
}

impl Scenario {
    /// A node without Services.
    pub fn empty() -> Self {
        Self {
            node: Family::BOTH.map(|family| address(family, 1, 1)).to_vec(),
            nat_ports: (32_768, 1000),
            masquerade_all: false,
            backends: Vec::new(),
            frontends: Vec::new(),
        }
    }

    /// Adds an endpoint, and says its position.
    pub fn add_backend(&mut self, address: SocketAddr, local: bool) -> usize {
        self.backends.push(Backend { address, local });
        self.backends.len() - 1
    }

    /// A node with one frontend of each kind. Every set has one endpoint at most,
    /// so that nothing is up to chance.
    pub fn usual() -> Self {
        let mut scenario = Self::empty();
        for family in Family::BOTH {
            let near = scenario.add_backend(SocketAddr::new(address(family, 2, 1), 8080), true);
            let far = scenario.add_backend(SocketAddr::new(address(family, 3, 1), 8080), false);
            let service = |host, port| SocketAddr::new(address(family, 9, host), port);
            let any: IpAddr = match family {
                Family::V4 => [0; 4].into(),
                Family::V6 => [0; 16].into(),
            };
            for protocol in Protocol::ALL {
                let frontend = |address, set| Frontend::new(address, protocol, set);
                scenario.frontends.extend([
                    frontend(service(1, 80), vec![near]),
                    frontend(service(2, 80), vec![far]),
                    frontend(service(3, 80), vec![]),
                    // Another way to the same endpoint.
                    frontend(service(4, 443), vec![near]),
                    // The endpoint's own port.
                    frontend(service(7, 8080), vec![near]),
                    Frontend {
                        external: true,
                        ..frontend(SocketAddr::new(any, 30_080), vec![far])
                    },
                    Frontend {
                        external: true,
                        local_policy: true,
                        local: vec![near],
                        ..frontend(SocketAddr::new(any, 30_081), vec![far])
                    },
                    Frontend {
                        external: true,
                        local_policy: true,
                        ..frontend(service(5, 80), vec![far])
                    },
                    Frontend {
                        local_policy: true,
                        ..frontend(service(6, 80), vec![far])
                    },
                    Frontend {
                        external: true,
                        direct: true,
                        local: vec![near],
                        ..frontend(SocketAddr::new(any, 30_082), vec![far])
                    },
                    Frontend {
                        external: true,
                        direct: true,
                        local: vec![near],
                        ..frontend(service(7, 80), vec![far])
                    },
                ]);
            }
        }
        scenario
    }
}
