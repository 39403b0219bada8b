//! Fragments of packets to frontends, and of replies.
//!
//! Only the first fragment has ports. It is treated like a whole packet, and its translation is
//! recorded; subsequent fragments get the same addresses, which only the checksum of the IP
//! header covers.

use super::decide::{on_flow_miss, reject_or_drop};
use crate::layout::{Counter, Edge, Fragment, FragmentKey, Tuple, flow_flags, protocol, ticks};
use crate::pipeline::context::Context;
use crate::pipeline::flow::apply::is_ttl_exceeded;
use crate::pipeline::flow::capabilities::AllCapabilities;
use crate::pipeline::flow::lookup::{find_flow, find_reply};
use crate::pipeline::flow::record::Translation;
use crate::pipeline::packet::headers::{FragmentHeader, is_same, without_ports};
use crate::pipeline::packet::rewrite::{rewrite, rewrite_addresses};
use crate::pipeline::packet::sctp::port_word;
use crate::pipeline::packet::{Headers, IpVersion, Packet};
use crate::pipeline::tables::Tables;
use crate::pipeline::verdict::Verdict;

/// What came of a first fragment is forgotten after this long; as long as the kernel waits
/// for the rest (`net.ipv4.ipfrag_time`).
const TIMEOUT: u32 = ticks::from_seconds(30);

/// What is known of a fragment that came in a tunnel.
pub(crate) enum FragmentKind<A> {
    /// It is the first of its packet.
    First(Headers<A>),
    /// It is another one; whether the first one came in a tunnel to the same endpoint.
    Subsequent(bool),
}

impl<A: IpVersion, P: Packet, T: Tables<A>> Context<'_, A, P, T> {
    /// What is known of a fragment in a tunnel to `endpoint`; its IP header is at `network`, and
    /// the header that shows it is a fragment at `at`.
    #[inline(always)]
    pub(crate) fn classify_fragment(
        &self,
        network: usize,
        at: usize,
        endpoint: &A,
    ) -> FragmentKind<A> {
        let Some(part) = A::part(self.packet, network, at) else {
            return FragmentKind::Subsequent(false);
        };
        if !part.is_first {
            let known = lookup_fragment(self.tables, &part, Edge::Ingress);
            return FragmentKind::Subsequent(known.is_some_and(|first| {
                first.flags & flow_flags::REDIRECT == 0 && is_same(&first.destination, endpoint)
            }));
        }
        part.first(self.packet)
            .map_or(FragmentKind::Subsequent(false), FragmentKind::First)
    }

    /// Translates a fragment that came in.
    #[inline(always)]
    pub fn ingress_fragment(&mut self) -> Verdict<A> {
        let Some(part) = FragmentHeader::<A>::read(self.packet, self.network) else {
            return Verdict::Pass;
        };
        if !part.is_first {
            return match lookup_fragment(self.tables, &part, Edge::Ingress) {
                Some(fragment) => self.translate_subsequent(&part.headers, &fragment),
                None => on_unmatched_fragment(&part.headers, self.tables),
            };
        }
        let Some(headers) = part.first(self.packet) else {
            return self.pass();
        };
        match find_flow(&headers, self.tables, &mut AllCapabilities) {
            Ok(Some(translation)) => self.translate_first_of(&part, &headers, &translation),
            Ok(None) => {
                fragment_verdict(&headers, on_flow_miss(&headers, self.tables, self.client))
            }
            Err(reason) => {
                self.tables.count(reason);
                fragment_verdict(&headers, reject_or_drop(reason))
            }
        }
    }

    /// Translates the first fragment of a packet whose flow was made for it.
    #[inline(always)]
    pub(crate) fn translate_first_fragment(&mut self, translation: &Translation<A>) -> Verdict<A> {
        let Some(part) = FragmentHeader::<A>::read(self.packet, self.network) else {
            return Verdict::Discard;
        };
        let Some(headers) = part.first(self.packet) else {
            return Verdict::Discard;
        };
        self.translate_first_of(&part, &headers, translation)
    }

    #[inline(always)]
    fn translate_first_of(
        &mut self,
        part: &FragmentHeader<A>,
        headers: &Headers<A>,
        translation: &Translation<A>,
    ) -> Verdict<A> {
        let Translation { tuple, flags, .. } = translation;
        if flags & flow_flags::DSR == 0 && !can_rewrite_ports(headers, tuple) {
            self.tables.count(Counter::Fragments);
            return Verdict::Drop(Counter::Fragments);
        }
        remember(
            self.tables,
            headers,
            part.id,
            Edge::Ingress,
            (tuple, *flags),
        );
        self.translate(headers, translation)
    }

    /// Translates a fragment of a reply that goes out to its client.
    #[inline(always)]
    pub fn egress_fragment(&mut self) -> Verdict<A> {
        let Some(part) = FragmentHeader::<A>::read(self.packet, self.network) else {
            return self.leave_unparsed();
        };
        if !part.is_first {
            return match lookup_fragment(self.tables, &part, Edge::Egress) {
                Some(fragment) => {
                    let verdict = self.translate_subsequent(&part.headers, &fragment);
                    self.left(verdict)
                }
                None => self.leave(&part.headers.tuple.destination),
            };
        }
        let Some(headers) = part.first(self.packet) else {
            return self.leave_unparsed();
        };
        let Some(tuple) = find_reply(&headers, self.tables) else {
            return self.leave(&headers.tuple.destination);
        };
        if !can_rewrite_ports(&headers, &tuple) {
            self.tables.count(Counter::Fragments);
            return Verdict::Drop(Counter::Fragments);
        }
        remember(self.tables, &headers, part.id, Edge::Egress, (&tuple, 0));
        let done = rewrite(self.packet, &headers, &tuple);
        let verdict = self.forward_verdict(&headers, 0, done.map(|()| tuple));
        self.left(verdict)
    }

    /// The verdict for a fragment that leaves, translated by this one.
    #[inline(always)]
    fn left(&self, verdict: Verdict<A>) -> Verdict<A> {
        match verdict {
            Verdict::PassTranslated => self.leave_translated(Verdict::PassTranslated),
            verdict => verdict,
        }
    }

    /// Has a fragment go where the first one went.
    #[inline(always)]
    fn translate_subsequent(&mut self, headers: &Headers<A>, first: &Fragment<A>) -> Verdict<A> {
        if is_ttl_exceeded(headers, self.tables, first.flags) {
            return Verdict::Drop(Counter::Unroutable);
        }
        let tuple = without_ports([first.source, first.destination]);
        let done = if first.flags & flow_flags::DSR == 0 {
            rewrite_addresses(self.packet, headers, &tuple)
        } else {
            Some(())
        };
        self.forward_verdict(headers, first.flags, done.map(|()| tuple))
    }
}

