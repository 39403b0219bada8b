//! Which addresses can never be a backend or a Service's own address.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The classes of addresses that are refused: what sits behind them is the
/// node itself or nobody in particular (CVE-2021-25737).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AddressClass {
    /// `0.0.0.0` and `::`
    Unspecified,
    /// `127.0.0.0/8` and `::1`
    Loopback,
    /// `169.254.0.0/16` and `fe80::/10`
    LinkLocal,
    /// `224.0.0.0/4` and `ff00::/8`
    Multicast,
    /// `255.255.255.255`
    Broadcast,
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "an unspecified address",
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "the broadcast address",
        })
    }
}

/// Why `address` cannot be used; `None` where it can.
pub(super) fn unusable_class(address: IpAddr) -> Option<AddressClass> {
    let class = match address {
        _ if address.is_unspecified() => AddressClass::Unspecified,
        _ if address.is_loopback() => AddressClass::Loopback,
        _ if address.is_multicast() => AddressClass::Multicast,
        IpAddr::V4(v4) if v4.is_link_local() => AddressClass::LinkLocal,
        IpAddr::V4(v4) if v4.is_broadcast() => AddressClass::Broadcast,
        IpAddr::V6(v6) if is_link_local(v6) => AddressClass::LinkLocal,
        _ => return None,
    };
    Some(class)
}

fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_distinguished_from_their_neighbours() {
        let cases = [
            ("0.0.0.0", Some(AddressClass::Unspecified)),
            ("0.0.0.1", None),
            ("126.255.255.255", None),
            ("127.0.0.1", Some(AddressClass::Loopback)),
            ("127.255.255.254", Some(AddressClass::Loopback)),
            ("128.0.0.0", None),
            ("169.253.255.255", None),
            ("169.254.0.1", Some(AddressClass::LinkLocal)),
            ("169.255.0.0", None),
            ("223.255.255.255", None),
            ("224.0.0.1", Some(AddressClass::Multicast)),
            ("239.255.255.255", Some(AddressClass::Multicast)),
            ("240.0.0.1", None),
            ("255.255.255.254", None),
            ("255.255.255.255", Some(AddressClass::Broadcast)),
            ("::", Some(AddressClass::Unspecified)),
            ("::1", Some(AddressClass::Loopback)),
            ("::2", None),
            ("fe7f::1", None),
            ("fe80::1", Some(AddressClass::LinkLocal)),
            ("febf::1", Some(AddressClass::LinkLocal)),
            ("fec0::1", None),
            ("feff::1", None),
            ("ff02::1", Some(AddressClass::Multicast)),
            ("::fffe:10.0.0.1", None),
            ("fd00::1", None),
        ];
        for (text, expected) in cases {
            assert_eq!(unusable_class(text.parse().unwrap()), expected, "{text}");
        }
    }
}
