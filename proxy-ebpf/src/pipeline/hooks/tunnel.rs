//! Direct server return (DSR), at the node of the endpoint that another node has selected.
//!
//! A packet is decapsulated if its frontend has DSR and the endpoint is local; then it creates
//! a flow like a packet that came directly from the client, and egress translates the replies.
//! Any other encapsulated packet passes unmodified.

use super::fragment::FragmentKind;
use crate::flow_table::Record;
use crate::layout::{
    Counter, Edge, Frontend, FrontendKey, KeyParts, Span, Stage, Tuple, flow_flags, frontend_flags,
    new_flow_notes,
};
use crate::pipeline::context::Context;
use crate::pipeline::flow::capabilities::AllCapabilities;
use crate::pipeline::flow::lookup::find_flow;
use crate::pipeline::flow::record::{Translation, new_flow};
use crate::pipeline::packet::headers::is_same;
use crate::pipeline::packet::parse::{parse, parse_or_first_fragment};
use crate::pipeline::packet::{Headers, IpVersion, Packet, Skip};
use crate::pipeline::service::pick::{find_backend, is_source_allowed, remaining_span};
use crate::pipeline::service::source::is_martian;
use crate::pipeline::tables::Tables;
use crate::pipeline::verdict::{Client, Verdict};

impl<A: IpVersion, P: Packet, T: Tables<A>> Context<'_, A, P, T> {
    /// Takes a packet of a flow that is known, or an ICMP error about one, out of the tunnel
    /// whose outer header is at `network`, and translates it.
    #[inline(always)]
    pub fn decapsulate(&mut self) -> Verdict<A> {
        let Some(ends) = A::parse_outer(self.packet, self.network) else {
            return Verdict::Pass;
        };
        let inner = self.network + A::OUTER;
        let (is_ours, next) = match parse::<A, P>(self.packet, inner) {
            Ok(headers) if headers.protocol == A::ICMP => {
                let is_ours = A::parse_icmp(self.packet, inner)
                    .is_some_and(|it| self.is_error_for_flow_to(&it, &ends.destination));
                (is_ours, Stage::IngressError)
            }
            Ok(headers) => {
                let is_known = flow_matches_tunnel(&headers, self.tables, &ends)
                    || has_local_flow(&headers, self.tables)
                        && find_frontend(&headers, self.tables, &ends).is_some();
                let flow = if is_known {
                    find_flow(&headers, self.tables, &mut AllCapabilities)
                } else {
                    Ok(None)
                };
                return match flow {
                    Ok(Some(flow)) => self.decapsulate_and_translate(&headers, &flow),
                    Ok(None) => find_endpoints(&headers, self.tables, &ends),
                    // The node that sent the self.packet tells the client.
                    Err(reason) => {
                        self.tables.count(reason);
                        Verdict::Drop(reason)
                    }
                };
            }
            Err(Skip::Fragment(at)) => match self.classify_fragment(inner, at, &ends.destination) {
                FragmentKind::First(headers)
                    if flow_matches_tunnel(&headers, self.tables, &ends) =>
                {
                    (true, Stage::Fragment)
                }
                FragmentKind::First(headers) if has_local_flow(&headers, self.tables) => {
                    (false, Stage::Fragment)
                }
                FragmentKind::First(headers) => {
                    return find_endpoints(&headers, self.tables, &ends);
                }
                FragmentKind::Subsequent(is_ours) => (is_ours, Stage::Fragment),
            },
            Err(Skip::Malformed) => {
                self.tables.count(Counter::Malformed);
                (false, Stage::Fragment)
            }
            Err(Skip::Other | Skip::Encapsulated) => (false, Stage::Fragment),
        };
        if !is_ours {
            return Verdict::Pass;
        }
        match self.strip_outer(self.network) {
            Some(()) => Verdict::Continue(next),
            None => Verdict::Drop(Counter::RewriteFailed),
        }
    }

    /// Opens a flow for a packet in a tunnel, whose outer header is at `network`, to the one of
    /// these endpoints that the tunnel names; takes it out and translates it. Where there are
    /// many, it says which are yet to be looked at.
    #[inline(always)]
    pub fn open_tunnelled(&mut self, endpoints: Span) -> Verdict<A> {
        let Some(ends) = A::parse_outer(self.packet, self.network) else {
            return Verdict::Pass;
        };
        let Some((index, backend)) = find_backend(endpoints, &ends, self.tables) else {
            return match remaining_span(endpoints) {
                Some(remaining_span) => Verdict::OpenTunnelled(remaining_span),
                None => Verdict::Pass,
            };
        };
        let inner = self.network + A::OUTER;
        let Some((headers, _)) = parse_or_first_fragment::<A, P>(self.packet, inner) else {
            return Verdict::Pass;
        };
        let mut flow = new_flow(&headers, index, &backend, 0);
        flow.notes = new_flow_notes::TUNNELLED;
        self.tables.store_new_flow(&flow);
        match self.strip_outer(self.network) {
            Some(()) => Verdict::Continue(Stage::Claim),
            None => Verdict::Drop(Counter::RewriteFailed),
        }
    }

    /// Takes away the outer header of a packet with these inner ones, and translates it.
    #[inline(always)]
    fn decapsulate_and_translate(
        &mut self,
        headers: &Headers<A>,
        translation: &Translation<A>,
    ) -> Verdict<A> {
        let network = headers.network - A::OUTER;
        if self.strip_outer(network).is_none() {
            return Verdict::Drop(Counter::RewriteFailed);
        }
        let headers = Headers {
            network,
            transport: headers.transport - A::OUTER,
            end: headers.end - A::OUTER,
            ..*headers
        };
        self.translate(&headers, translation)
    }

    /// Takes away the outer header, or counts that this failed.
    #[inline(always)]
    fn strip_outer(&mut self, network: usize) -> Option<()> {
        let done = self.packet.decapsulate(network, A::OUTER);
        self.tables.count(match done {
            Some(()) => Counter::Decapsulated,
            None => Counter::RewriteFailed,
        });
        done
    }

    /// Puts a packet, whose IP header is at `network`, into a tunnel with these ends. `None`
    /// if that failed, which is counted.
    #[inline(always)]
    pub fn encapsulate(&mut self, ends: &Tuple<A>) -> Option<()> {
        let outer = A::outer(self.packet, self.network, ends);
        let done = outer.and_then(|outer| self.packet.encapsulate(self.network, &outer));
        self.tables.count(match done {
            Some(()) => Counter::Encapsulated,
            None => Counter::RewriteFailed,
        });
        done
    }
}

