//! How long a flow's records live without packets.

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
pub(crate) const OPENING_TIMEOUT: u32 = ticks::from_seconds(60);

/// Whether the record was used within its protocol's timeout. How a connection ends
/// does not count: while its place is not needed, what comes late goes where the
/// rest went.
#[inline(always)]
pub(crate) fn is_fresh<A>(flow: &Flow<A>, protocol: u8, now: u32) -> bool {
    let timeout = if flow.flags() & flow_flags::OPENING != 0 {
        OPENING_TIMEOUT
    } else {
        open_timeout(protocol)
    };
    idle(flow, now) <= timeout
}

/// How long an open flow may be without packets.
#[inline(always)]
pub(crate) fn open_timeout(protocol: u8) -> u32 {
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
    let idle = now.wrapping_sub(flow.seen.get());
    if idle > u32::MAX / 2 { 0 } else { idle }
}
