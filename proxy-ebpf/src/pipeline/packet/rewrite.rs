//! Writes a translated tuple, a TTL or link-layer addresses into a packet.

use super::access::{ChecksumScope, Packet};
use super::checksum::Delta;
use super::headers::Headers;
use super::sctp::{self, port_word};
use super::version::IpVersion;
use crate::layout::{Tuple, protocol};

/// Offset of the checksum in a TCP header.
pub(crate) const TCP_CHECKSUM: usize = 16;

/// Offset of the checksum in a UDP header.
pub(crate) const UDP_CHECKSUM: usize = 6;

/// Gives the packet the addresses and ports of `to`, and repairs its checksums.
#[inline(always)]
pub(crate) fn rewrite<A, P>(packet: &mut P, headers: &Headers<A>, to: &Tuple<A>) -> Option<()>
where
    A: IpVersion,
    P: Packet,
{
    let addresses = address_delta(&headers.tuple, to);
    let ports = Delta::between(&[port_word(&headers.tuple)], &[port_word(to)]);
    if let Some(checksum) = A::CHECKSUM {
        packet.adjust_ip_checksum(headers.network + checksum, addresses)?;
    }
    if headers.protocol == protocol::SCTP {
        sctp::adjust_checksums(packet, headers, to, addresses)?;
    } else if headers.protocol == protocol::TCP {
        let checksum = headers.transport + TCP_CHECKSUM;
        packet.adjust_tcp_checksum(checksum, addresses, A::PSEUDO_HEADER)?;
        packet.adjust_tcp_checksum(checksum, ports, ChecksumScope::Header)?;
    } else {
        let checksum = headers.transport + UDP_CHECKSUM;
        packet.adjust_udp_checksum(checksum, addresses, A::PSEUDO_HEADER)?;
        packet.adjust_udp_checksum(checksum, ports, ChecksumScope::Header)?;
    }
    packet.write(
        headers.network + A::ADDRESSES,
        &A::pair(to.source, to.destination),
    )?;
    packet.write(headers.transport, &port_word(to))
}

/// Sets the time to live, or hop limit.
#[inline(always)]
pub(crate) fn set_ttl<A: IpVersion, P: Packet>(
    packet: &mut P,
    headers: &Headers<A>,
    ttl: u8,
) -> Option<()> {
    packet.write(headers.network + A::TTL, &ttl)?;
    if let Some(checksum) = A::CHECKSUM {
        // The 16-bit word is time to live, then protocol.
        let word = |ttl| u32::from(u16::from_ne_bytes([ttl, headers.protocol]));
        let delta = Delta::between(&[word(headers.ttl)], &[word(ttl)]);
        packet.adjust_ip_checksum(headers.network + checksum, delta)?;
    }
    Some(())
}

/// Swaps the two addresses of the Ethernet header, if there is one.
#[inline(always)]
pub(crate) fn swap_link_addresses<A, P: Packet>(
    packet: &mut P,
    headers: &Headers<A>,
) -> Option<()> {
    if headers.network == 0 {
        return Some(());
    }
    let [d0, d1, d2, s0, s1, s2]: [u16; 6] = packet.read(0)?;
    packet.write(0, &[s0, s1, s2, d0, d1, d2])
}

#[inline(always)]
pub(crate) fn address_delta<A: IpVersion>(from: &Tuple<A>, to: &Tuple<A>) -> Delta {
    let source = Delta::between(from.source.words(), to.source.words());
    let destination = Delta::between(from.destination.words(), to.destination.words());
    source.and(destination)
}

#[inline(always)]
pub(crate) fn rewrite_addresses<A, P>(
    packet: &mut P,
    headers: &Headers<A>,
    to: &Tuple<A>,
) -> Option<()>
where
    A: IpVersion,
    P: Packet,
{
    let addresses = address_delta(&headers.tuple, to);
    match A::CHECKSUM {
        Some(checksum) => packet.adjust_ip_checksum(headers.network + checksum, addresses)?,
        None => packet.adjust_checksum_complete(addresses),
    }
    packet.write(
        headers.network + A::ADDRESSES,
        &A::pair(to.source, to.destination),
    )
}
