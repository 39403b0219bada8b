//! Fragments of packets to frontends, and of replies.
//!
//! Only the first fragment has ports. It is treated like a whole packet, and what became
//! of it is remembered for those that follow: they get the same addresses, and no
//! checksum but that of the IP header covers these.

use super::egress::find_reply;
use super::flow::Translation;
use super::headers::{Headers, Ipv4Header, Ipv6Header, Skip, Version, parse, with_ports};
use super::icmp::is_same;
use super::ingress::{find_flow, go_on, is_at_its_end, pass, refused, translate, without_flow};
use super::rewrite::{address_delta, port_word, rewrite};
use super::verifier::join;
use super::{Client, EveryWay, Packet, Tables, Verdict};
use crate::layout::{
    Address, Counter, Edge, Fragment, FragmentKey, Port, Stage, Tuple, V4, V6, flow_flags,
    protocol, ticks,
};

/// What came of a first fragment is forgotten after this long; as long as the kernel waits
/// for the rest (`net.ipv4.ipfrag_time`).
const TIMEOUT: u32 = ticks::from_seconds(30);
/// A first fragment tells the length of its whole packet.
const WHOLE: usize = u16::MAX as usize;

/// What a fragment says of itself.
pub struct Part<A> {
    /// Which packet it is of.
    id: u32,
    is_first: bool,
    /// Where it goes, without ports; its transport header is at hand only in the first.
    headers: Headers<A>,
}

/// Where the IP versions say which part a fragment is.
pub trait Fragments: Address {
    /// Reads a fragment whose IP header is at `network`, and the header that shows it is
    /// one at `at`.
    fn part<P: Packet>(packet: &P, network: usize, at: usize) -> Option<Part<Self>>;
}

impl Fragments for V4 {
    #[inline(always)]
    fn part<P: Packet>(packet: &P, network: usize, _: usize) -> Option<Part<Self>> {
        const OFFSET: u16 = 0x1fff;
        let header: Ipv4Header = packet.read(network)?;
        let length = usize::from(header.version_and_length & 0x0f) * 4;
        Some(Part {
            id: u32::from(header.identification),
            is_first: u16::from_be(header.fragment) & OFFSET == 0,
            headers: Headers {
                network,
                transport: network + length,
                end: network + usize::from(u16::from_be(header.total_length)),
                protocol: header.protocol,
                ttl: header.ttl,
                tcp_flags: 0,
                tuple: without_ports([header.source, header.destination]),
            },
        })
    }
}

impl Fragments for V6 {
    #[inline(always)]
    fn part<P: Packet>(packet: &P, network: usize, at: usize) -> Option<Part<Self>> {
        const OFFSET: u16 = 0xfff8;
        // The compiler knows already that the packet is that long; the verifier does not.
        let network = join(network);
        let header: Ipv6Header = packet.read(network)?;
        let [next, position]: [u16; 2] = packet.read(at)?;
        let id: u32 = packet.read(at + 4)?;
        let transport = at + 8;
        let end = network + 40 + usize::from(u16::from_be(header.payload_length));
        // Else what looks like its header is behind the packet.
        (transport <= end).then(|| Part {
            id,
            is_first: u16::from_be(position) & OFFSET == 0,
            headers: Headers {
                network,
                transport,
                end,
                protocol: next.to_ne_bytes()[0],
                ttl: header.hop_limit,
                tcp_flags: 0,
                tuple: without_ports([header.source, header.destination]),
            },
        })
    }
}

impl V6 {
    /// The offset and protocol of the transport header of a first fragment, like
    /// [`Fragments::part`].
    #[inline(always)]
    pub(super) fn first_part<P: Packet>(
        packet: &P,
        network: usize,
        at: usize,
    ) -> Option<(usize, u8)> {
        let part = V6::part(packet, network, at).filter(|part| part.is_first)?;
        Some((part.headers.transport, part.headers.protocol))
    }
}

#[inline(always)]
fn without_ports<A>([source, destination]: [A; 2]) -> Tuple<A> {
    Tuple {
        source,
        destination,
        source_port: Port::default(),
        destination_port: Port::default(),
    }
}

