//! A packet comes in.

use super::flow::{Translation, is_fresh, release_tuple, reply_record, reset, tend, touch};
use super::frontend::{find_frontend, is_in_service_range, is_refusal, leads_nowhere};
use super::headers::{Headers, Skip, Version, parse, tcp_flags};
use super::onward::can_finish;
use super::rewrite::{rewrite, set_ttl, swap_link_addresses};
use super::traffic::count_packet;
use super::{Client, Onward, Packet, Tables, Verdict};
use crate::layout::{
    Counter, Edge, FilterBits, Flow, FlowKey, FrontendKey, Stage, Tuple, flow_flags, protocol,
    settings_flags,
};

/// Translates a packet of IP version `A` that came in, with its IP header at
/// `network`, where `onward` has a way for it then. What opens a flow, and whatever else is
/// seldom, is the business of a stage.
#[inline(always)]
pub fn ingress<A, P, T, O>(
    packet: &mut P,
    network: usize,
    tables: &T,
    client: Client,
    onward: &mut O,
) -> Verdict<A>
where
    A: Version,
    P: Packet,
    T: Tables<A>,
    O: Onward<A>,
{
    let headers = match parse::<A, P>(packet, network) {
        Ok(headers) => headers,
        // The hook behind this one comes to the same, and has the stages.
        Err(_) if O::HAS_NEXT => return Verdict::Pass,
        Err(Skip::Encapsulated) if client == Client::Outside => {
            return Verdict::Continue(Stage::Decapsulate);
        }
        Err(skip) => {
            return match skipped(tables, skip, Stage::Fragment) {
                Verdict::Pass => pass(packet, network, tables),
                verdict => verdict,
            };
        }
    };
    if headers.protocol == A::ICMP {
        return Verdict::Continue(Stage::IngressError);
    }
    if !tables.are_set(FilterBits::of_destination(&headers.tuple.destination)) {
        return if O::HAS_NEXT {
            Verdict::Pass
        } else {
            plain(&headers, tables)
        };
    }
    match find_flow(&headers, tables, onward) {
        Ok(Some(translation)) if translation.is_left => Verdict::Pass,
        Ok(Some(translation)) => translate(packet, &headers, tables, &translation),
        Ok(None) | Err(_) if O::HAS_NEXT => Verdict::Pass,
        Ok(None) => without_flow(&headers, tables, client),
        Err(reason) => {
            tables.count(reason);
            refused(reason)
        }
    }
}

/// What becomes of a packet to an address that no Service has, nor this node.
#[inline(always)]
fn plain<A: Version, T: Tables<A>>(headers: &Headers<A>, tables: &T) -> Verdict<A> {
    let Tuple {
        destination,
        destination_port,
        ..
    } = &headers.tuple;
    if is_in_service_range(destination, tables) {
        tables.count(Counter::NoSuchService);
        return Verdict::Drop;
    }
    if headers.is_syn() && tables.are_set(FilterBits::of_source(destination, *destination_port)) {
        release_tuple(tables, headers);
    }
    Verdict::Pass
}

/// What becomes of a packet that belongs to no flow: a frontend's opens one, another one is
/// plain.
#[inline(always)]
pub(super) fn without_flow<A: Version, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    client: Client,
) -> Verdict<A> {
    let address = &headers.tuple.destination;
    let mut key = FrontendKey::new(*address, headers.tuple.destination_port, headers.protocol);
    if find_frontend(&mut key, address, client, tables).is_some() {
        return Verdict::Continue(Stage::Open);
    }
    if let Some(reason) = leads_nowhere(address, tables) {
        tables.count(reason);
        return refused(reason);
    }
    if headers.is_syn() {
        release_tuple(tables, headers);
    }
    Verdict::Pass
}

