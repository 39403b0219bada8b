//! What happens to a packet at the edge where its client meets this node.
//!
//! [`ingress()`] finds the packet's flow, or opens one if its destination is a
//! frontend, and translates the destination (DNAT); where the reply would not
//! come back this way by itself it also translates the source (SNAT) and asks
//! the hook to send the packet on. [`egress()`] gives the replies of the other
//! flows the frontend's address back. A hook says in [`Onward`] what it can do with
//! a packet, so that an early one leaves the rest to the next.
//!
//! A packet that is not for us, or that is malformed, leaves untouched.
//!
//! The same frontends are served earlier still, at the client's socket: [`connect`],
//! [`send`] and their like in `socket`.

mod checksum;
mod crc32c;
mod decapsulate;
mod direct;
mod egress;
mod flow;
mod fragment;
mod frontend;
mod hash;
mod headers;
mod icmp;
mod ingress;
mod onward;
mod open;
mod packet;
mod pick;
mod quote;
mod reject;
mod rewrite;
mod sctp;
mod socket;
mod source_port;
mod tables;
mod traffic;
mod tunnel;
mod tunnel_error;
mod verifier;

pub use checksum::Delta;
pub use decapsulate::{decapsulate, open_tunnelled};
pub use direct::open_direct;
pub use egress::egress;
pub use fragment::{Fragments, Part, egress_fragment, ingress_fragment};
pub use hash::Hash;
pub use headers::{Headers, Skip, Version, ethernet, parse};
pub use icmp::{Icmp, Quote, egress_error, ingress_error};
pub use ingress::ingress;
pub use onward::{EveryWay, Onward, Sources};
pub use open::open;
pub use packet::{Covers, Packet};
pub use quote::{Message, Quoted, WriteError};
pub use reject::{expire, refuse, too_big, too_big_for_tunnel};
pub use socket::{
    End, Reach, Socket, Sockets, bind, connect, forget, forget_flow, hear, reveal, send,
};
pub use tables::{Make, MakeError, Tables};
pub use tunnel::{Tunnel, encapsulate};
pub use tunnel_error::tunnel_error;
pub use verifier::hide_offset;

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
