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
//! [`send`] and their like in `hooks::socket`.
//!
//! The layers, each of which knows only those below it:
//!
//! - `hooks`: packets and sockets come in; one file a hook or a stage
//! - `answer`: resets and ICMP errors in place of a packet
//! - `service`: frontends, endpoints, affinity
//! - `flow`: records, their life, whose a translated tuple is, translation
//! - `ip`: all that differs between the IP versions
//! - `packet`: bytes, headers, checksums
//!
//! `tables` are the maps as all of them see these; `verdict` is what they come to.

mod answer;
mod flow;
mod hooks;
mod ip;
mod packet;
mod service;
mod tables;
mod verdict;

pub use answer::{Reason, answer, expire, refuse};
pub use flow::capabilities::{EveryWay, Onward, Sources};
pub use hooks::{
    End, Reach, Socket, Sockets, bind, connect, decapsulate, egress, egress_error, egress_fragment,
    encapsulate, forget, forget_flow, hear, ingress, ingress_error, ingress_fragment, open,
    open_direct, open_tunnelled, reveal, send, tunnel_error,
};
pub use packet::access::{Covers, Packet};
pub use packet::checksum::Delta;
pub use packet::hash::Hash;
pub use packet::headers::{Headers, Network, Part, Skip};
pub use packet::icmp::{Message, Quote, Quoted};
pub use packet::parse::{ethernet, parse};
pub use packet::verifier::hide_offset;
pub use packet::version::Version;
pub use tables::{Make, MakeError, Tables};
pub use verdict::{Client, Verdict};