/// The flow that the packet belongs to, if there is one; it is kept alive. An error says
/// that its endpoint has been gone for long, which is asked at most once a tick.
#[inline(always)]
pub(super) fn find_flow<A: Version, T: Tables<A>, O: Onward<A>>(
    headers: &Headers<A>,
    tables: &T,
    onward: &mut O,
) -> Result<Option<Translation<A>>, Counter> {
    let key = FlowKey::new(headers.tuple, headers.protocol, Edge::Ingress);
    let Some(flow) = tables.find(&key) else {
        return Ok(None);
    };
    let now = tables.now();
    if !is_valid(tables, &flow, headers, now) {
        return Ok(None);
    }
    let is_reply = flow.flags() & flow_flags::REPLY != 0;
    let is_first = is_reply && flow.flags() & flow_flags::ANSWERED == 0;
    // What comes before the flow is open, and from its first FIN on, may change its state.
    let is_changing = flow.flags() & CHANGING != 0;
    let is_due = touch(&flow, headers, now) || is_changing || headers.ending() != 0;
    if !is_reply && is_due {
        if !tend(tables, &flow, headers, now) {
            tables.forget(&key);
            return Ok(None);
        }
        if is_gone(tables, &flow, headers) {
            reset(tables, &flow, headers.protocol);
            return Err(Counter::EndpointGone);
        }
    }
    let is_left = !can_finish(onward, headers, &flow, is_first);
    if !is_left {
        count_packet(tables, &flow);
    }
    Ok(Some(Translation {
        tuple: flow.tuple,
        flags: flow.flags(),
        is_left,
    }))
}

/// Of a flow with one of these each packet is looked at closely.
const CHANGING: u32 = flow_flags::OPENING | flow_flags::FIN | flow_flags::RESET;

/// Whether the client of this connection is to be told that its endpoint is gone. A reset
/// of its own still goes there.
#[inline(always)]
fn is_gone<A: Version, T: Tables<A>>(tables: &T, flow: &Flow<A>, headers: &Headers<A>) -> bool {
    if headers.protocol != protocol::TCP || headers.tcp_flags & tcp_flags::RST != 0 {
        return false;
    }
    let flags = tables.settings().map_or(0, |settings| settings.flags);
    flags & settings_flags::RESET_GONE != 0
        && tables
            .backend(flow.backend)
            .is_some_and(|backend| backend.resets(flow.generation))
}

/// What becomes of a packet that opens no flow. Only where nobody could answer is
/// the client told; everything else looks like a loss, which may pass.
#[inline(always)]
pub(super) fn refused<A>(reason: Counter) -> Verdict<A> {
    if is_refusal(reason) {
        Verdict::Continue(Stage::Refuse)
    } else {
        Verdict::Drop
    }
}

/// What becomes of a packet that is not whole, or not one of ours; fragments have a stage.
#[inline(always)]
pub(super) fn skipped<A, T: Tables<A>>(tables: &T, skip: Skip, stage: Stage) -> Verdict<A>
where
    A: Version,
{
    match skip {
        Skip::Other | Skip::Encapsulated => Verdict::Pass,
        Skip::Malformed => {
            tables.count(Counter::Malformed);
            Verdict::Pass
        }
        Skip::Fragment(_) => Verdict::Continue(stage),
    }
}

/// Lets a packet go on that came in and has no ports to look at, unless its destination is
/// an address that only Services have: nobody would get it.
#[inline(always)]
pub(super) fn pass<A, P, T>(packet: &P, network: usize, tables: &T) -> Verdict<A>
where
    A: Version,
    P: Packet,
    T: Tables<A>,
{
    let destination: Option<A> = packet.read(network + A::ADDRESSES + size_of::<A>());
    let goes_on = destination.is_none_or(|it| leads_nowhere(&it, tables).is_none());
    if goes_on {
        return Verdict::Pass;
    }
    tables.count(Counter::NoSuchService);
    Verdict::Drop
}

