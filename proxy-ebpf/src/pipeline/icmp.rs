//! ICMP errors about packets of translated flows.
//!
//! An error goes to whoever sent the packet that it quotes, and he knows the packet
//! only as he sent it. So the quote is translated back, and the error goes on to him.
//! What the quoted packet's reply would be found under tells which flow it is about,
//! in both directions and at both hooks.

use super::flow::is_fresh;
use super::headers::{Headers, Ipv4Header, Ipv6Header, Skip, Version, parse, walk_extensions};
use super::ingress::{go_on, is_at_its_end, pass};
use super::rewrite::{TCP_CHECKSUM, UDP_CHECKSUM, address_delta, port_word};
use super::{Delta, Packet, Tables, Verdict, sctp};
use crate::layout::{
    Address, Bytes, Counter, Edge, FlowKey, Port, Stage, Tuple, V4, V6, flow_flags, protocol,
};

/// Length of an ICMP error's own header (RFC 792, RFC 4443).
pub(super) const HEADER: usize = 8;
/// Offset of the checksum in it.
const CHECKSUM: usize = 2;

/// What differs between ICMP and `ICMPv6`.
pub trait Icmp: Address {
    /// Its protocol number.
    const ICMP: u8;
    /// Whether its checksum covers the addresses of the IP header.
    const HAS_PSEUDO_HEADER: bool;

    /// Whether a message of this type is an error, which quotes a packet.
    fn is_error(kind: u8) -> bool;

    /// The length that an error with this ICMP header says a packet may have, if it says that
    /// one was too long.
    fn told_mtu(control: [u32; 2]) -> Option<u16>;

    /// Whether the packet whose IP header is at `offset` has another of its version inside.
    fn is_tunnel<P: Packet>(packet: &P, offset: usize) -> bool;

    /// Reads the headers of an ICMP packet. Of IPv6 only such as errors have, without
    /// extension headers: the kernel verifies every walk through these together with
    /// every one through the quoted packet's.
    fn message<P: Packet>(packet: &P, network: usize) -> Option<Headers<Self>>;

    /// Reads the headers of a quoted packet whose IP header is at `offset`. `None` where
    /// its ports are not quoted.
    fn quoted<P: Packet>(packet: &P, offset: usize) -> Option<Quote<Self>>;
}

/// The beginning of a packet in the error about it.
pub struct Quote<A> {
    /// Offset of its IP header.
    network: usize,
    /// Offset of its transport header.
    transport: usize,
    /// Where the whole packet ended.
    end: usize,
    pub(super) protocol: u8,
    pub(super) tuple: Tuple<A>,
}

/// What the transport protocols' headers begin with.
#[derive(Clone, Copy)]
#[repr(C)]
struct Ports {
    source: Port,
    destination: Port,
}

const _: () = assert!(size_of::<Ports>() == 4);
// SAFETY: `#[repr(C)]` of two ports, and the size shows that there is no padding.
#[expect(unsafe_code, reason = "a promise about memory layout")]
unsafe impl Bytes for Ports {}

impl Icmp for V4 {
    const ICMP: u8 = protocol::ICMP;
    const HAS_PSEUDO_HEADER: bool = false;

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        const DESTINATION_UNREACHABLE: u8 = 3;
        const TIME_EXCEEDED: u8 = 11;
        const PARAMETER_PROBLEM: u8 = 12;
        matches!(
            kind,
            DESTINATION_UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM
        )
    }

    #[inline(always)]
    fn told_mtu([kind, value]: [u32; 2]) -> Option<u16> {
        // RFC 1191, section 4.
        const FRAGMENTATION_NEEDED: [u8; 2] = [3, 4];
        let [kind, code, ..] = kind.to_ne_bytes();
        #[expect(clippy::cast_possible_truncation, reason = "the second half of it")]
        let mtu = u32::from_be(value) as u16;
        ([kind, code] == FRAGMENTATION_NEEDED).then_some(mtu)
    }

    #[inline(always)]
    fn is_tunnel<P: Packet>(packet: &P, offset: usize) -> bool {
        let header: Option<Ipv4Header> = packet.read(offset);
        header.is_some_and(|header| header.protocol == protocol::IPIP)
    }

    #[inline(always)]
    fn message<P: Packet>(packet: &P, network: usize) -> Option<Headers<Self>> {
        parse(packet, network).ok()
    }

    #[inline(always)]
    fn quoted<P: Packet>(packet: &P, offset: usize) -> Option<Quote<Self>> {
        const FRAGMENT_OFFSET: u16 = 0x1fff;
        let header: Ipv4Header = packet.read(offset)?;
        let length = usize::from(header.version_and_length & 0x0f) * 4;
        let has_ports = u16::from_be(header.fragment) & FRAGMENT_OFFSET == 0;
        if header.version_and_length >> 4 != 4 || length < size_of::<Ipv4Header>() || !has_ports {
            return None;
        }
        let total_length = usize::from(u16::from_be(header.total_length));
        Quote::read(
            packet,
            [offset, offset + length, offset + total_length],
            header.protocol,
            [header.source, header.destination],
        )
    }
}