/// The verdict about a first fragment; a reset is not made of a part.
#[inline(always)]
fn fragment_verdict<A>(headers: &Headers<A>, verdict: Verdict<A>) -> Verdict<A> {
    match verdict {
        Verdict::Refuse(reason) if headers.protocol == protocol::TCP => Verdict::Drop(reason),
        verdict => verdict,
    }
}

/// Whether a first fragment can be given this tuple. SCTP's checksum changes with the ports,
/// by how far they are from the end of the whole packet, which nobody knows yet.
#[inline(always)]
fn can_rewrite_ports<A>(headers: &Headers<A>, to: &Tuple<A>) -> bool {
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
fn remember<A: IpVersion, T: Tables<A>>(
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
        last_seen: tables.now(),
    };
    tables.insert_fragment(&key(headers, id, edge), &fragment);
}

/// What became of a packet's first fragment, if that is not too long ago.
#[inline(always)]
fn lookup_fragment<A: IpVersion, T: Tables<A>>(
    tables: &T,
    part: &FragmentHeader<A>,
    edge: Edge,
) -> Option<Fragment<A>> {
    let fragment = tables.fragments(&key(&part.headers, part.id, edge))?;
    let age = tables.now().wrapping_sub(fragment.last_seen);
    (age <= TIMEOUT).then_some(fragment)
}

/// What becomes of a fragment whose first one was not seen. Untranslated, nobody
/// receives it at a ClusterIP; elsewhere it can be an untranslated connection's.
#[inline(always)]
fn on_unmatched_fragment<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
) -> Verdict<A> {
    let address = &headers.tuple.destination;
    let is_in_range = tables.settings().is_some_and(|settings| {
        let mut ranges = settings.service_cidrs.iter();
        ranges.any(|range| range.contains(address))
    });
    if is_in_range || tables.is_cluster_ip(address) {
        tables.count(Counter::Fragments);
        return Verdict::Drop(Counter::Fragments);
    }
    Verdict::Pass
}
