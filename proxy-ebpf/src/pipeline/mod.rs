//! The packet path and the socket path, at the point where a client's traffic meets this node.
//!
//! [`Context::ingress`] finds the packet's flow, or creates one if its destination is a frontend,
//! and translates the destination (DNAT). Where the reply would not come back by itself it also
//! translates the source (SNAT), and the verdict forwards the packet. [`Context::egress`] does
//! reverse NAT of the replies of the other flows. A hook says in [`HookCapabilities`] what it can do with a
//! packet: XDP passes what it cannot handle to TC.
//!
//! A packet of no Service passes unmodified, and so does a malformed one.
//!
//! The socket path translates at the client's socket: [`on_connect`], [`on_sendmsg`] and the others
//! in `hooks::socket`.
//!
//! The layers, each of which knows only those below it:
//!
//! - `hooks`: entry points for packets and socket calls, one file per hook or stage
//! - `answer`: resets and ICMP errors in place of a packet
//! - `service`: frontends, endpoints, affinity
//! - `flow`: records, their lifetime, owners of translated tuples, translation
//! - `trace`: events for who listens
//! - `context`: a packet and what its whole path knows; hooks and stages are its methods
//! - `tables`, `verdict`: the maps as the pipeline sees them; what the hook does with a packet
//! - `ip`: everything that differs between the IP versions
//! - `packet`: bytes, headers, checksums

mod answer;
mod context;
mod flow;
mod hooks;
mod ip;
mod packet;
mod service;
mod tables;
mod trace;
mod verdict;

pub use crate::verifier::{all_ones_if_zero, barrier_var, choose, hide_offset};
pub use answer::Reason;
pub use context::Context;
pub use flow::capabilities::{AllCapabilities, HookCapabilities, MasqueradeSource};
pub use hooks::{
    Handshake, SockAddr, Socket, SocketTables, SocketVerdict, Syn, Watch, on_bind, on_connect,
    on_getpeername, on_handshake, on_recvmsg, on_release, on_release_udp, on_sendmsg,
};
pub use packet::access::{Packet, PseudoHeader};
pub use packet::checksum::{Delta, TransportChecksum, TupleDelta};
pub use packet::hash::Hash;
pub use packet::headers::{FragmentHeader, Headers, IpHeaderFields, Skip};
pub use packet::icmp::{IcmpMessage, Quote, Quoted};
pub use packet::parse::{ethernet, parse};
pub use packet::version::IpVersion;
#[cfg(any(test, feature = "host"))]
pub use service::seen::{Seen, look_up};
pub use tables::Tables;
pub use verdict::{Client, Verdict};