impl Icmp for V6 {
    const ICMP: u8 = protocol::ICMPV6;
    const HAS_PSEUDO_HEADER: bool = true;

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        // Destination unreachable, packet too big, time exceeded, parameter problem.
        matches!(kind, 1..=4)
    }

    #[inline(always)]
    fn told_mtu([kind, value]: [u32; 2]) -> Option<u16> {
        // RFC 4443, section 3.2.
        const PACKET_TOO_BIG: u8 = 2;
        let [kind, ..] = kind.to_ne_bytes();
        let mtu = u16::try_from(u32::from_be(value)).unwrap_or(u16::MAX);
        (kind == PACKET_TOO_BIG).then_some(mtu)
    }

    #[inline(always)]
    fn is_tunnel<P: Packet>(packet: &P, offset: usize) -> bool {
        let header: Option<Ipv6Header> = packet.read(offset);
        header.is_some_and(|header| header.next_header == protocol::IPV6)
    }

    #[inline(always)]
    fn message<P: Packet>(packet: &P, network: usize) -> Option<Headers<Self>> {
        let header: Ipv6Header = packet.read(network)?;
        let transport = network + size_of::<Ipv6Header>();
        let length = usize::from(u16::from_be(header.payload_length));
        (header.next_header == Self::ICMP).then_some(Headers {
            network,
            transport,
            end: transport + length,
            protocol: Self::ICMP,
            ttl: header.hop_limit,
            tcp_flags: 0,
            tuple: Tuple {
                source: header.source,
                destination: header.destination,
                source_port: Port::default(),
                destination_port: Port::default(),
            },
        })
    }

    #[inline(always)]
    fn quoted<P: Packet>(packet: &P, offset: usize) -> Option<Quote<Self>> {
        let header: Ipv6Header = packet.read(offset)?;
        if u32::from_be(header.version) >> 28 != 6 {
            return None;
        }
        let behind = offset + size_of::<Ipv6Header>();
        let (transport, protocol) = match walk_extensions(packet, behind, header.next_header) {
            Ok(found) => found,
            Err(Skip::Fragment(at)) => V6::first_part(packet, offset, at)?,
            Err(_) => return None,
        };
        let payload_length = usize::from(u16::from_be(header.payload_length));
        Quote::read(
            packet,
            [offset, transport, behind + payload_length],
            protocol,
            [header.source, header.destination],
        )
    }
}

impl<A: Address> Quote<A> {
    #[inline(always)]
    fn read<P: Packet>(
        packet: &P,
        [network, transport, end]: [usize; 3],
        protocol: u8,
        [source, destination]: [A; 2],
    ) -> Option<Self> {
        if !matches!(protocol, protocol::TCP | protocol::UDP | protocol::SCTP) {
            return None;
        }
        let ports: Ports = packet.read(transport)?;
        Some(Self {
            network,
            transport,
            end,
            protocol,
            tuple: Tuple {
                source,
                destination,
                source_port: ports.source,
                destination_port: ports.destination,
            },
        })
    }
}

