//! The stage `Open`: selects the endpoint of a flow to a frontend, and its source address.

use super::decide::{on_no_frontend, reject_or_drop};
use crate::layout::{
    Backend, Counter, FrontendKey, NewFlow, Settings, Stage, backend_flags, flow_flags,
    frontend_flags, new_flow_notes, protocol, settings_flags,
};
use crate::pipeline::context::Context;
use crate::pipeline::flow::capabilities::MasqueradeSource;
use crate::pipeline::flow::lookup::flow_before;
use crate::pipeline::flow::record::new_flow;
use crate::pipeline::packet::parse::parse_or_first_fragment;
use crate::pipeline::packet::{Headers, IpVersion, Packet};
use crate::pipeline::service::frontend::find_frontend;
use crate::pipeline::service::pick::{endpoint_selector, pick};
use crate::pipeline::service::source::{is_martian, is_own_address};
use crate::pipeline::tables::Tables;
use crate::pipeline::verdict::{Client, Verdict};
use crate::verifier::barrier_var;

impl<A: IpVersion, P: Packet, T: Tables<A>> Context<'_, A, P, T> {
    /// Opens a flow for a packet that belongs to none, or for a first fragment.
    #[inline(always)]
    pub fn open<S: MasqueradeSource<A>>(&mut self, sources: &S) -> Verdict<A> {
        let Some((headers, is_whole)) = parse_or_first_fragment::<A, P>(self.packet, self.network)
        else {
            return Verdict::Pass;
        };
        let address = &headers.tuple.destination;
        let mut key = FrontendKey::new(*address, headers.tuple.destination_port, headers.protocol);
        let Some(frontend) = find_frontend(&mut key, address, self.client, self.tables) else {
            // It has gone since the hook looked.
            return on_no_frontend(&headers, self.tables, self.client);
        };
        if frontend.flags & frontend_flags::LEFT_TO_HOST != 0 {
            return Verdict::Pass;
        }
        if is_martian(&headers.tuple, self.client, self.tables) {
            self.tables.count(Counter::MartianSource);
            return Verdict::Drop(Counter::MartianSource);
        }
        let before = flow_before(&headers, self.tables);
        if before.may_go_on {
            self.tables.store_new_flow(&NewFlow {
                notes: new_flow_notes::UNPICKED,
                ..NewFlow::default()
            });
            return Verdict::Continue(Stage::Claim);
        }
        if self.client == Client::Outside && frontend.flags & frontend_flags::DSR != 0 {
            return Verdict::Continue(Stage::OpenDirect);
        }
        let selector = || endpoint_selector(&headers, &frontend, self.tables);
        let source = headers.tuple.source;
        let except = before.unanswered_by;
        let picked = pick(
            source,
            self.client,
            &frontend,
            selector,
            except,
            self.tables,
        );
        let (index, backend) = match picked {
            Ok(picked) => picked,
            Err(reason) => return self.refuse_or_drop(&headers, is_whole, reason),
        };
        let endpoint = (index, &backend);
        self.claim_for(&headers, is_whole, sources, endpoint, Stage::Claim)
    }

    /// Leaves a flow to an endpoint, with its index, to the next stage, at last the one that makes the
    /// flow's records.
    #[inline(always)]
    pub(crate) fn claim_for<S: MasqueradeSource<A>>(
        &mut self,
        headers: &Headers<A>,
        is_whole: bool,
        sources: &S,
        (index, backend): (u32, &Backend<A>),
        next: Stage,
    ) -> Verdict<A> {
        let Some(settings) = self.tables.settings() else {
            return Verdict::Discard;
        };
        let flags = flow_flags_for(headers, backend, settings, self.client);
        let mut flow = new_flow(headers, index, backend, flags);
        if flags & flow_flags::REDIRECT != 0 {
            set_source(&mut flow, headers, self.tables, settings, sources);
            if flow.tuple.source == A::default() {
                return self.refuse_or_drop(headers, is_whole, Counter::Unroutable);
            }
        }
        self.tables.store_new_flow(&flow);
        Verdict::Continue(next)
    }

    /// What becomes of a packet that opens no flow, for this reason.
    #[inline(always)]
    pub(crate) fn refuse_or_drop(
        &self,
        headers: &Headers<A>,
        is_whole: bool,
        reason: Counter,
    ) -> Verdict<A> {
        self.tables.count(reason);
        // A reset is not made of a part.
        if !is_whole && headers.protocol == protocol::TCP {
            return Verdict::Drop(reason);
        }
        reject_or_drop(reason)
    }
}

/// Gives a flow whose packets are sent on an address of this node: that of the device by
/// which they leave, as the other end knows whoever comes from there. To a hairpin's own
/// Pod they go back without a look at routes. What goes from this host to itself has the
/// frontend's: its stack takes none from outside that has its own.
#[inline(always)]
fn set_source<A: IpVersion, T: Tables<A>, S: MasqueradeSource<A>>(
    flow: &mut NewFlow<A>,
    headers: &Headers<A>,
    tables: &T,
    settings: &Settings<A>,
    sources: &S,
) {
    let (from, to) = (&headers.tuple.source, &flow.tuple.destination);
    let found = if flow.flags & flow_flags::HAIRPIN != 0 {
        None
    } else if flow.flags & flow_flags::HOST_CLIENT != 0 && is_own_address(to, tables) {
        Some(&headers.tuple.destination)
    } else {
        sources.source(from, to)
    };
    flow.tuple.source = barrier_var(*found.unwrap_or(&settings.node_address));
}

/// How the flow's packets travel: by the stack, or sent on with this node's
/// address because the reply would not pass here otherwise.
#[inline(always)]
fn flow_flags_for<A: IpVersion>(
    headers: &Headers<A>,
    backend: &Backend<A>,
    settings: &Settings<A>,
    client: Client,
) -> u32 {
    if client == Client::Host {
        return flow_flags::REDIRECT | flow_flags::HOST_CLIENT;
    }
    if backend.address == headers.tuple.source {
        return flow_flags::REDIRECT | flow_flags::HAIRPIN;
    }
    let is_remote = backend.flags & backend_flags::LOCAL == 0;
    let masquerades_all = settings.flags & settings_flags::MASQUERADE_ALL != 0;
    if masquerades_all || (client == Client::Outside && is_remote) {
        return flow_flags::REDIRECT;
    }
    0
}
