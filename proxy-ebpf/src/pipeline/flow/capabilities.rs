//! What a hook can do with a packet once that is translated.

use crate::layout::{Flow, Tuple, flow_flags};
use crate::pipeline::packet::Headers;

/// What a hook can do with a packet that is to be translated. It is asked before
/// anything in the packet changes: what it cannot finish it passes on as it came, to
/// the hook behind it.
pub trait Onward<A> {
    /// Whether another of our hooks sees what this one passes on as it came. Then that
    /// one counts it, and sends the first packet of a flow on: by the stack, which finds
    /// out where the next hop is, and whether it is still there.
    const HAS_NEXT: bool;

    /// Whether the packet can go on through the stack, translated.
    fn can_pass(&mut self) -> bool;

    /// Whether it can be sent out by the device that it came from.
    fn can_return(&mut self) -> bool;

    /// Whether it can be sent to where `to` leads.
    fn can_forward(&mut self, headers: &Headers<A>, to: &Tuple<A>) -> bool;
}

/// Which address of this node a flow's packets get that are sent on.
pub trait Sources<A> {
    /// This node's address on the device by which the packets of `client` leave for
    /// `endpoint`; `None` where the node's own serves.
    fn source(&self, client: &A, endpoint: &A) -> Option<&A>;
}

/// The ways from a hook that is the last one: all, or the packet is lost. What it sends
/// on has the node's own address.
#[derive(Clone, Copy, Debug)]
pub struct EveryWay;

impl<A> Onward<A> for EveryWay {
    const HAS_NEXT: bool = false;

    #[inline(always)]
    fn can_pass(&mut self) -> bool {
        true
    }

    #[inline(always)]
    fn can_return(&mut self) -> bool {
        true
    }

    #[inline(always)]
    fn can_forward(&mut self, _: &Headers<A>, _: &Tuple<A>) -> bool {
        true
    }
}

impl<A> Sources<A> for EveryWay {
    #[inline(always)]
    fn source(&self, _: &A, _: &A) -> Option<&A> {
        None
    }
}

/// Whether the hook can do all that the flow asks for, with a packet that may be the
/// flow's first in its direction.
#[inline(always)]
pub(crate) fn can_finish<A, O: Onward<A>>(
    onward: &mut O,
    headers: &Headers<A>,
    flow: &Flow<A>,
    is_first: bool,
) -> bool {
    if flow.flags() & flow_flags::REDIRECT == 0 {
        return onward.can_pass();
    }
    let is_direct = flow.flags() & flow_flags::DSR != 0;
    if O::HAS_NEXT && (headers.ttl <= 1 || is_first || is_direct) {
        return false;
    }
    if flow.flags() & flow_flags::HAIRPIN == 0 {
        onward.can_forward(headers, &flow.tuple)
    } else {
        onward.can_return()
    }
}
