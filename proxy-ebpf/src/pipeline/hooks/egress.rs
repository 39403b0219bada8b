//! Egress of an edge device: reverse NAT of replies; at uplinks also the second chance of what
//! leaves for a Service, and nobody has translated: of the host's sockets it has no hook, or of a
//! Pod whose device has no programs yet.

use super::decide::{on_flow_miss, reject_or_drop, skipped};
use crate::layout::{Counter, FilterBits, Stage, Tuple, flow_flags, settings_flags};
use crate::pipeline::context::Context;
use crate::pipeline::flow::capabilities::AllCapabilities;
use crate::pipeline::flow::lookup::{find_flow, find_reply, is_expired};
use crate::pipeline::flow::plain::{may_be_endpoint, may_begin};
use crate::pipeline::flow::record::client_key;
use crate::pipeline::packet::parse::parse;
use crate::pipeline::packet::rewrite::rewrite;
use crate::pipeline::packet::{Headers, IpVersion, Packet};
use crate::pipeline::service::frontend::is_from_frontend;
use crate::pipeline::tables::Tables;
use crate::pipeline::verdict::{Client, Verdict};

impl<A: IpVersion, P: Packet, T: Tables<A>> Context<'_, A, P, T> {
    /// Translates a reply of IP version `A` that goes out to its client, with its IP
    /// header at `network`.
    #[inline(always)]
    pub fn egress(&mut self) -> Verdict<A> {
        let headers = match parse::<A, P>(self.packet, self.network) {
            Ok(headers) => headers,
            Err(skip) => {
                return match skipped(self.tables, skip, Stage::EgressFragment) {
                    Verdict::Pass => self.leave_unparsed(),
                    verdict => verdict,
                };
            }
        };
        if headers.protocol == A::ICMP {
            return Verdict::Continue(Stage::EgressError);
        }
        let Tuple {
            source,
            source_port,
            ..
        } = &headers.tuple;
        if !self
            .tables
            .filter_matches(FilterBits::of_source(source, *source_port))
        {
            return self.leave(&headers.tuple.destination);
        }
        let Some(tuple) = find_reply(&headers, self.tables) else {
            return if may_begin(&headers) && is_from_frontend(&headers, self.tables) {
                Verdict::Continue(Stage::NoteOutgoing)
            } else {
                self.leave(&headers.tuple.destination)
            };
        };
        if rewrite(self.packet, &headers, &tuple).is_none() {
            self.tables.count(Counter::RewriteFailed);
            return Verdict::Drop(Counter::RewriteFailed);
        }
        self.leave_translated(Verdict::PassTranslated)
    }

    /// Lets a translated reply leave, by the uplink of its frontend: where the host routes by source
    /// addresses it has come to that of the endpoint.
    #[inline(always)]
    pub(crate) fn leave_translated(&self, here: Verdict<A>) -> Verdict<A> {
        if self.client != Client::Host {
            return here;
        }
        let flags = self.tables.settings().map_or(0, |settings| settings.flags);
        if flags & settings_flags::ROUTES_BY_SOURCE != 0 {
            Verdict::Continue(Stage::Reroute)
        } else {
            here
        }
    }

    /// Lets a packet leave, unless it may be this host's own to a Service.
    #[inline(always)]
    pub(crate) fn leave(&self, destination: &A) -> Verdict<A> {
        if self.client == Client::Host
            && self
                .tables
                .filter_matches(FilterBits::of_destination(destination))
        {
            Verdict::Continue(Stage::FromHost)
        } else {
            Verdict::Pass
        }
    }

    /// The same for a packet of another protocol, or malformed.
    #[inline(always)]
    pub(crate) fn leave_unparsed(&self) -> Verdict<A> {
        match self.destination() {
            Some(destination) => self.leave(&destination),
            None => Verdict::Pass,
        }
    }

    /// The stage that translates what leaves this host for a Service, like what comes in from a
    /// client. It is sent on from here, with an address of this node, and what comes back goes up
    /// the stack: see [`flow_flags::HOST_CLIENT`].
    #[inline(always)]
    pub fn from_host(&mut self) -> Verdict<A> {
        let headers = match parse::<A, P>(self.packet, self.network) {
            Ok(headers) => headers,
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
        if is_of_other_clients(&headers, self.tables) {
            return Verdict::Pass;
        }
        match find_flow(&headers, self.tables, &mut AllCapabilities) {
            Ok(Some(translation)) => self.translate(&headers, &translation),
            Ok(None) => match on_flow_miss(&headers, self.tables, self.client) {
                Verdict::Pass if headers.is_syn() && may_be_endpoint(&headers, self.tables) => {
                    Verdict::Continue(Stage::Reopen)
                }
                verdict => verdict,
            },
            Err(reason) => {
                self.tables.count(reason);
                reject_or_drop(reason)
            }
        }
    }
}

/// Whether a flow that was translated where its client's packets come in has the packet's tuple: that
/// of another flow's packets after their translation, or one that nobody translates.
#[inline(always)]
fn is_of_other_clients<A: IpVersion, T: Tables<A>>(headers: &Headers<A>, tables: &T) -> bool {
    tables.find(&client_key(headers)).is_some_and(|flow| {
        flow.flags() & flow_flags::HOST_CLIENT == 0 && !is_expired(tables, &flow, tables.now())
    })
}
