//! Which source port a flow gets that cannot keep its client's.

use super::owner::{Holder, holder};
use crate::layout::{FlowKey, Port, Tuple};
use crate::pipeline::packet::hash::Hash;
use crate::pipeline::packet::verifier::veil;
use crate::pipeline::packet::{Headers, Version};
use crate::pipeline::tables::Tables;

/// Translated source ports that are tried for one new flow. With three in four ports
/// taken, one new flow in a thousand finds none free.
const PORT_ATTEMPTS: u32 = 24;
/// How many of these are the same whenever the flow is opened, so that it finds the port
/// again that it had; the others change with time, for a client that asks again because
/// it found none.
const SAME_ATTEMPTS: u32 = 8;

/// Stands beside a port that a weak flow has.
const WEAK: u32 = 1 << 16;

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
    pub(crate) fn new<A: Version>(count: u32, headers: &Headers<A>, now: u32) -> Self {
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
    /// `own`. If there is none, that of a flow that is weak: so a flood of connections
    /// that never open shuts nobody out.
    #[inline(always)]
    pub(crate) fn find<A: Version, T: Tables<A>>(
        &self,
        tables: &T,
        key: &mut FlowKey<A>,
        own: &Tuple<A>,
    ) -> Option<Port> {
        let now = tables.now();
        let [same, later] = self.starts;
        let mut weak = veil(0, now);
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
            match holder(&other, key.protocol, now) {
                Holder::Over => return Some(port),
                Holder::Weak => weak = u32::from(port.raw()) | WEAK,
                Holder::Closing | Holder::Live => {}
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "the port, without the bit")]
        let port = Port::new(u16::from_be(weak as u16));
        (weak != 0).then_some(port)
    }
}

/// A number that spreads flows over the NAT range, of the client's end and the
/// frontend's port.
#[inline(always)]
fn mix<A: Version>(headers: &Headers<A>) -> u32 {
    let ports = u32::from(headers.tuple.source_port.raw()) << 16
        | u32::from(headers.tuple.destination_port.raw());
    let mut hash = Hash::new(0).word(ports);
    for word in headers.tuple.source.words() {
        hash = hash.word(*word);
    }
    hash.finish()
}