/// Whether the packet's flow leads to where its tunnel does. One that goes on from here,
/// for which the client has come by this node, could lead back to where the packet is from.
#[inline(always)]
fn flow_matches_tunnel<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    ends: &Tuple<A>,
) -> bool {
    let key = KeyParts::of(&headers.tuple, headers.protocol, Edge::Ingress);
    tables.find(&key).is_some_and(|flow| {
        is_local(&flow)
            && flow.tuple.destination_port == ends.destination_port
            && is_same(&flow.tuple.destination, &ends.destination)
    })
}

/// Whether the packet has a flow to an endpoint of this node. It stays there, whatever a
/// tunnel says: anybody can write one with a client's tuple in it.
#[inline(always)]
fn has_local_flow<A: IpVersion, T: Tables<A>>(headers: &Headers<A>, tables: &T) -> bool {
    let key = KeyParts::of(&headers.tuple, headers.protocol, Edge::Ingress);
    tables.find(&key).is_some_and(|flow| is_local(&flow))
}

/// Whether the flow is of this data path, and its packets do not go on from this node.
#[inline(always)]
fn is_local<A>(flow: &Record<'_, A>) -> bool {
    const OTHERS: u32 = flow_flags::REDIRECT | flow_flags::NETFILTER | flow_flags::PLAIN;
    flow.flags() & OTHERS == 0
}

/// What becomes of a packet in a tunnel that belongs to no flow: its frontend says which
/// endpoints it may open one to.
#[inline(always)]
fn find_endpoints<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    ends: &Tuple<A>,
) -> Verdict<A> {
    let Some(frontend) = find_frontend(headers, tables, ends) else {
        return Verdict::Pass;
    };
    // The node that sent the packet has asked the same; but anybody can write such packets.
    if is_martian(&headers.tuple, Client::Outside, tables) {
        tables.count(Counter::MartianSource);
        return Verdict::Drop(Counter::MartianSource);
    }
    if !is_source_allowed(headers.tuple.source, &frontend, tables) {
        tables.count(Counter::SourceNotAllowed);
        return Verdict::Drop(Counter::SourceNotAllowed);
    }
    Verdict::OpenTunnelled(frontend.local)
}

/// The frontend that a packet in a tunnel with these ends is for, if it has direct return.
/// A NodePort is one at the address of the node that has sent the packet.
#[inline(always)]
fn find_frontend<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    ends: &Tuple<A>,
) -> Option<Frontend> {
    const WANTED: u32 = frontend_flags::EXTERNAL | frontend_flags::DSR;
    let address = headers.tuple.destination;
    let mut key = FrontendKey::new(address, headers.tuple.destination_port, headers.protocol);
    let frontend = match tables.frontend(&key) {
        Some(frontend) => frontend,
        None if is_same(&address, &ends.source) => {
            key.address = A::default();
            tables.frontend(&key)?
        }
        None => return None,
    };
    (frontend.flags & WANTED == WANTED).then_some(frontend)
}
