//! One end of a connection, by RFC 9293: it sends again what is not acknowledged, and takes in
//! what comes in order.

use super::tcp_flags::{ACK, FIN, RST, SYN};

/// A segment on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wire {
    pub(super) flags: u8,
    pub(super) sequence: u32,
    pub(super) acknowledgment: u32,
    /// Of its data.
    pub(super) length: u32,
}

impl Wire {
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// What follows it.
    pub(super) fn next(&self) -> u32 {
        let flags = [SYN, FIN].map(|flag| u32::from(self.has(flag)));
        self.sequence
            .wrapping_add(self.length)
            .wrapping_add(flags[0] + flags[1])
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Listen,
    SynSent,
    SynReceived,
    Established,
    /// It knows nothing any more.
    Gone,
}

/// One end of a connection.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "what has happened to it")]
pub(super) struct Host {
    state: State,
    /// What it has sent and nobody has acknowledged.
    unacknowledged: Vec<Wire>,
    /// `SND.UNA`, `SND.NXT` and `RCV.NXT`.
    una: u32,
    next: u32,
    expected: u32,
    has_sent_fin: bool,
    /// Whether the other end has sent its last.
    pub(super) has_peers_fin: bool,
    /// Whether it has been established.
    pub(super) was_established: bool,
    /// Whether it has given the connection up.
    pub(super) has_aborted: bool,
}

impl Host {
    /// An end that waits, whose first sequence number is this one.
    pub(super) fn new(first: u32) -> Self {
        Self {
            state: State::Listen,
            unacknowledged: Vec::new(),
            una: first,
            next: first,
            expected: 0,
            has_sent_fin: false,
            has_peers_fin: false,
            was_established: false,
            has_aborted: false,
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.state != State::Listen
    }

    /// Asks for a connection.
    pub(super) fn connect(&mut self) -> Wire {
        self.state = State::SynSent;
        self.emit(SYN, 0)
    }

    /// Sends data, if it is established and has not closed.
    pub(super) fn send(&mut self, length: u32) -> Option<Wire> {
        self.can_send().then(|| self.emit(ACK, length))
    }

    /// Sends its FIN.
    pub(super) fn close(&mut self) -> Option<Wire> {
        self.can_send().then(|| {
            self.has_sent_fin = true;
            self.emit(FIN | ACK, 0)
        })
    }

    /// Gives up.
    pub(super) fn abort(&mut self) -> Wire {
        self.state = State::Gone;
        self.has_aborted = true;
        self.unacknowledged.clear();
        self.segment(RST | ACK, self.next, 0)
    }

    /// Sends one of its segments again, as it would be now.
    pub(super) fn send_again(&self, which: usize) -> Option<Wire> {
        let count = self.unacknowledged.len();
        let wire = self.unacknowledged.get(which % count.max(1))?;
        Some(Wire {
            acknowledgment: if wire.has(ACK) { self.expected } else { 0 },
            ..*wire
        })
    }

    pub(super) fn all_unacknowledged(&self) -> usize {
        self.unacknowledged.len()
    }

    /// Whether both ends' data has come to its end.
    pub(super) fn is_closed(&self) -> bool {
        self.has_sent_fin && self.has_peers_fin && self.unacknowledged.is_empty()
    }

    /// Takes a segment; its answer.
    pub(super) fn receive(&mut self, wire: &Wire) -> Option<Wire> {
        match self.state {
            State::Listen if wire.flags == SYN => {
                self.state = State::SynReceived;
                self.expected = wire.next();
                Some(self.emit(SYN | ACK, 0))
            }
            State::SynSent => self.receive_in_syn_sent(wire),
            State::Gone if wire.flags & (ACK | RST) == ACK => {
                Some(self.segment(RST, wire.acknowledgment, 0))
            }
            State::Listen | State::Gone => None,
            State::SynReceived | State::Established => self.receive_in_order(wire),
        }
    }

    fn receive_in_syn_sent(&mut self, wire: &Wire) -> Option<Wire> {
        let is_answer = wire.has(ACK) && wire.acknowledgment == self.next;
        if !is_answer {
            return None;
        }
        if wire.has(RST) {
            self.state = State::Gone;
            return None;
        }
        wire.has(SYN).then(|| {
            self.expected = wire.next();
            self.take_acknowledgment(wire.acknowledgment);
            self.establish();
            self.segment(ACK, self.next, 0)
        })
    }

    fn receive_in_order(&mut self, wire: &Wire) -> Option<Wire> {
        let told = Some(self.segment(ACK, self.next, 0));
        if wire.flags == SYN && wire.next() == self.expected && self.state == State::SynReceived {
            return self.send_again(0);
        }
        if wire.has(SYN) || wire.sequence != self.expected {
            // What says nothing is not answered, or two ends would go on forever.
            let is_answered = !wire.has(RST) && wire.next() != wire.sequence;
            return told.filter(|_| is_answered);
        }
        if wire.has(RST) {
            self.state = State::Gone;
            self.unacknowledged.clear();
            return None;
        }
        let acknowledged = wire.acknowledgment.wrapping_sub(self.una);
        if !wire.has(ACK) || acknowledged > self.next.wrapping_sub(self.una) {
            return None;
        }
        self.take_acknowledgment(wire.acknowledgment);
        if self.state == State::SynReceived {
            if acknowledged == 0 {
                return None;
            }
            self.establish();
        }
        if wire.next() == wire.sequence {
            return None;
        }
        self.expected = wire.next();
        self.has_peers_fin |= wire.has(FIN);
        Some(self.segment(ACK, self.next, 0))
    }

    fn can_send(&self) -> bool {
        self.state == State::Established && !self.has_sent_fin
    }

    fn establish(&mut self) {
        self.state = State::Established;
        self.was_established = true;
    }

    fn take_acknowledgment(&mut self, number: u32) {
        self.una = number;
        self.unacknowledged
            .retain(|wire| number.wrapping_sub(wire.next()).cast_signed() < 0);
    }

    fn emit(&mut self, flags: u8, length: u32) -> Wire {
        let wire = self.segment(flags, self.next, length);
        self.next = wire.next();
        self.unacknowledged.push(wire);
        wire
    }

    fn segment(&self, flags: u8, sequence: u32, length: u32) -> Wire {
        Wire {
            flags,
            sequence,
            acknowledgment: if flags & ACK == 0 { 0 } else { self.expected },
            length,
        }
    }
}
