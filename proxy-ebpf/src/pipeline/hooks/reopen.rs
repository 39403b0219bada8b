//! The stage `Reopen`: selects another endpoint for a connection that was translated at its socket,
//! and whose SYN is sent again since the endpoint has not answered.

use crate::layout::{FrontendKey, NewFlow, Stage, backend_flags, new_flow_notes, protocol};
use crate::pipeline::context::Context;
use crate::pipeline::flow::capabilities::MasqueradeSource;
use crate::pipeline::flow::lookup::flow_before;
use crate::pipeline::flow::record::NO_BACKEND;
use crate::pipeline::flow::retry::{end_retried, retry_of};
use crate::pipeline::packet::parse::parse;
use crate::pipeline::packet::{IpVersion, Packet};
use crate::pipeline::service::frontend::find_frontend;
use crate::pipeline::service::pick::pick_again;
use crate::pipeline::tables::Tables;
use crate::pipeline::verdict::{Client, Verdict};
use crate::verifier::{all_ones_if_zero, choose};

impl<A: IpVersion, P: Packet, T: Tables<A>> Context<'_, A, P, T> {
    /// Opens a flow from the endpoint that the client's stack knows to another one of the same
    /// frontend. Where there is none, the SYN goes where it went before. One that begins
    /// another connection passes.
    #[inline(always)]
    pub fn reopen<S: MasqueradeSource<A>>(&mut self, sources: &S) -> Verdict<A> {
        let Ok(headers) = parse::<A, P>(self.packet, self.network) else {
            return Verdict::Pass;
        };
        let Some(retry) = retry_of(&headers, self.tables) else {
            end_retried(&headers, self.tables);
            return match self.client {
                Client::Host => Verdict::Pass,
                Client::Pod | Client::Outside => self.keep_tuple(&headers),
            };
        };
        if self.goes_by_link(retry.backend) {
            return Verdict::Pass;
        }
        let before = flow_before(&headers, self.tables);
        if before.may_go_on {
            self.tables.store_new_flow(&NewFlow {
                notes: new_flow_notes::UNPICKED | new_flow_notes::RETRIED,
                ..NewFlow::default()
            });
            return Verdict::Continue(Stage::Claim);
        }
        let Some(settings) = self.tables.settings() else {
            return Verdict::Pass;
        };
        let mut key = FrontendKey::new(retry.address, retry.port, protocol::TCP);
        let Some(frontend) = find_frontend(&mut key, &retry.address, self.client, self.tables)
        else {
            return Verdict::Pass;
        };
        let is_first = all_ones_if_zero(before.unanswered_by ^ NO_BACKEND);
        let silent = choose(is_first, retry.backend, before.unanswered_by);
        let selector = || self.tables.random();
        // As at the socket: who asks is known by the node's address there.
        let source = settings.node_address;
        let picked = pick_again(
            source,
            self.client,
            &frontend,
            selector,
            silent,
            self.tables,
        );
        match picked {
            Ok((index, backend)) if index != silent => {
                let next = Stage::NoteRetried;
                self.claim_for(&headers, true, sources, (index, &backend), next)
            }
            Ok(_) | Err(_) => Verdict::Pass,
        }
    }

    /// Whether a packet to this endpoint may be addressed to it at the link layer already: from Pod
    /// to Pod by a bridge. It reaches nobody else.
    #[inline(always)]
    fn goes_by_link(&self, endpoint: u32) -> bool {
        self.client != Client::Host
            && !self.packet.is_for_host()
            && self
                .tables
                .backend(endpoint)
                .is_none_or(|it| it.flags & backend_flags::LOCAL != 0)
    }
}
