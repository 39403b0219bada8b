//! What a hook can do with a translated packet: pass, bounce or forward it.

use crate::layout::{Tuple, flow_flags};
use crate::pipeline::packet::Headers;

/// What a hook can do with a translated packet. It is asked before the packet is changed:
/// what it cannot handle passes unmodified to the next hook.
pub trait HookCapabilities<A> {
    /// Whether another of our hooks sees what this one passes unmodified. That one counts the
    /// packet, and forwards the first packet of a flow through the stack, which resolves the
    /// neighbour.
    const HAS_NEXT_HOOK: bool;

    /// Whether the frame is for this host: it may be a neighbour's, where an uplink gets all.
    fn is_for_this_host(&mut self) -> bool;

    /// Whether the packet can go on through the stack, translated.
    fn can_pass(&mut self) -> bool;

    /// Whether it can be sent out by the device that it came from.
    fn can_bounce(&mut self) -> bool;

    /// Whether it can be sent to where `to` leads.
    fn can_forward(&mut self, headers: &Headers<A>, to: &Tuple<A>) -> bool;
}

/// Which address of this node a flow's packets get that are sent on.
pub trait MasqueradeSource<A> {
    /// This node's address on the device by which the packets of `client` leave for
    /// `endpoint`; `None` where the node's own serves.
    fn source(&self, client: &A, endpoint: &A) -> Option<&A>;
}

/// The capabilities of the last hook: it must handle everything.
#[derive(Clone, Copy, Debug)]
pub struct AllCapabilities;

impl<A> HookCapabilities<A> for AllCapabilities {
    const HAS_NEXT_HOOK: bool = false;

    #[inline(always)]
    fn is_for_this_host(&mut self) -> bool {
        true
    }

    #[inline(always)]
    fn can_pass(&mut self) -> bool {
        true
    }

    #[inline(always)]
    fn can_bounce(&mut self) -> bool {
        true
    }

    #[inline(always)]
    fn can_forward(&mut self, _: &Headers<A>, _: &Tuple<A>) -> bool {
        true
    }
}

/// Whether the hook can do all that the flow asks for, with a packet that may be the
/// flow's first in its direction.
#[inline(always)]
pub(crate) fn can_handle<A, O: HookCapabilities<A>>(
    capabilities: &mut O,
    headers: &Headers<A>,
    (tuple, flags): (&Tuple<A>, u32),
    is_first: bool,
) -> bool {
    if flags & flow_flags::REDIRECT == 0 {
        return capabilities.can_pass();
    }
    let is_direct = flags & flow_flags::DSR != 0;
    let is_to_stack = flags & flow_flags::HOST_CLIENT != 0;
    if O::HAS_NEXT_HOOK && (headers.ttl <= 1 || is_first || is_direct || is_to_stack) {
        return false;
    }
    if flags & flow_flags::HAIRPIN == 0 {
        capabilities.can_forward(headers, tuple)
    } else {
        capabilities.can_bounce()
    }
}
