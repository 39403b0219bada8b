//! Who a packet's client is, and what the hook does with the packet.

use crate::layout::{Counter, Span, Stage, Tuple};

/// Who a client is: of a packet, who sends through the device at which the program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Client {
    /// This host itself, or whoever is behind its stack: at its sockets, and at egress of uplinks.
    Host,
    /// A pod of this node.
    Pod,
    /// Anybody else.
    Outside,
}

/// What the hook does with the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict<A> {
    /// Continue through the stack, unmodified.
    Pass,
    /// Continue through the stack, translated.
    PassTranslated,
    /// Drop it, for a reason that has been counted.
    Drop(Counter),
    /// Drop it: what there is to tell of it has been told.
    Discard,
    /// Answer it, for a reason that has been counted: nobody else will.
    Refuse(Counter),
    /// Tail-call the program of this stage.
    Continue(Stage),
    /// Receive it again at its ingress device.
    Reinject,
    /// Send it back to where it is from: out of its ingress device or, of this host's own, up its
    /// stack. Its link-layer addresses have been swapped.
    Bounce,
    /// Hand it, translated, to this host's stack as if it came by the route to its source.
    Deliver,
    /// Forward it by a FIB lookup for this tuple, which the packet already has.
    Forward(Tuple<A>),
    /// Encapsulate it with these outer addresses and forward it by a FIB lookup for them;
    /// the destination port is the endpoint's.
    Encapsulate(Tuple<A>),
    /// A decapsulated packet of no flow: a stage creates one to one of these local
    /// endpoints.
    OpenTunnelled(Span),
}
