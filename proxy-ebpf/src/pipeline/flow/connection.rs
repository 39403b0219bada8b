//! The state of a connection: a pure function of its segments.
//!
//! In the spirit of RFC 5961 nothing is believed of whoever does not know the connection's
//! numbers: an RST counts where its sequence number is the one that the other end expects next,
//! a FIN once the other end has acknowledged it, and the handshake only where both numbers fit.
//! Whoever only knows the tuple can end nothing and move nothing.
//!
//! SCTP has no such numbers here; all are 0, and fit.

use crate::flow_table::BOTH_FINS;
use crate::layout::{Flow, flow_flags};
use crate::pipeline::packet::headers::{Numbers, tcp_flags};

/// What is known of a connection, in the record of its replies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Connection {
    /// Bits of [`flow_flags`].
    pub flags: u32,
    /// [`Flow::ends`], of the client and of the endpoint.
    pub ends: [u32; 2],
}

/// A segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Segment {
    /// Its flags, as they are in TCP's header.
    pub flags: u8,
    /// Its numbers.
    pub numbers: Numbers,
    /// The sequence number that the other end expects, by the last acknowledgment seen of it.
    pub expected: u32,
}

/// One of the two ends.
#[derive(Clone, Copy)]
struct End {
    /// Its place in [`Connection::ends`].
    own: usize,
    other: usize,
    fin: u32,
    fin_acknowledged: u32,
    other_fin: u32,
    other_fin_acknowledged: u32,
}

const CLIENT: End = End {
    own: 0,
    other: 1,
    fin: flow_flags::CLIENT_FIN,
    fin_acknowledged: flow_flags::CLIENT_FIN_ACKNOWLEDGED,
    other_fin: flow_flags::FIN,
    other_fin_acknowledged: flow_flags::FIN_ACKNOWLEDGED,
};

const ENDPOINT: End = End {
    own: 1,
    other: 0,
    fin: flow_flags::FIN,
    fin_acknowledged: flow_flags::FIN_ACKNOWLEDGED,
    other_fin: flow_flags::CLIENT_FIN,
    other_fin_acknowledged: flow_flags::CLIENT_FIN_ACKNOWLEDGED,
};

const BOTH_ACKNOWLEDGED: u32 = flow_flags::FIN_ACKNOWLEDGED | flow_flags::CLIENT_FIN_ACKNOWLEDGED;

/// Of a connection with one of these, each segment may change its state.
pub(crate) const STATEFUL: u32 = flow_flags::EMBRYONIC | BOTH_FINS | flow_flags::RESET;

/// What an acknowledgment may exceed the end of a SYN by: data that came with it or right
/// after it, at most ten long segments (RFC 7413 and RFC 6928).
const EARLY_DATA: u32 = 1 << 17;

impl Segment {
    #[inline(always)]
    const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

impl Connection {
    /// As the record of a flow's replies has it.
    #[inline(always)]
    pub(crate) fn of<A>(reply: &Flow<A>, flags: u32) -> Self {
        let [client, endpoint] = &reply.ends;
        Self {
            flags,
            ends: [client.get(), endpoint.get()],
        }
    }

    /// Takes a segment of the client.
    #[inline(always)]
    #[must_use]
    pub(crate) fn on_client(mut self, segment: &Segment) -> Self {
        if segment.flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN {
            // Sent again, or the client's next try; or somebody else's: an answer that has come
            // before stays one.
            if self.is_embryonic() {
                self.ends[0] = segment.numbers.next;
            }
            return self;
        }
        if segment.has(tcp_flags::RST) {
            let own = if self.is_embryonic() {
                self.ends[0]
            } else {
                segment.expected
            };
            return self.reset_if(segment.numbers.sequence == own);
        }
        if self.is_embryonic() {
            let is_answer =
                self.flags & flow_flags::SEEN_REPLY != 0 && is_acknowledged(segment, self.ends[1]);
            if !is_answer {
                return self;
            }
            // A reset before that was somebody else's.
            self.flags &= !(flow_flags::EMBRYONIC | flow_flags::RESET);
        }
        self.close(segment, CLIENT)
    }

    /// Takes a segment of the endpoint; `None` where it does not belong to the connection: as
    /// long as the endpoint has not answered, only an answer to the client's SYN does.
    #[inline(always)]
    #[must_use]
    pub(crate) fn on_endpoint(mut self, segment: &Segment) -> Option<Self> {
        let is_syn_ack =
            segment.flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN | tcp_flags::ACK;
        let is_answer = is_acknowledged(segment, self.ends[0]);
        if segment.has(tcp_flags::RST) {
            let is_seen = self.flags & flow_flags::SEEN_REPLY != 0;
            if self.is_embryonic() && !is_seen {
                return is_answer.then(|| self.reset_if(true));
            }
            let own = if self.is_embryonic() {
                self.ends[1]
            } else {
                segment.expected
            };
            let is_refused = self.is_embryonic() && is_answer;
            return Some(self.reset_if(is_refused || segment.numbers.sequence == own));
        }
        if !self.is_embryonic() {
            return Some(self.close(segment, ENDPOINT));
        }
        if is_syn_ack && is_answer {
            self.ends[1] = segment.numbers.next;
            self.flags |= flow_flags::SEEN_REPLY;
        }
        (self.flags & flow_flags::SEEN_REPLY != 0).then_some(self)
    }

    #[inline(always)]
    const fn is_embryonic(&self) -> bool {
        self.flags & flow_flags::EMBRYONIC != 0
    }

    #[inline(always)]
    const fn reset_if(mut self, is_valid: bool) -> Self {
        if is_valid {
            self.flags |= flow_flags::RESET;
        }
        self
    }

    /// Takes what a segment of an established connection's end says about FINs.
    #[inline(always)]
    fn close(mut self, segment: &Segment, end: End) -> Self {
        let Numbers {
            sequence,
            acknowledgment,
            next,
        } = segment.numbers;
        let has_fin = self.flags & end.fin != 0;
        // Nothing follows a FIN: that one was somebody else's.
        if has_fin && sequence.wrapping_sub(self.ends[end.own]).cast_signed() > 0 {
            self.flags &= !(end.fin | end.fin_acknowledged);
        }
        if segment.has(tcp_flags::FIN) {
            if self.ends[end.own] != next {
                self.flags &= !end.fin_acknowledged;
            }
            self.ends[end.own] = next;
            self.flags |= end.fin;
        }
        if self.flags & end.other_fin != 0 && acknowledgment == self.ends[end.other] {
            self.flags |= end.other_fin_acknowledged;
        }
        if self.flags & BOTH_ACKNOWLEDGED == BOTH_ACKNOWLEDGED {
            self.flags |= flow_flags::CLOSED;
        }
        self
    }
}

/// Whether the segment acknowledges a SYN that ends at `end`.
#[inline(always)]
fn is_acknowledged(segment: &Segment, end: u32) -> bool {
    segment.numbers.acknowledgment.wrapping_sub(end) < EARLY_DATA
}

#[cfg(test)]
mod tests;
