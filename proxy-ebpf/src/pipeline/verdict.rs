//! Whose packet it is, and what becomes of it.

use crate::layout::{Span, Stage, Tuple};

/// Who a client is: of a packet, who sends through the device at which the program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Client {
    /// This host itself; only at its sockets.
    Host,
    /// A pod of this node.
    Pod,
    /// Anybody else.
    Outside,
}

/// What the hook shall do with the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict<A> {
    /// Let it go on through the stack, as it came.
    Pass,
    /// Let it go on through the stack, translated.
    Deliver,
    /// Drop it; the reason has been counted.
    Drop,
    /// Let the program of this part of the pipeline go on with it.
    Continue(Stage),
    /// Let it come in again at the device that it came from.
    Again,
    /// Send it out again through the device that it came from; its link-layer
    /// addresses have been swapped.
    Return,
    /// Send it on by a FIB lookup for this tuple, which the packet now has.
    Forward(Tuple<A>),
    /// Send it to an endpoint's node in a tunnel with these ends, by a FIB lookup for them;
    /// the destination port is the endpoint's.
    Encapsulate(Tuple<A>),
    /// It came in a tunnel, and opens a flow to one of these endpoints of this node; a stage
    /// goes on with it.
    OpenTunnelled(Span),
}
