//! Direct server return (DSR), at the node that receives the client's packet.
//!
//! A local endpoint is served as usual. For a remote one the packet is encapsulated unmodified,
//! and the endpoint's node answers the client directly. Such a flow has one record, whose
//! tuple is that of the tunnel.

use crate::layout::{
    Backend, Counter, FrontendKey, Settings, Stage, backend_flags, flow_flags, settings_flags,
};
use crate::pipeline::context::Context;
use crate::pipeline::flow::capabilities::MasqueradeSource;
use crate::pipeline::flow::record::{NO_BACKEND, new_flow};
use crate::pipeline::packet::parse::parse_or_first_fragment;
use crate::pipeline::packet::{Headers, IpVersion, Packet};
use crate::pipeline::service::frontend::find_frontend;
use crate::pipeline::service::pick::{endpoint_selector, pick};
use crate::pipeline::tables::Tables;
use crate::pipeline::verdict::{Client, Verdict};

impl<A: IpVersion, P: Packet, T: Tables<A>> Context<'_, A, P, T> {
    /// Opens a flow for a packet from outside to a frontend with direct return, and has the
    /// packet go on.
    #[inline(always)]
    pub fn open_direct<S: MasqueradeSource<A>>(&mut self, sources: &S) -> Verdict<A> {
        let Some((headers, is_whole)) = parse_or_first_fragment::<A, P>(self.packet, self.network)
        else {
            return Verdict::Pass;
        };
        // Fragments are mostly as long as the client's way takes, and too long for a tunnel.
        let can_encapsulate = is_whole && A::can_encapsulate(&headers);
        let address = &headers.tuple.destination;
        let mut key = FrontendKey::new(*address, headers.tuple.destination_port, headers.protocol);
        let Some(frontend) = find_frontend(&mut key, address, Client::Outside, self.tables) else {
            return Verdict::Pass;
        };
        let client = Client::Outside;
        let selector = || endpoint_selector(&headers, &frontend, self.tables);
        let picked = pick(
            headers.tuple.source,
            client,
            &frontend,
            selector,
            NO_BACKEND,
            self.tables,
        );
        let (index, backend) = match picked {
            Ok(picked) => picked,
            Err(reason) => return self.refuse_or_drop(&headers, is_whole, reason),
        };
        let Some(settings) = self.tables.settings() else {
            return Verdict::Discard;
        };
        if !can_encapsulate || !is_direct(&headers, &backend, settings) {
            return self.claim_for(&headers, is_whole, sources, (index, &backend), Stage::Claim);
        }
        // By its own address the endpoint's node knows a NodePort.
        let is_node_port = key.address == A::default();
        let source = if is_node_port {
            headers.tuple.destination
        } else {
            settings.node_address
        };
        if source == A::default() {
            return self.refuse_or_drop(&headers, is_whole, Counter::Unroutable);
        }
        let flags = flow_flags::REDIRECT | flow_flags::DSR;
        let mut flow = new_flow(&headers, index, &backend, flags);
        flow.tuple.source = source;
        self.tables.store_new_flow(&flow);
        Verdict::Continue(Stage::Claim)
    }
}

/// Whether the endpoint is to answer the client itself.
#[inline(always)]
fn is_direct<A: IpVersion>(
    headers: &Headers<A>,
    backend: &Backend<A>,
    settings: &Settings<A>,
) -> bool {
    backend.flags & backend_flags::LOCAL == 0
        && settings.flags & settings_flags::MASQUERADE_ALL == 0
        && backend.address != headers.tuple.source
}
