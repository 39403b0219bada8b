//! Selects a free source port for a flow that cannot keep its client's.

use super::owner::{TupleOwner, tuple_owner};
use crate::layout::{FlowKey, Port, Tuple};
use crate::pipeline::packet::hash::Hash;
use crate::pipeline::packet::verifier::hide_bounds;
use crate::pipeline::packet::{Headers, IpVersion};
use crate::pipeline::tables::Tables;

/// Translated source ports that are tried for one new flow. With three in four ports
/// taken, one new flow in a thousand finds none free.
const PORT_ATTEMPTS: u32 = 24;
/// How many of these are the same whenever the flow is created, so that it finds the port
/// again that it had; the others change with time, for a client that asks again because
/// it found none.
const SAME_ATTEMPTS: u32 = 8;

/// Stands beside a port that a reclaimable flow has.
const RECLAIMABLE: u32 = 1 << 16;

/// Ports of the NAT range in an order that is the flow's own: flows that begin at one
/// port go on to different ones.
pub(crate) struct NatPorts {
    /// Where the first tries begin, and where the last ones do.
    starts: [u32; 2],
    step: u32,
    count: u32,
}

impl NatPorts {
    /// Of the first `count` of `NAT_PORTS`.
    #[inline(always)]
    pub(crate) fn new<A: IpVersion>(count: u32, headers: &Headers<A>, now: u32) -> Self {
        let hash = mix(headers);
        if count <= PORT_ATTEMPTS {
            // A small range is gone through whole.
            return Self {
                starts: [hash & 0xffff; 2],
                step: 1,
                count,
            };
        }
        let step = hash >> 16 | 1;
        Self {
            starts: [hash & 0xffff, now.wrapping_mul(step)],
            step,
            count,
        }
    }

    /// The first that no other flow has, for replies that come under `key` and become
    /// `own`. If there is none, that of a flow that is reclaimable: so a flood of connections
    /// that never open shuts nobody out.
    #[inline(always)]
    pub(crate) fn find<A: IpVersion, T: Tables<A>>(
        &self,
        tables: &T,
        key: &mut FlowKey<A>,
        own: &Tuple<A>,
    ) -> Option<Port> {
        let now = tables.now();
        let [same, later] = self.starts;
        let mut reclaimable = hide_bounds(0, now);
        for attempt in 0..PORT_ATTEMPTS {
            let start = if attempt < SAME_ATTEMPTS { same } else { later };
            let position = start.wrapping_add(attempt.wrapping_mul(self.step));
            let port = tables.nat_port(position.checked_rem(self.count)?)?;
            key.tuple.destination_port = port;
            let Some(other) = tables.find(key) else {
                return Some(port);
            };
            if other.tuple.is(own) {
                return Some(port);
            }
            match tuple_owner(&other, key.protocol, now) {
                TupleOwner::Expired => return Some(port),
                TupleOwner::Reclaimable => reclaimable = u32::from(port.raw()) | RECLAIMABLE,
                TupleOwner::Closing | TupleOwner::Live => {}
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "the port, without the bit")]
        let port = Port::new(u16::from_be(reclaimable as u16));
        (reclaimable != 0).then_some(port)
    }
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
