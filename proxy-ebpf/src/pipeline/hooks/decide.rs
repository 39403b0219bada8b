//! Verdicts for packets that are not translated.

use crate::layout::{Counter, Edge, FrontendKey, Stage};
use crate::pipeline::answer::is_rejected;
use crate::pipeline::context::Context;
use crate::pipeline::flow::plain::{answer_key, is_noted, may_be_endpoint, may_begin};
use crate::pipeline::packet::{Headers, IpVersion, Packet, Skip};
use crate::pipeline::service::frontend::{find_frontend, unassigned_service_address};
use crate::pipeline::tables::Tables;
use crate::pipeline::verdict::{Client, Verdict};

/// The verdict for a packet of no flow: to a frontend it creates one; others are rejected,
/// dropped or passed.
#[inline(always)]
pub(crate) fn on_flow_miss<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    client: Client,
) -> Verdict<A> {
    let address = &headers.tuple.destination;
    let mut key = FrontendKey::new(*address, headers.tuple.destination_port, headers.protocol);
    if find_frontend(&mut key, address, client, tables).is_some() {
        return Verdict::Continue(Stage::Open);
    }
    on_no_frontend(headers, tables, client)
}

/// The verdict for a packet of no flow and to no frontend.
#[inline(always)]
pub(crate) fn on_no_frontend<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    client: Client,
) -> Verdict<A> {
    let address = &headers.tuple.destination;
    if let Some(reason) = unassigned_service_address(address, tables) {
        tables.count(reason);
        return reject_or_drop(reason);
    }
    // What leaves has been looked at where it came in; what this host has sent itself, netfilter and
    // its sockets know.
    if client == Client::Host {
        return Verdict::Pass;
    }
    pass_plain(headers, tables)
}

/// Lets a packet pass that nobody translates. If it begins a connection to an endpoint, a stage
/// notes the tuple.
#[inline(always)]
pub(crate) fn pass_plain<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
) -> Verdict<A> {
    if !may_begin(headers) || !may_be_endpoint(headers, tables) {
        return Verdict::Pass;
    }
    // With a SYN begins another connection; of the others most belong to one that is known.
    if !headers.is_syn() && is_noted(tables, &answer_key(headers, Edge::Egress)) {
        return Verdict::Pass;
    }
    Verdict::Continue(Stage::NotePlain)
}

/// The verdict for a packet that creates no flow: rejected where no endpoint exists, else
/// dropped, so that the client retries.
#[inline(always)]
pub(crate) fn reject_or_drop<A>(reason: Counter) -> Verdict<A> {
    if is_rejected(reason) {
        Verdict::Refuse(reason)
    } else {
        Verdict::Drop(reason)
    }
}

/// What becomes of a packet that is not whole, or not one of ours; fragments have a stage.
#[inline(always)]
pub(crate) fn skipped<A, T: Tables<A>>(tables: &T, skip: Skip, stage: Stage) -> Verdict<A>
where
    A: IpVersion,
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

impl<A: IpVersion, P: Packet, T: Tables<A>> Context<'_, A, P, T> {
    /// Lets a packet go on that came in and has no ports to look at, unless its destination is
    /// an address that only Services have: nobody would get it.
    #[inline(always)]
    pub(crate) fn pass(&self) -> Verdict<A> {
        self.pass_or(Verdict::Drop(Counter::NoSuchPort))
    }

    /// The same; what becomes of a packet to the ClusterIP of a Service is said.
    #[inline(always)]
    pub(crate) fn pass_or(&self, at_service: Verdict<A>) -> Verdict<A> {
        let reason = self
            .destination()
            .and_then(|it| unassigned_service_address(&it, self.tables));
        let Some(reason) = reason else {
            return Verdict::Pass;
        };
        self.tables.count(reason);
        if reason == Counter::NoSuchPort {
            at_service
        } else {
            Verdict::Drop(reason)
        }
    }

    /// Where the packet goes, of whatever protocol.
    #[inline(always)]
    pub(crate) fn destination(&self) -> Option<A> {
        self.packet
            .read(self.network + A::ADDRESSES + size_of::<A>())
    }
}
