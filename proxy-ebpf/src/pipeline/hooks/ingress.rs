//! Ingress of an edge device: translates packets to frontends, and replies that come back here.

use super::decide::{on_flow_miss, pass_plain, reject_or_drop, skipped};
use crate::layout::{Counter, FilterBits, Stage};
use crate::pipeline::context::Context;
use crate::pipeline::flow::capabilities::HookCapabilities;
use crate::pipeline::flow::lookup::find_flow;
use crate::pipeline::packet::parse::parse;
use crate::pipeline::packet::{Headers, IpVersion, Packet, Skip};
use crate::pipeline::service::frontend::is_in_service_cidr;
use crate::pipeline::tables::Tables;
use crate::pipeline::verdict::{Client, Verdict};

impl<A: IpVersion, P: Packet, T: Tables<A>> Context<'_, A, P, T> {
    /// Translates a packet of IP version `A` that came in, with its IP header at
    /// `network`, where `capabilities` has a way for it then. What opens a flow, and whatever else is
    /// seldom, is the business of a stage.
    #[inline(always)]
    pub fn ingress<O: HookCapabilities<A>>(&mut self, capabilities: &mut O) -> Verdict<A> {
        let headers = match parse::<A, P>(self.packet, self.network) {
            Ok(headers) => headers,
            // The hook behind this one comes to the same, and has the stages.
            Err(_) if O::HAS_NEXT_HOOK => return Verdict::Pass,
            Err(Skip::Encapsulated) if self.client == Client::Outside => {
                return Verdict::Continue(Stage::Decapsulate);
            }
            Err(skip) => {
                return match skipped(self.tables, skip, Stage::Fragment) {
                    Verdict::Pass => self.pass(),
                    verdict => verdict,
                };
            }
        };
        if headers.protocol == A::ICMP {
            return Verdict::Continue(Stage::IngressError);
        }
        if !self
            .tables
            .filter_matches(FilterBits::of_destination(&headers.tuple.destination))
        {
            return if O::HAS_NEXT_HOOK {
                Verdict::Pass
            } else {
                on_filter_miss(&headers, self.tables)
            };
        }
        if !capabilities.is_for_this_host() {
            return Verdict::Pass;
        }
        match find_flow(&headers, self.tables, capabilities) {
            Ok(Some(translation)) if translation.is_deferred => Verdict::Pass,
            Ok(Some(translation)) => self.translate(&headers, &translation),
            Ok(None) | Err(_) if O::HAS_NEXT_HOOK => Verdict::Pass,
            Ok(None) => on_flow_miss(&headers, self.tables, self.client),
            Err(reason) => {
                self.tables.count(reason);
                reject_or_drop(reason)
            }
        }
    }
}

/// What becomes of a packet to an address that no Service has, nor this node.
#[inline(always)]
fn on_filter_miss<A: IpVersion, T: Tables<A>>(headers: &Headers<A>, tables: &T) -> Verdict<A> {
    if is_in_service_cidr(&headers.tuple.destination, tables) {
        tables.count(Counter::NoSuchService);
        return Verdict::Drop(Counter::NoSuchService);
    }
    pass_plain(headers, tables)
}
