//! ICMP errors of this node.
//!
//! The packet itself becomes the error: an IP and an ICMP header are prepended, and the packet
//! is truncated after the first bytes of its transport header, so that the checksum covers a
//! fixed length.

use crate::layout::protocol;
use crate::pipeline::packet::checksum::{TCP_CHECKSUM, UDP_CHECKSUM};
use crate::pipeline::packet::icmp::{IcmpMessage, Quoted};
use crate::pipeline::packet::{Delta, Headers, IpVersion, Packet};

/// Length of an Ethernet header. The kernel puts headers behind it only where no VLAN
/// tag is in the way.
const ETHERNET: usize = 14;

/// Makes of a packet an ICMP error about it, from and to these. `None` where there is
/// none for such a packet, or it could not be written.
#[inline(always)]
pub(crate) fn into_icmp_error<A, P>(
    packet: &mut P,
    headers: &Headers<A>,
    message: IcmpMessage,
    ends: [A; 2],
) -> Option<()>
where
    A: IpVersion,
    P: Packet,
{
    if headers.network > ETHERNET {
        return None;
    }
    let transport = headers.transport;
    // As much as the kernel leaves of a header whose checksum hardware completes.
    let (length, transport_sum) = match headers.protocol {
        protocol::TCP => {
            let words: [u32; 5] = packet.read(transport)?;
            let [.., [first, second, ..]] = words.map(u32::to_ne_bytes);
            let present = u16::from_ne_bytes([first, second]);
            let sum = Delta::between(&[], &words);
            (
                20,
                completed(packet, transport + TCP_CHECKSUM, present, sum),
            )
        }
        protocol::UDP => {
            let words: [u32; 2] = packet.read(transport)?;
            let [_, [.., third, fourth]] = words.map(u32::to_ne_bytes);
            let present = u16::from_ne_bytes([third, fourth]);
            let sum = Delta::between(&[], &words);
            (8, completed(packet, transport + UDP_CHECKSUM, present, sum))
        }
        protocol::SCTP => {
            // A checksum that is yet to be completed belongs to a host behind a device that
            // leaves it so, and takes it for right.
            let words: [u32; 3] = packet.read(transport)?;
            (12, Delta::between(&[], &words))
        }
        number if number == A::ICMP => {
            let words: [u32; 2] = packet.read(transport)?;
            let [[kind, ..], _] = words.map(u32::to_ne_bytes);
            // An error about an error is never sent (RFC 1122, section 3.2.2; RFC 4443, 2.4).
            if kind != A::ECHO_REQUEST {
                return None;
            }
            (8, Delta::between(&[], &words))
        }
        _ => return None,
    };
    let quoted = Quoted {
        network: headers.network,
        header: transport - headers.network,
        rest: length,
        transport_sum,
    };
    let sum = A::sum_of(packet, &quoted)?;
    let added = A::error_headers(message, quoted.header + quoted.rest, sum, ends);
    packet.prepend(headers.network, transport + length, &added)
}

/// The sum of a transport header's part that has this one now, and the checksum at `offset`
/// in it, once hardware has completed that.
#[inline(always)]
fn completed<P: Packet>(packet: &mut P, offset: usize, present: u16, sum: Delta) -> Delta {
    if packet.is_checksum_partial(offset, present) {
        // It holds the pseudo header's sum; once complete it will make all that it covers
        // add up to the opposite.
        Delta::between(&[u32::from(present)], &[])
    } else {
        sum
    }
}
