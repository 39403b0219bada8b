//! Which source ports translated packets may have.

use std::collections::BTreeSet;

use super::HostPorts;
use crate::config::PortRange;

/// The API server's default for `--service-node-port-range`. A NodePort may come at
/// any time, so that none of these is used; one outside is left from when it is known.
pub const NODE_PORTS: PortRange = PortRange {
    first: 30_000,
    last: 32_767,
};

/// With fewer ports than this a node cannot work.
const FEW: usize = 1024;

/// The ports, and whether they are as they should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatPorts {
    /// In ascending order.
    pub ports: Vec<u16>,
    /// Whether ephemeral ports are among them, because without them there would be
    /// nearly none.
    pub shares_ephemeral: bool,
}

/// The ports of `range` that neither a socket of the host nor a NodePort has or could
/// get.
pub fn nat_ports(range: PortRange, host: &HostPorts, node_ports: &BTreeSet<u16>) -> NatPorts {
    let free = |port: &u16| {
        !NODE_PORTS.contains(*port) && !node_ports.contains(port) && !host.bound.contains(port)
    };
    let mut ports: Vec<u16> = range.ports().filter(free).collect();
    let own = ports.iter().filter(|port| !host.is_ephemeral(**port));
    let own: Vec<u16> = own.copied().collect();
    let shares_ephemeral = own.len() < FEW && own.len() < ports.len();
    if !shares_ephemeral {
        ports = own;
    }
    NatPorts {
        ports,
        shares_ephemeral,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: PortRange = PortRange {
        first: 1024,
        last: 65_535,
    };

    fn host(first: u16, last: u16, bound: &[u16]) -> HostPorts {
        HostPorts {
            ephemeral: Some(PortRange { first, last }),
            reserved: Vec::new(),
            bound: bound.iter().copied().collect(),
        }
    }

    #[test]
    fn by_default_there_are_more_than_thirty_thousand() {
        let found = nat_ports(ALL, &host(32_768, 60_999, &[]), &BTreeSet::new());
        assert!(!found.shares_ephemeral);
        assert_eq!(found.ports.len(), (30_000 - 1024) + (65_536 - 61_000));
        assert!(found.ports.is_sorted());
    }

    #[test]
    fn what_the_host_or_a_node_port_has_is_left_out() {
        let host = host(32_768, 60_999, &[10_250, 61_001]);
        let found = nat_ports(ALL, &host, &BTreeSet::from([20_000]));
        for port in [10_250, 61_001, 20_000, 30_000, 32_767, 32_768, 60_999] {
            assert!(!found.ports.contains(&port), "{port}");
        }
        for port in [10_249, 61_000, 61_002, 20_001, 29_999, 65_535] {
            assert!(found.ports.contains(&port), "{port}");
        }
    }

    #[test]
    fn reserved_ports_are_ours() {
        let mut host = host(1024, 65_535, &[]);
        host.reserved.push(PortRange {
            first: 40_000,
            last: 49_999,
        });
        let found = nat_ports(ALL, &host, &BTreeSet::new());
        assert!(!found.shares_ephemeral);
        assert_eq!(found.ports, (40_000..50_000).collect::<Vec<_>>());
    }

    #[test]
    fn where_all_is_ephemeral_ports_are_shared() {
        let found = nat_ports(ALL, &host(1024, 65_535, &[8080]), &BTreeSet::new());
        assert!(found.shares_ephemeral);
        assert!(found.ports.len() > 60_000);
        assert!(!found.ports.contains(&8080));
    }

    #[test]
    fn a_small_range_is_what_was_asked_for() {
        let range = PortRange {
            first: 61_000,
            last: 61_009,
        };
        let found = nat_ports(range, &host(32_768, 60_999, &[61_003]), &BTreeSet::new());
        assert!(!found.shares_ephemeral);
        assert_eq!(found.ports.len(), 9);
    }
}
