//! What happens to a packet at the edge where its client meets this node.
//!
//! [`ingress()`] finds the packet's flow, or opens one if its destination is a
//! frontend, and translates the destination (DNAT); where the reply would not
//! come back this way by itself it also translates the source (SNAT) and asks
//! the hook to send the packet on. [`egress()`] gives the replies of the other
//! flows the frontend's address back. A hook says in [`HookCapabilities`] what it can do with
//! a packet, so that an early one leaves the rest to the next.
//!
//! A packet that is not for us, or that is malformed, leaves untouched.
//!
//! The same frontends are served earlier still, at the client's socket: [`on_connect`],
//! [`on_sendmsg`] and their like in `hooks::socket`.
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
mod context;
mod flow;
mod hooks;
mod ip;
mod packet;
mod service;
mod tables;
mod verdict;

pub use answer::Reason;
pub use context::Context;
pub use flow::capabilities::{AllCapabilities, HookCapabilities, MasqueradeSource};
pub use hooks::{
    SockAddr, Socket, SocketTables, SocketVerdict, on_bind, on_connect, on_getpeername, on_recvmsg,
    on_release, on_release_udp, on_sendmsg,
};
pub use packet::access::{ChecksumScope, Packet};
pub use packet::checksum::Delta;
pub use packet::hash::Hash;
pub use packet::headers::{FragmentHeader, Headers, IpHeaderFields, Skip};
pub use packet::icmp::{IcmpMessage, Quote, Quoted};
pub use packet::parse::{ethernet, parse};
pub use packet::verifier::hide_offset;
pub use packet::version::IpVersion;
pub use tables::{InsertError, InsertMode, Tables};
pub use verdict::{Client, Verdict};
