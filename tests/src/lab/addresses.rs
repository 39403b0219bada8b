//! The lab's address plan, which `manifests/examples` repeats.
//!
//! IPv4 and IPv6 end in the same digits, so that one glance at a trace tells
//! which pod it is: `10.244.2.11` and `fd00:10:244:2::11` are pod 2 of node 2.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The cluster's service range, IPv4.
pub const SERVICES_V4: &str = "10.96.0.0/16";
/// The cluster's service range, IPv6.
pub const SERVICES_V6: &str = "fd00:10:96::/112";

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// Both families, IPv4 first.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// One host's addresses, one of each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The IPv4 address.
    pub v4: Ipv4Addr,
    /// The IPv6 address.
    pub v6: Ipv6Addr,
}

impl Addresses {
    /// The address of this family.
    pub fn of(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }
}

/// The outside client's address in the fabric.
pub fn client() -> Addresses {
    fabric(100)
}

/// The router's address in the fabric.
pub fn router() -> Addresses {
    fabric(77)
}

/// The uplink address of node `node` (from 1).
pub fn node(node: u8) -> Addresses {
    fabric(10 + node)
}

/// The gateway of the pods of node `node`.
pub fn gateway(node: u8) -> Addresses {
    in_pod_range(node, 1)
}

/// The address of pod `pod` (from 1) of node `node`.
pub fn pod(node: u8, pod: u8) -> Addresses {
    in_pod_range(node, 9 + pod)
}

/// The pod ranges of node `node`, with prefix lengths.
pub fn pod_ranges(node: u8) -> (String, String) {
    (
        format!("10.244.{node}.0/24"),
        format!("fd00:10:244:{node}::/64"),
    )
}

/// The address of node `node`'s end of the tunnel between nodes.
pub fn tunnel(node: u8) -> Addresses {
    in_pod_range(node, 0)
}

/// An address in the network of node1's second uplink.
pub fn second_uplink(host: u8) -> Addresses {
    Addresses {
        v4: Ipv4Addr::new(172, 30, 0, host),
        v6: Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, same_digits(host)),
    }
}

fn fabric(host: u8) -> Addresses {
    Addresses {
        v4: Ipv4Addr::new(172, 31, 0, host),
        v6: Ipv6Addr::new(0xfd00, 0x31, 0, 0, 0, 0, 0, same_digits(host)),
    }
}

fn in_pod_range(node: u8, host: u8) -> Addresses {
    let subnet = same_digits(node);
    Addresses {
        v4: Ipv4Addr::new(10, 244, node, host),
        v6: Ipv6Addr::new(0xfd00, 0x10, 0x244, subnet, 0, 0, 0, same_digits(host)),
    }
}

/// The number whose hexadecimal digits are `decimal`'s decimal ones.
fn same_digits(decimal: u8) -> u16 {
    let decimal = u16::from(decimal);
    (decimal / 100) << 8 | (decimal / 10 % 10) << 4 | (decimal % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_end_in_the_same_digits() {
        assert_eq!(client().v4.to_string(), "172.31.0.100");
        assert_eq!(client().v6.to_string(), "fd00:31::100");
        assert_eq!(pod(2, 2).v4.to_string(), "10.244.2.11");
        assert_eq!(pod(2, 2).v6.to_string(), "fd00:10:244:2::11");
    }
}