/// Translates an ICMP error about a packet of a translated flow that came in; one about a
/// tunnel has a stage, and any other ICMP packet passes.
#[inline(always)]
pub fn ingress_error<A, P, T>(packet: &mut P, network: usize, tables: &T) -> Verdict<A>
where
    A: Version,
    P: Packet,
    T: Tables<A>,
{
    let Some(headers) = A::message(packet, network) else {
        return pass(packet, network, tables);
    };
    let Some(related) = find_related(packet, &headers, tables, Edge::Ingress) else {
        return if A::is_tunnel(packet, headers.transport + HEADER) {
            Verdict::Continue(Stage::TunnelError)
        } else {
            pass(packet, network, tables)
        };
    };
    let flags = related.flags;
    if is_at_its_end(&headers, tables, flags) {
        return Verdict::Drop;
    }
    let done = if flags & flow_flags::DSR == 0 {
        rewrite_related(packet, &headers, &related)
    } else {
        // For the endpoint's node to translate.
        Some(())
    };
    let tuple = done.map(|()| related.tuple);
    go_on(packet, &headers, tables, flags, tuple)
}

/// Translates an ICMP error about what the client of a translated flow has sent, on its
/// way out to him; any other ICMP packet passes.
#[inline(always)]
pub fn egress_error<A, P, T>(packet: &mut P, network: usize, tables: &T) -> Verdict<A>
where
    A: Version,
    P: Packet,
    T: Tables<A>,
{
    let Some(headers) = A::message(packet, network) else {
        return Verdict::Pass;
    };
    let Some(related) = find_related(packet, &headers, tables, Edge::Egress) else {
        return Verdict::Pass;
    };
    if rewrite_related(packet, &headers, &related).is_none() {
        tables.count(Counter::RewriteFailed);
        return Verdict::Drop;
    }
    Verdict::Pass
}

/// An error about a packet of a translated flow, and what it becomes.
struct Related<A> {
    quote: Quote<A>,
    /// What the quoted packet was before it was translated.
    quoted: Tuple<A>,
    /// From where and to where the error goes then.
    tuple: Tuple<A>,
    /// Bits of [`flow_flags`].
    flags: u32,
}

/// What an ICMP packet becomes that is seen at `edge`. `None` if it is no error, or about
/// no flow of ours. It does not keep the flow alive: anybody can send one.
#[inline(always)]
fn find_related<A, P, T>(
    packet: &P,
    headers: &Headers<A>,
    tables: &T,
    edge: Edge,
) -> Option<Related<A>>
where
    A: Version,
    P: Packet,
    T: Tables<A>,
{
    let [kind, _code]: [u8; 2] = packet.read(headers.transport)?;
    if !A::is_error(kind) {
        return None;
    }
    let quote = A::quoted(packet, headers.transport + HEADER)?;
    let Tuple {
        source: sender,
        destination: addressee,
        ..
    } = headers.tuple;
    let is_whole = quote.transport + UDP_CHECKSUM + 2 <= headers.end;
    if !is_whole || !is_same(&addressee, &quote.tuple.source) {
        return None;
    }
    let reply = quote.tuple.reversed();
    let flow = tables.find(&FlowKey::new(reply, quote.protocol, edge))?;
    let flags = flow.flags();
    let is_forward = flags & flow_flags::REPLY == 0;
    if !is_forward && !is_fresh(&flow, quote.protocol, tables.now()) {
        return None;
    }
    // A router on the way keeps its address. Who takes the quoted packets for those of
    // the frontend, or of this node, gets to see that one.
    let is_hidden = is_forward && flags & flow_flags::REDIRECT != 0;
    let source = if is_hidden || is_same(&sender, &reply.source) {
        flow.tuple.source
    } else {
        sender
    };
    Some(Related {
        quote,
        quoted: flow.tuple.reversed(),
        tuple: Tuple {
            source,
            destination: flow.tuple.destination,
            source_port: Port::default(),
            destination_port: flow.tuple.destination_port,
        },
        flags,
    })
}

/// Whether an ICMP packet is an error about what an endpoint has sent to the client of a
/// flow whose packets this node hands to it.
#[inline(always)]
pub(super) fn is_about_flow_to<A, P, T>(
    packet: &P,
    headers: &Headers<A>,
    tables: &T,
    endpoint: &A,
) -> bool
where
    A: Version,
    P: Packet,
    T: Tables<A>,
{
    find_related(packet, headers, tables, Edge::Ingress).is_some_and(|related| {
        related.flags & (flow_flags::REDIRECT | flow_flags::REPLY) == 0
            && is_same(&related.tuple.destination, endpoint)
    })
}

