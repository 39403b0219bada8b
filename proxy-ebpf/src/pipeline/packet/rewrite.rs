//! Writes a translated tuple, a TTL or link-layer addresses into a packet.

use super::access::Packet;
use super::checksum::{Delta, TransportChecksum, TupleDelta};
use super::headers::Headers;
use super::sctp::{self, port_word};
use super::version::IpVersion;
use crate::layout::{Tuple, protocol};

/// Gives the packet the addresses and ports of `to`, and repairs its checksums.
#[inline(always)]
pub(crate) fn rewrite<A, P>(packet: &mut P, headers: &Headers<A>, to: &Tuple<A>) -> Option<()>
where
    A: IpVersion,
    P: Packet,
{
    let delta = TupleDelta {
        addresses: address_delta(&headers.tuple, to),
        ports: Delta::between(&[port_word(&headers.tuple)], &[port_word(to)]),
    };
    if let Some(checksum) = A::CHECKSUM {
        packet.adjust_ip_checksum(headers.network + checksum, delta.addresses)?;
    }
    let transport = packet.forget_origin(headers.transport);
    if headers.protocol == protocol::SCTP {
        sctp::adjust_checksums(packet, headers, to, delta)?;
    } else {
        let checksum = TransportChecksum::at(transport, headers.protocol);
        packet.adjust_transport_checksum(checksum, delta, A::PSEUDO_HEADER)?;
    }
    packet.write_header(
        headers.network + A::ADDRESSES,
        &A::pair(to.source, to.destination),
    )?;
    packet.write_header(transport, &port_word(to))
}

/// Sets the time to live, or hop limit.
#[inline(always)]
pub(crate) fn set_ttl<A: IpVersion, P: Packet>(
    packet: &mut P,
    headers: &Headers<A>,
    ttl: u8,
) -> Option<()> {
    if A::CHECKSUM.is_none() {
        // By twos: of a single byte verifiers do not see that it is there.
        let set = |[before, _]: [u8; 2]| [before, ttl];
        return packet.update(headers.network + A::TTL - 1, set);
    }
    // The protocol, and the header's checksum.
    packet.update(headers.network + A::TTL, |[old, sum]: [u16; 2]| {
        let [_, protocol] = old.to_ne_bytes();
        let new = u16::from_ne_bytes([ttl, protocol]);
        let delta = Delta::between(&[old.into()], &[new.into()]);
        [new, delta.apply(sum)]
    })
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
    packet.update(0, |[d0, d1, d2, s0, s1, s2]: [u16; 6]| {
        [s0, s1, s2, d0, d1, d2]
    })
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
