//! Applies a flow's translation to a packet, and returns the verdict.

use super::record::Translation;
use crate::layout::{Counter, Stage, Tuple, flow_flags};
use crate::pipeline::context::Context;
use crate::pipeline::packet::rewrite::{rewrite, set_ttl, swap_link_addresses};
use crate::pipeline::packet::{Headers, IpVersion, Packet};
use crate::pipeline::tables::Tables;
use crate::pipeline::verdict::Verdict;
use crate::verifier::hide_bounds;

impl<A: IpVersion, P: Packet, T: Tables<A>> Context<'_, A, P, T> {
    /// Writes the translation into the packet and says where it goes.
    #[inline(always)]
    pub(crate) fn translate(
        &mut self,
        headers: &Headers<A>,
        translation: &Translation<A>,
    ) -> Verdict<A> {
        let tuple = &translation.tuple;
        // The verifier would follow each way by which they were found.
        let flags = hide_bounds(translation.flags, headers.any());
        let mut headers = *headers;
        headers.hide_protocol();
        let headers = &headers;
        if flags & (flow_flags::NETFILTER | flow_flags::PLAIN) != 0 {
            return Verdict::Pass;
        }
        if is_ttl_exceeded(headers, self.tables, flags) {
            return Verdict::Continue(Stage::Expire);
        }
        let done = if flags & flow_flags::DSR == 0 {
            rewrite(self.packet, headers, tuple)
        } else {
            Some(())
        };
        self.forward_verdict(headers, flags, done.map(|()| *tuple))
    }

    /// The verdict for a packet after its rewrite to this tuple (with DSR: the tunnel's addresses);
    /// `None` says that the rewrite failed.
    #[inline(always)]
    pub(crate) fn forward_verdict(
        &mut self,
        headers: &Headers<A>,
        flags: u32,
        tuple: Option<Tuple<A>>,
    ) -> Verdict<A> {
        let is_sent_on = is_sent_on(flags);
        let mut done = tuple.map(|_| ());
        if is_sent_on && done.is_some() {
            // As whoever sends a self.packet on has to (RFC 1812, section 5.3.1).
            done = set_ttl(self.packet, headers, headers.ttl.saturating_sub(1));
            if flags & flow_flags::HAIRPIN != 0 && done.is_some() {
                done = swap_link_addresses(self.packet, headers);
            }
        }
        let (Some(tuple), Some(())) = (tuple, done) else {
            self.tables.count(Counter::RewriteFailed);
            return Verdict::Drop(Counter::RewriteFailed);
        };
        if !is_sent_on {
            if flags & flow_flags::REDIRECT == 0 {
                Verdict::PassTranslated
            } else {
                Verdict::Deliver
            }
        } else if flags & flow_flags::HAIRPIN != 0 {
            Verdict::Bounce
        } else if flags & flow_flags::DSR != 0 {
            Verdict::Encapsulate(tuple)
        } else {
            Verdict::Forward(tuple)
        }
    }
}

/// Whether packets of a record with these flags leave this node at once: others go up its stack.
#[inline(always)]
fn is_sent_on(flags: u32) -> bool {
    const TO_STACK: u32 = flow_flags::HOST_CLIENT | flow_flags::REPLY;
    flags & flow_flags::REDIRECT != 0 && flags & TO_STACK != TO_STACK
}

/// Whether the packet would have to be sent on, and must not any more.
#[inline(always)]
pub(crate) fn is_ttl_exceeded<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    flags: u32,
) -> bool {
    let is_over = is_sent_on(flags) && headers.ttl <= 1;
    if is_over {
        tables.count(Counter::Unroutable);
    }
    is_over
}
