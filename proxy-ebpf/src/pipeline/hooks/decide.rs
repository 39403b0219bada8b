//! What becomes of packets that are not translated.

use crate::layout::{Counter, FrontendKey, Stage};
use crate::pipeline::answer::is_refusal;
use crate::pipeline::flow::owner::release_tuple;
use crate::pipeline::packet::{Headers, Packet, Skip, Version};
use crate::pipeline::service::frontend::{find_frontend, leads_nowhere};
use crate::pipeline::tables::Tables;
use crate::pipeline::verdict::{Client, Verdict};

/// What becomes of a packet that belongs to no flow: a frontend's opens one, another one is
/// plain.
#[inline(always)]
pub(crate) fn without_flow<A: Version, T: Tables<A>>(
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

/// What becomes of a packet that opens no flow. Only where nobody could answer is
/// the client told; everything else looks like a loss, which may pass.
#[inline(always)]
pub(crate) fn refused<A>(reason: Counter) -> Verdict<A> {
    if is_refusal(reason) {
        Verdict::Continue(Stage::Refuse)
    } else {
        Verdict::Drop
    }
}

/// What becomes of a packet that is not whole, or not one of ours; fragments have a stage.
#[inline(always)]
pub(crate) fn skipped<A, T: Tables<A>>(tables: &T, skip: Skip, stage: Stage) -> Verdict<A>
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
pub(crate) fn pass<A, P, T>(packet: &P, network: usize, tables: &T) -> Verdict<A>
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