impl<A: Version> Part<A> {
    #[inline(always)]
    fn read<P: Packet>(packet: &P, network: usize) -> Option<Self> {
        match parse::<A, P>(packet, network) {
            Err(Skip::Fragment(at)) => A::part(packet, network, at),
            _ => None,
        }
    }

    /// The headers of a first fragment, with ports; `None` where it has none.
    #[inline(always)]
    fn first<P: Packet>(&self, packet: &P) -> Option<Headers<A>> {
        if self.headers.protocol == A::ICMP {
            return None;
        }
        with_ports(packet, self.headers, WHOLE).ok()
    }
}

/// The headers of a packet, or of its first fragment, and whether it is whole.
#[inline(always)]
pub(super) fn parse_first<A: Version, P: Packet>(
    packet: &P,
    network: usize,
) -> Option<(Headers<A>, bool)> {
    match parse::<A, P>(packet, network) {
        Ok(headers) => Some((headers, true)),
        Err(Skip::Fragment(at)) => {
            let part = A::part(packet, network, at)?;
            if !part.is_first {
                return None;
            }
            Some((part.first(packet)?, false))
        }
        Err(_) => None,
    }
}

/// What is known of a fragment that came in a tunnel.
pub(super) enum Known<A> {
    /// It is the first of its packet.
    First(Headers<A>),
    /// It is another one; whether the first one came in a tunnel to the same endpoint.
    Follows(bool),
}

/// What is known of a fragment in a tunnel to `endpoint`; its IP header is at `network`, and
/// the header that shows it is a fragment at `at`.
#[inline(always)]
pub(super) fn known_part<A, P, T>(
    packet: &P,
    network: usize,
    at: usize,
    tables: &T,
    endpoint: &A,
) -> Known<A>
where
    A: Version,
    P: Packet,
    T: Tables<A>,
{
    let Some(part) = A::part(packet, network, at) else {
        return Known::Follows(false);
    };
    if !part.is_first {
        let known = known(tables, &part, Edge::Ingress);
        return Known::Follows(known.is_some_and(|first| {
            first.flags & flow_flags::REDIRECT == 0 && is_same(&first.destination, endpoint)
        }));
    }
    part.first(packet)
        .map_or(Known::Follows(false), Known::First)
}

/// Translates a fragment that came in.
#[inline(always)]
pub fn ingress_fragment<A, P, T>(
    packet: &mut P,
    network: usize,
    tables: &T,
    client: Client,
) -> Verdict<A>
where
    A: Version,
    P: Packet,
    T: Tables<A>,
{
    let Some(part) = Part::<A>::read(packet, network) else {
        return Verdict::Pass;
    };
    if !part.is_first {
        return match known(tables, &part, Edge::Ingress) {
            Some(fragment) => follow(packet, &part.headers, tables, &fragment),
            None => pass_unknown(&part.headers, tables),
        };
    }
    let Some(headers) = part.first(packet) else {
        return pass(packet, network, tables);
    };
    match find_flow(&headers, tables, &mut EveryWay) {
        Ok(Some(translation)) => {
            let Translation { tuple, flags, .. } = &translation;
            if flags & flow_flags::DSR == 0 && !can_become(&headers, tuple) {
                tables.count(Counter::Fragments);
                return Verdict::Drop;
            }
            remember(tables, &headers, part.id, Edge::Ingress, (tuple, *flags));
            translate(packet, &headers, tables, &translation)
        }
        Ok(None) => answer_part(&headers, without_flow(&headers, tables, client)),
        Err(reason) => {
            tables.count(reason);
            answer_part(&headers, refused(reason))
        }
    }
}

/// The verdict about a first fragment; a reset is not made of a part.
#[inline(always)]
fn answer_part<A>(headers: &Headers<A>, verdict: Verdict<A>) -> Verdict<A> {
    match verdict {
        Verdict::Continue(Stage::Refuse) if headers.protocol == protocol::TCP => Verdict::Drop,
        verdict => verdict,
    }
}

