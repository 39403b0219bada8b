//! How long records stay valid without packets, by protocol and state of the flow.

use crate::layout::{Flow, flow_flags, protocol, ticks};

/// A UDP flow without packets for this long is over. Twice as long as a stream
/// of UDP is remembered by netfilter (`nf_conntrack_udp_timeout_stream`, 120 s):
/// a flow that the node's own tracking still knows is never lost here.
const UDP_TIMEOUT: u32 = ticks::from_seconds(240);

/// kube-proxy's `tcpEstablishedTimeout`.
const TCP_TIMEOUT: u32 = ticks::from_seconds(24 * 60 * 60);

/// An association of SCTP: three heartbeats and more may get lost. As netfilter has it
/// (`nf_conntrack_sctp_timeout_established`, since Linux 6.2).
const SCTP_TIMEOUT: u32 = ticks::from_seconds(210);

/// A flow that is opening: `nf_conntrack_tcp_timeout_syn_recv`, and twice
/// `nf_conntrack_udp_timeout`.
pub(crate) const EMBRYONIC_TIMEOUT: u32 = ticks::from_seconds(60);

/// Whether the record was used within its protocol's timeout. FIN and RST do not count: until
/// the tuple is claimed, late packets are still translated.
#[inline(always)]
pub(crate) fn is_fresh<A>(flow: &Flow<A>, protocol: u8, now: u32) -> bool {
    let timeout = if flow.flags() & flow_flags::EMBRYONIC != 0 {
        EMBRYONIC_TIMEOUT
    } else {
        established_timeout(protocol)
    };
    idle(flow, now) <= timeout
}

/// How long an open flow may be without packets.
#[inline(always)]
pub(crate) fn established_timeout(protocol: u8) -> u32 {
    match protocol {
        protocol::TCP => TCP_TIMEOUT,
        protocol::SCTP => SCTP_TIMEOUT,
        _ => UDP_TIMEOUT,
    }
}

/// Ticks since the record was used. Another CPU may have written a later time than
/// this one's `now`.
#[inline(always)]
pub(crate) fn idle<A>(flow: &Flow<A>, now: u32) -> u32 {
    let idle = now.wrapping_sub(flow.last_seen.get());
    if idle > u32::MAX / 2 { 0 } else { idle }
}