/// Whether this packet still belongs to the flow that was found under its tuple.
#[inline(always)]
fn is_valid<A: Version, T: Tables<A>>(
    tables: &T,
    flow: &Flow<A>,
    headers: &Headers<A>,
    now: u32,
) -> bool {
    if flow.flags() & flow_flags::FOREIGN != 0 && headers.is_syn() {
        return false;
    }
    let is_reply = flow.flags() & flow_flags::REPLY != 0;
    if !is_fresh(flow, headers.protocol, now) {
        // Traffic in one direction only keeps the other record fresh.
        let is_kept = !is_reply
            && reply_record(tables, flow, headers.protocol)
                .is_some_and(|reply| is_fresh(&reply, headers.protocol, now));
        if !is_kept {
            return false;
        }
    }
    if is_reply {
        return true;
    }
    if headers.is_syn() {
        // After a FIN or an RST of either side this is another connection.
        let is_ending = |flow: &Flow<A>| flow.flags() & (flow_flags::FIN | flow_flags::RESET) != 0;
        return is_current(tables, flow)
            && !is_ending(flow)
            && reply_record(tables, flow, headers.protocol).is_none_or(|reply| !is_ending(&reply));
    }
    headers.protocol != protocol::UDP || is_current(tables, flow)
}

#[inline(always)]
fn is_current<A: Version, T: Tables<A>>(tables: &T, flow: &Flow<A>) -> bool {
    tables
        .backend(flow.backend)
        .is_some_and(|backend| backend.is_current(flow.generation))
}

/// Writes the translation into the packet and says where it goes.
#[inline(always)]
pub(super) fn translate<A, P, T>(
    packet: &mut P,
    headers: &Headers<A>,
    tables: &T,
    translation: &Translation<A>,
) -> Verdict<A>
where
    A: Version,
    P: Packet,
    T: Tables<A>,
{
    let Translation { tuple, flags, .. } = translation;
    if flags & flow_flags::FOREIGN != 0 {
        return Verdict::Pass;
    }
    if is_at_its_end(headers, tables, *flags) {
        return Verdict::Continue(Stage::Expire);
    }
    let done = if flags & flow_flags::DSR == 0 {
        rewrite(packet, headers, tuple)
    } else {
        Some(())
    };
    go_on(packet, headers, tables, *flags, done.map(|()| *tuple))
}

/// Whether the packet would have to be sent on, and must not any more.
#[inline(always)]
pub(super) fn is_at_its_end<A: Version, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    flags: u32,
) -> bool {
    let is_over = flags & flow_flags::REDIRECT != 0 && headers.ttl <= 1;
    if is_over {
        tables.count(Counter::Unroutable);
    }
    is_over
}

/// Where a packet goes that was given this tuple, or is to be sent between these ends; there
/// is none where it could not be given it.
#[inline(always)]
pub(super) fn go_on<A, P, T>(
    packet: &mut P,
    headers: &Headers<A>,
    tables: &T,
    flags: u32,
    tuple: Option<Tuple<A>>,
) -> Verdict<A>
where
    A: Version,
    P: Packet,
    T: Tables<A>,
{
    let is_sent_on = flags & flow_flags::REDIRECT != 0;
    let mut done = tuple.map(|_| ());
    if is_sent_on && done.is_some() {
        // As whoever sends a packet on has to (RFC 1812, section 5.3.1).
        done = set_ttl(packet, headers, headers.ttl.saturating_sub(1));
        if flags & flow_flags::HAIRPIN != 0 && done.is_some() {
            done = swap_link_addresses(packet, headers);
        }
    }
    let (Some(tuple), Some(())) = (tuple, done) else {
        tables.count(Counter::RewriteFailed);
        return Verdict::Drop;
    };
    if !is_sent_on {
        Verdict::Deliver
    } else if flags & flow_flags::HAIRPIN != 0 {
        Verdict::Return
    } else if flags & flow_flags::DSR != 0 {
        Verdict::Encapsulate(tuple)
    } else {
        Verdict::Forward(tuple)
    }
}