/// Translates a fragment of a reply that goes out to its client.
#[inline(always)]
pub fn egress_fragment<A, P, T>(packet: &mut P, network: usize, tables: &T) -> Verdict<A>
where
    A: Version,
    P: Packet,
    T: Tables<A>,
{
    let Some(part) = Part::<A>::read(packet, network) else {
        return Verdict::Pass;
    };
    if !part.is_first {
        return match known(tables, &part, Edge::Egress) {
            Some(fragment) => follow(packet, &part.headers, tables, &fragment),
            None => Verdict::Pass,
        };
    }
    let Some(headers) = part.first(packet) else {
        return Verdict::Pass;
    };
    let Some(tuple) = find_reply(&headers, tables) else {
        return Verdict::Pass;
    };
    if !can_become(&headers, &tuple) {
        tables.count(Counter::Fragments);
        return Verdict::Drop;
    }
    remember(tables, &headers, part.id, Edge::Egress, (&tuple, 0));
    let done = rewrite(packet, &headers, &tuple);
    go_on(packet, &headers, tables, 0, done.map(|()| tuple))
}

/// Whether a first fragment can be given this tuple. SCTP's checksum changes with the ports,
/// by how far they are from the end of the whole packet, which nobody knows yet.
#[inline(always)]
fn can_become<A>(headers: &Headers<A>, to: &Tuple<A>) -> bool {
    headers.protocol != protocol::SCTP || port_word(&headers.tuple) == port_word(to)
}

/// What the fragments of a packet have in common.
#[inline(always)]
fn key<A: Copy>(headers: &Headers<A>, id: u32, edge: Edge) -> FragmentKey<A> {
    FragmentKey {
        source: headers.tuple.source,
        destination: headers.tuple.destination,
        id,
        protocol: headers.protocol,
        edge: edge as u8,
        pad: 0,
    }
}

/// Remembers for the fragments that follow what becomes of the first one.
#[inline(always)]
fn remember<A: Version, T: Tables<A>>(
    tables: &T,
    headers: &Headers<A>,
    id: u32,
    edge: Edge,
    (tuple, flags): (&Tuple<A>, u32),
) {
    let fragment = Fragment {
        source: tuple.source,
        destination: tuple.destination,
        flags,
        seen: tables.now(),
    };
    tables.remember_fragments(&key(headers, id, edge), &fragment);
}

/// What became of a packet's first fragment, if that is not too long ago.
#[inline(always)]
fn known<A: Version, T: Tables<A>>(tables: &T, part: &Part<A>, edge: Edge) -> Option<Fragment<A>> {
    let fragment = tables.fragments(&key(&part.headers, part.id, edge))?;
    let age = tables.now().wrapping_sub(fragment.seen);
    (age <= TIMEOUT).then_some(fragment)
}

/// Has a fragment go where the first one went.
#[inline(always)]
fn follow<A, P, T>(
    packet: &mut P,
    headers: &Headers<A>,
    tables: &T,
    first: &Fragment<A>,
) -> Verdict<A>
where
    A: Version,
    P: Packet,
    T: Tables<A>,
{
    if is_at_its_end(headers, tables, first.flags) {
        return Verdict::Drop;
    }
    let tuple = without_ports([first.source, first.destination]);
    let done = if first.flags & flow_flags::DSR == 0 {
        rewrite_addresses(packet, headers, &tuple)
    } else {
        Some(())
    };
    go_on(packet, headers, tables, first.flags, done.map(|()| tuple))
}

#[inline(always)]
fn rewrite_addresses<A, P>(packet: &mut P, headers: &Headers<A>, to: &Tuple<A>) -> Option<()>
where
    A: Version,
    P: Packet,
{
    let addresses = address_delta(&headers.tuple, to);
    match A::CHECKSUM {
        Some(checksum) => packet.adjust_ip_checksum(headers.network + checksum, addresses)?,
        None => packet.adjust_whole(addresses),
    }
    packet.write(
        headers.network + A::ADDRESSES,
        &A::pair(to.source, to.destination),
    )
}

/// What becomes of a fragment whose first one was not seen. A ClusterIP leads nowhere
/// without a translation; elsewhere it can be somebody's own.
#[inline(always)]
fn pass_unknown<A: Version, T: Tables<A>>(headers: &Headers<A>, tables: &T) -> Verdict<A> {
    let address = &headers.tuple.destination;
    let is_in_range = tables.settings().is_some_and(|settings| {
        let mut ranges = settings.service_ranges.iter();
        ranges.any(|range| range.contains(address))
    });
    if is_in_range || tables.is_cluster_ip(address) {
        tables.count(Counter::Fragments);
        return Verdict::Drop;
    }
    Verdict::Pass
}
