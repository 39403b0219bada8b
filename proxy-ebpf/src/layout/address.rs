//! Addresses, ports and protocols, as they are in a packet.

use core::fmt::Debug;
use core::hash::Hash;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes that may lie in a packet or in a map: any bit pattern is a value.
///
/// # Safety
///
/// The type is `#[repr(C)]` or primitive, has no padding, and every bit pattern
/// of its size is valid.
#[expect(unsafe_code, reason = "a promise about memory layout")]
pub unsafe trait Bytes: Copy {}

/// An address of one IP version, in network byte order.
///
/// Held as 32-bit words: the BPF target would move bytes one by one.
pub trait Address: Bytes + Eq + Hash + Debug + Default + 'static {
    /// The EtherType of packets of this version.
    const ETHERTYPE: u16;
    /// 127.0.0.1 or `::1`.
    const LOOPBACK: Self;
    /// The 32-bit words of the address.
    fn words(&self) -> &[u32];
    /// Whether it is 127.0.0.0/8 or `::1`, the host's own way to itself.
    fn is_loopback(&self) -> bool;
    /// Whether it can be one host's address on a network: none of those that Linux calls
    /// martian sources (`ip_route_input_slow` in `net/ipv4/route.c`, `ip6_rcv_core` in
    /// `net/ipv6/ip6_input.c`), such as the unspecified, loopback and multicast ones.
    fn is_unicast(&self) -> bool;
}

/// An IPv4 address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
#[repr(transparent)]
pub struct V4(pub [u32; 1]);

/// An IPv6 address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
#[repr(transparent)]
pub struct V6(pub [u32; 4]);

impl Address for V4 {
    const ETHERTYPE: u16 = 0x0800;
    const LOOPBACK: Self = Self([0x7f00_0001_u32.to_be()]);

    #[inline(always)]
    fn words(&self) -> &[u32] {
        &self.0
    }

    #[inline(always)]
    fn is_loopback(&self) -> bool {
        u32::from_be(self.0[0]) >> 24 == 127
    }

    #[inline(always)]
    fn is_unicast(&self) -> bool {
        let first = u32::from_be(self.0[0]) >> 24;
        // Above are multicast (224.0.0.0/4), what is reserved, and broadcast.
        first != 0 && first != 127 && first < 224
    }
}

impl Address for V6 {
    const ETHERTYPE: u16 = 0x86dd;
    const LOOPBACK: Self = Self([0, 0, 0, 1_u32.to_be()]);

    #[inline(always)]
    fn words(&self) -> &[u32] {
        &self.0
    }

    #[inline(always)]
    fn is_loopback(&self) -> bool {
        let [first, second, third, last] = self.0;
        first | second | third | (last ^ 1_u32.to_be()) == 0
    }

    #[inline(always)]
    fn is_unicast(&self) -> bool {
        let [first, second, third, last] = self.0;
        let is_multicast = u32::from_be(first) >> 24 == 0xff;
        let is_unspecified_or_loopback = first | second | third | (last & !1_u32.to_be()) == 0;
        !is_multicast && !is_unspecified_or_loopback
    }
}

impl From<Ipv4Addr> for V4 {
    fn from(address: Ipv4Addr) -> Self {
        Self([u32::from(address).to_be()])
    }
}

impl From<Ipv6Addr> for V6 {
    fn from(address: Ipv6Addr) -> Self {
        let bits = u128::from(address);
        Self([96, 64, 32, 0].map(|shift| word(bits >> shift).to_be()))
    }
}

impl From<V4> for IpAddr {
    fn from(V4([word]): V4) -> Self {
        Ipv4Addr::from(u32::from_be(word)).into()
    }
}

impl From<V6> for IpAddr {
    fn from(V6(words): V6) -> Self {
        let bits = words
            .iter()
            .fold(0, |bits, word| bits << 32 | u128::from(u32::from_be(*word)));
        Ipv6Addr::from(bits).into()
    }
}

/// The lowest 32 bits.
#[expect(clippy::cast_possible_truncation, reason = "cut off on purpose")]
const fn word(bits: u128) -> u32 {
    bits as u32
}

/// A transport port, in network byte order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Port(u16);

impl Port {
    /// A port from its number.
    #[inline(always)]
    pub const fn new(number: u16) -> Self {
        Self(number.to_be())
    }

    /// The port's number.
    #[inline(always)]
    pub const fn number(self) -> u16 {
        u16::from_be(self.0)
    }

    /// The two bytes as they are in memory.
    #[inline(always)]
    pub const fn raw(self) -> u16 {
        self.0
    }
}

/// Protocol numbers (IANA).
pub mod protocol {
    /// Internet Control Message Protocol.
    pub const ICMP: u8 = 1;
    /// Transmission Control Protocol.
    pub const TCP: u8 = 6;
    /// User Datagram Protocol.
    pub const UDP: u8 = 17;
    /// IPv4 inside of IP (RFC 2003).
    pub const IPIP: u8 = 4;
    /// IPv6 inside of IP (RFC 2473).
    pub const IPV6: u8 = 41;
    /// Internet Control Message Protocol for IPv6.
    pub const ICMPV6: u8 = 58;
    /// Stream Control Transmission Protocol.
    pub const SCTP: u8 = 132;
}
