//! Selects a free source port for a flow that cannot keep its client's.

use super::claim::is_reclaimable;
use super::record::reply_key;
use crate::flow_table::opaque;
use crate::layout::{NewFlow, Port, new_flow_notes};
use crate::pipeline::packet::hash::Hash;
use crate::pipeline::packet::{Headers, IpVersion};
use crate::pipeline::tables::Tables;
use crate::verifier::barrier_var;

/// Translated source ports that are tried for one new flow. With three in four ports
/// taken, one new flow in a thousand finds none free.
const PORT_ATTEMPTS: u32 = 24;
/// How many of them one run of the program tries: the verifier walks through each.
const ATTEMPTS_AT_ONCE: usize = 4;
/// How many of all are the same whenever the flow is created, so that it finds the port
/// again that it had; the others change with time, for a client that asks again because
/// it found none.
const SAME_ATTEMPTS: u32 = 8;

/// Stands beside a port that a reclaimable flow has.
const RECLAIMABLE: u32 = 1 << 16;

/// Ports of the NAT range in an order that is the flow's own: flows that begin at one
/// port go on to different ones.
pub(crate) struct NatPorts {
    /// The lower half: where the first tries begin; the upper one: the step between two, made odd.
    hash: u32,
    /// Where the last tries begin.
    later: u32,
    count: u32,
}

impl NatPorts {
    /// Of the first `count` of `NAT_PORTS`.
    #[inline(always)]
    pub(crate) fn new<A: IpVersion>(count: u32, headers: &Headers<A>, now: u32) -> Self {
        let hash = mix(headers);
        if count <= PORT_ATTEMPTS {
            // A small range is gone through whole.
            let start = hash & 0xffff;
            return Self {
                hash: start,
                later: start,
                count,
            };
        }
        Self {
            hash,
            later: now.wrapping_mul(hash >> 16 | 1),
            count,
        }
    }

    /// The position of a try, if there are any.
    #[inline(always)]
    fn position(&self, attempt: u32) -> Option<u32> {
        let start = if attempt < SAME_ATTEMPTS {
            self.hash & 0xffff
        } else {
            self.later
        };
        let step = self.hash >> 16 | 1;
        start
            .wrapping_add(attempt.wrapping_mul(step))
            .checked_rem(self.count)
    }

    /// Tries the next few: the first that no other flow has, or has had a short while ago, is the
    /// flow's. If at last there is none, that of a flow that is reclaimable: so a flood of
    /// connections that never open shuts nobody out.
    #[inline(always)]
    pub(crate) fn try_some<A: IpVersion, T: Tables<A>>(
        &self,
        tables: &T,
        headers: &Headers<A>,
        flow: &mut NewFlow<A>,
    ) -> Option<Selection> {
        let now = tables.now();
        let timeouts = tables.timeouts();
        // In memory as it is, and not unrolled: else it takes more stack than a program has.
        let tuple = barrier_var(&headers.tuple);
        let mut left = opaque::<ATTEMPTS_AT_ONCE>();
        while left > 0 {
            let attempt = flow.port_attempts;
            flow.port_attempts = attempt.wrapping_add(1);
            let port = tables.nat_port(self.position(attempt)?)?;
            let mut key = reply_key(&flow.tuple, flow.flags, headers.protocol);
            key.ports[1] = port;
            let is_free = match tables.find(&key) {
                None => true,
                Some(other) => {
                    if is_reclaimable(other.flags()) {
                        flow.reclaimable_port = u32::from(port.raw()) | RECLAIMABLE;
                    }
                    other.tuple.answers(tuple)
                        || timeouts.is_forgotten(other.flags(), other.idle(now))
                }
            };
            if is_free {
                flow.tuple.source_port = port;
                flow.notes |= new_flow_notes::HAS_PORT;
                return Some(Selection::Done);
            }
            left -= 1;
        }
        if flow.port_attempts < PORT_ATTEMPTS {
            return Some(Selection::Unfinished);
        }
        if flow.reclaimable_port == 0 {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "the port, without the bit")]
        let port = Port::new(u16::from_be(flow.reclaimable_port as u16));
        flow.tuple.source_port = port;
        flow.notes |= new_flow_notes::HAS_PORT | new_flow_notes::RECLAIMS;
        Some(Selection::Done)
    }
}

/// How far the selection of a source port is.
#[derive(Clone, Copy)]
pub(crate) enum Selection {
    /// The flow has one.
    Done,
    /// There are others to be tried.
    Unfinished,
}

/// A number that spreads flows over the NAT range, of the client's end and the
/// frontend's port.
#[inline(always)]
fn mix<A: IpVersion>(headers: &Headers<A>) -> u32 {
    let ports = u32::from(headers.tuple.source_port.raw()) << 16
        | u32::from(headers.tuple.destination_port.raw());
    let mut hash = Hash::new(0).word(ports);
    for word in headers.tuple.source.words() {
        hash = hash.word(*word);
    }
    hash.finish()
}