/// Writes what the error becomes into the packet.
#[inline(always)]
fn rewrite_related<A, P>(packet: &mut P, headers: &Headers<A>, related: &Related<A>) -> Option<()>
where
    A: Version,
    P: Packet,
{
    let mut change = rewrite_quote(packet, headers, &related.quote, &related.quoted)?;
    let addresses = address_delta(&headers.tuple, &related.tuple);
    if A::HAS_PSEUDO_HEADER {
        change = change.and(addresses);
    }
    packet.adjust_icmp_checksum(headers.transport + CHECKSUM, change)?;
    if let Some(checksum) = A::CHECKSUM {
        packet.adjust_ip_checksum(headers.network + checksum, addresses)?;
    }
    let Tuple {
        source,
        destination,
        ..
    } = related.tuple;
    packet.write(
        headers.network + A::ADDRESSES,
        &A::pair(source, destination),
    )
}

/// Gives the quoted packet the addresses and ports of `to`, and repairs its checksums as
/// far as they are quoted. The difference of all that was written.
#[inline(always)]
fn rewrite_quote<A, P>(
    packet: &mut P,
    headers: &Headers<A>,
    quote: &Quote<A>,
    to: &Tuple<A>,
) -> Option<Delta>
where
    A: Version,
    P: Packet,
{
    let addresses = address_delta(&quote.tuple, to);
    let ports = Delta::between(&[port_word(&quote.tuple)], &[port_word(to)]);
    let mut change = addresses.and(ports);
    if let Some(checksum) = A::CHECKSUM {
        change = change.and(adjust(packet, quote.network + checksum, addresses)?);
    }
    if quote.protocol == protocol::SCTP {
        change = change.and(adjust_sctp(packet, headers, quote, to)?);
    } else {
        let (checksum, may_be_absent) = match quote.protocol {
            protocol::TCP => (quote.transport + TCP_CHECKSUM, false),
            _ => (quote.transport + UDP_CHECKSUM, true),
        };
        if checksum + 2 <= headers.end {
            let present: u16 = packet.read(checksum)?;
            if packet.is_checksum_pending(checksum, present) {
                // It makes all that it covers add up to the same, whatever the ports.
                change = change.and(Delta::between(&[port_word(to)], &[port_word(&quote.tuple)]));
            } else if !(may_be_absent && present == 0) {
                change = change.and(adjust(packet, checksum, addresses.and(ports))?);
            }
        }
    }
    packet.write(
        quote.network + A::ADDRESSES,
        &A::pair(to.source, to.destination),
    )?;
    packet.write(quote.transport, &port_word(to))?;
    Some(change)
}

/// Adjusts SCTP's checksum, if it is quoted, and says what difference that makes. One that
/// was yet to be completed when the error was made is 0.
#[inline(always)]
fn adjust_sctp<A, P>(
    packet: &mut P,
    headers: &Headers<A>,
    quote: &Quote<A>,
    to: &Tuple<A>,
) -> Option<Delta>
where
    A: Version,
    P: Packet,
{
    const LENGTH: usize = 4;
    let checksum = quote.transport + sctp::CHECKSUM;
    let mut change = Delta::between(&[], &[]);
    if checksum + LENGTH <= headers.end {
        let present: u32 = packet.read(checksum)?;
        if present != 0 {
            let length = quote.end.saturating_sub(quote.transport);
            let new = present ^ sctp::checksum_change([&quote.tuple, to], length);
            packet.write(checksum, &new)?;
            change = Delta::between(&[present], &[new]);
        }
    }
    Some(change)
}

/// Adjusts a checksum in the quoted packet, and says what difference that makes.
#[inline(always)]
fn adjust<P: Packet>(packet: &mut P, offset: usize, delta: Delta) -> Option<Delta> {
    let old: u16 = packet.read(offset)?;
    let new = delta.apply(old);
    packet.write(offset, &new)?;
    Some(Delta::between(&[u32::from(old)], &[u32::from(new)]))
}

/// Whether both addresses are the same, without a branch for each word.
#[inline(always)]
pub(super) fn is_same<A: Address>(one: &A, other: &A) -> bool {
    difference(one, other) == 0
}

/// The bits in which some word of two addresses differs.
#[inline(always)]
pub(super) fn difference<A: Address>(one: &A, other: &A) -> u32 {
    let words = one.words().iter().zip(other.words());
    words.fold(0, |difference, (a, b)| difference | (a ^ b))
}
