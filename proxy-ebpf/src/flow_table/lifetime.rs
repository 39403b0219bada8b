//! How long a record stays valid without packets, and which one is given up for another.

use crate::layout::{Timeouts, flow_flags, ticks};
use crate::verifier::hide_bounds;

/// An association of SCTP: three heartbeats and more may get lost. As netfilter has it
/// (`nf_conntrack_sctp_timeout_established`, since Linux 6.2).
const SCTP_TIMEOUT: u32 = ticks::from_seconds(210);

/// An unestablished flow of TCP or SCTP: `nf_conntrack_tcp_timeout_syn_recv`.
const HANDSHAKE_TIMEOUT: u32 = ticks::from_seconds(60);

/// A connection that was reset: `nf_conntrack_tcp_timeout_close`.
const RESET_TIMEOUT: u32 = ticks::from_seconds(10);

/// A connection that nobody here translates and whose endpoint has sent a FIN:
/// `nf_conntrack_tcp_timeout_fin_wait`.
const PLAIN_FIN_TIMEOUT: u32 = ticks::from_seconds(120);

/// An established connection that was silent for this long gives way where a bucket has no
/// other record to give.
const TCP_SPARE_AFTER: u32 = ticks::from_seconds(60 * 60);

/// How long the endpoint of a connection may remember it that both sides have closed:
/// `nf_conntrack_tcp_timeout_time_wait`, twice what Linux has for sockets (`TCP_TIMEWAIT_LEN`).
const TIME_WAIT: u32 = ticks::from_seconds(120);

/// Both sides' FINs.
pub const BOTH_FINS: u32 = flow_flags::FIN | flow_flags::CLIENT_FIN;

const BOTH_ACKNOWLEDGED: u32 = flow_flags::FIN_ACKNOWLEDGED | flow_flags::CLIENT_FIN_ACKNOWLEDGED;

const PROTOCOL: u32 = flow_flags::TCP | flow_flags::SCTP;

/// How gladly a record is given up that is over: at least so.
pub(super) const OVER: u32 = 1 << 31;

impl Timeouts {
    /// kube-proxy's `tcpEstablishedTimeout` and `tcpCloseWaitTimeout`
    /// (`pkg/proxy/apis/config/v1alpha1/defaults.go`). Of UDP twice what netfilter has
    /// (`nf_conntrack_udp_timeout`, 30 s, and `nf_conntrack_udp_timeout_stream`, 120 s): a flow
    /// that the node's own tracking still knows is never lost here.
    pub const DEFAULT: Self = Self {
        tcp_established: ticks::from_seconds(24 * 60 * 60),
        tcp_close_wait: ticks::from_seconds(60 * 60),
        udp: ticks::from_seconds(60),
        udp_stream: ticks::from_seconds(240),
    };

    /// How many ticks after its last packet a flow with these flags is over.
    #[inline(always)]
    fn of(&self, flags: u32) -> u32 {
        if flags & flow_flags::CLOSED != 0 {
            return 0;
        }
        self.idle(flags).saturating_add(1)
    }

    /// How long a flow with these flags may be without packets.
    #[inline(always)]
    fn idle(&self, flags: u32) -> u32 {
        if flags & flow_flags::RESET != 0 {
            return RESET_TIMEOUT;
        }
        if flags & PROTOCOL == 0 {
            return if flags & flow_flags::EMBRYONIC == 0 {
                self.udp_stream
            } else {
                self.udp
            };
        }
        if flags & flow_flags::EMBRYONIC != 0 {
            return HANDSHAKE_TIMEOUT;
        }
        if flags & flow_flags::PLAIN != 0 && flags & BOTH_FINS != 0 {
            return PLAIN_FIN_TIMEOUT;
        }
        if flags & flow_flags::SCTP != 0 {
            return SCTP_TIMEOUT;
        }
        let is_half_closed = flags & BOTH_ACKNOWLEDGED != 0
            || (flags & flow_flags::DSR != 0 && flags & BOTH_FINS != 0);
        if is_half_closed {
            self.tcp_close_wait
        } else {
            self.tcp_established
        }
    }

    /// Whether a record is over that was used this long ago.
    #[inline(always)]
    pub fn is_over(&self, flags: u32, idle: u32) -> bool {
        // Of one kind as of the other: the verifier would follow each to the end.
        let timeout = hide_bounds(self.of(hide_bounds(flags, idle)), idle);
        // One that is closed has no time at all.
        idle.wrapping_add(1) > timeout
    }

    /// Ticks until a record is over that was used this long ago.
    pub fn left(&self, flags: u32, idle: u32) -> u32 {
        self.of(flags).saturating_sub(idle)
    }

    /// Whether another flow can have the translated tuple of one that was used this long ago: it
    /// is over, and its endpoint has forgotten it. A SYN to a socket in TIME-WAIT may be taken for
    /// a late segment, by its timestamp (RFC 7323, section 5), and be lost.
    #[inline(always)]
    pub fn is_forgotten(&self, flags: u32, idle: u32) -> bool {
        if flags & flow_flags::CLOSED == 0 {
            self.is_over(flags, idle)
        } else {
            idle > TIME_WAIT
        }
    }

    /// How gladly a record is given up for a new one: 0 for not at all. First what is over; then
    /// unestablished flows, of each kind the longest idle one first; then flows of UDP, which find their
    /// endpoint again; then the replies of flows that are being made; then established
    /// connections that were silent for long. UDP does not push
    /// out TCP, and what nobody translates only its own kind. Of those that are as old the one
    /// whose turn it is.
    #[inline(always)]
    pub(super) fn spare(&self, flags: u32, idle: u32, newcomer: u32, turn: u32) -> u32 {
        const UNESTABLISHED: u32 = 1 << 30;
        const UDP: u32 = 1 << 29;
        const BEING_MADE: u32 = 1 << 28;
        const TURN: u32 = 3;
        const LONGEST: u32 = (BEING_MADE >> TURN) - 1;
        // The other record of whose flow may be the very one that needs room.
        const UNANSWERED: u32 = flow_flags::REPLY | flow_flags::EMBRYONIC;
        // Of a short time as of a long one: the verifier would follow both to the end.
        let longest = hide_bounds(if idle > LONGEST { LONGEST } else { idle }, turn);
        let age = longest << TURN | turn;
        if self.is_over(flags, idle) {
            return OVER | age;
        }
        let is_plain = flags & flow_flags::PLAIN != 0;
        let is_weaker = (flags & PROTOCOL != 0 && newcomer & PROTOCOL == 0)
            || newcomer & flow_flags::PLAIN != 0;
        if is_weaker && !is_plain {
            return 0;
        }
        if flags & (UNANSWERED | flow_flags::SEEN_REPLY) == UNANSWERED && idle == 0 {
            BEING_MADE | age
        } else if is_plain || flags & (flow_flags::EMBRYONIC | flow_flags::RESET) != 0 {
            UNESTABLISHED | age
        } else if flags & PROTOCOL == 0 {
            UDP | age
        } else if idle > TCP_SPARE_AFTER {
            age
        } else {
            0
        }
    }
}

/// Ticks since a record was used. Another CPU may have written a later time than this one's
/// `now`.
#[inline(always)]
pub fn idle(last_seen: u32, now: u32) -> u32 {
    let idle = now.wrapping_sub(last_seen);
    if idle > u32::MAX / 2 { 0 } else { idle }
}
