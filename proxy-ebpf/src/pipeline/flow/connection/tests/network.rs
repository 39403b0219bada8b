//! Two ends, and the way between them with the state that is tried in its middle.

use super::*;

pub(super) const CLIENT: usize = 0;
pub(super) const ENDPOINT: usize = 1;

/// A segment on its way.
#[derive(Clone, Copy, Debug)]
struct Flight {
    from: usize,
    /// Whether it is past the middle.
    is_past: bool,
    wire: Wire,
}

/// Two ends, and what is under way.
#[derive(Debug)]
pub(super) struct Network {
    hosts: [Host; 2],
    /// The first numbers of both ends, and those that were made up.
    known: Vec<u32>,
    flights: Vec<Flight>,
    /// The state, once the client's first SYN has come by.
    connection: Option<Connection>,
    /// What each end has acknowledged in its last segment that came by.
    acknowledged: [u32; 2],
}

impl Network {
    /// A client that asks for a connection, with the first sequence numbers of both ends.
    pub(super) fn new(firsts: [u32; 2]) -> Self {
        let mut network = Self {
            hosts: firsts.map(Host::new),
            known: firsts.to_vec(),
            flights: Vec::new(),
            connection: None,
            acknowledged: [0; 2],
        };
        let syn = network.hosts[CLIENT].connect();
        network.put(CLIENT, Some(syn));
        network
    }

    /// Whether a number does not come near one that is known: it would be seen, or guessed.
    pub(super) fn is_far(&self, number: u32) -> bool {
        let far = |it: &u32| number.wrapping_sub(*it).cast_signed().unsigned_abs() > 1 << 22;
        self.known.iter().all(far)
    }

    /// Whether a number can be one that nobody has used before; now it is known.
    pub(super) fn make_up(&mut self, number: u32) -> Option<u32> {
        let is_far = self.is_far(number);
        self.known.push(number);
        is_far.then_some(number)
    }

    pub(super) fn flags(&self) -> u32 {
        self.connection.map_or(EMBRYONIC, |it| it.flags)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.hosts.iter().all(Host::is_closed)
    }

    /// A segment takes the next half of its way.
    pub(super) fn deliver(&mut self, which: u8) {
        let Some(at) = self.index(which) else { return };
        let mut flight = self.flights.remove(at);
        if flight.is_past {
            let to = 1 - flight.from;
            let answer = self.hosts[to].receive(&flight.wire);
            self.put(to, answer);
        } else if self.comes_by(flight.from, &flight.wire) {
            flight.is_past = true;
            self.flights.push(flight);
        }
    }

    pub(super) fn lose(&mut self, which: u8) {
        if let Some(at) = self.index(which) {
            self.flights.remove(at);
        }
    }

    pub(super) fn lose_rest(&mut self) {
        self.flights.clear();
    }

    pub(super) fn duplicate(&mut self, which: u8) {
        if let Some(at) = self.index(which) {
            self.flights.push(self.flights[at]);
        }
    }

    pub(super) fn send(&mut self, side: usize, length: u32) {
        let wire = self.hosts[side].send(length);
        self.put(side, wire);
    }

    pub(super) fn send_again(&mut self, side: usize, which: u8) {
        let wire = self.hosts[side].send_again(which.into());
        self.put(side, wire);
    }

    pub(super) fn close(&mut self, side: usize) {
        let wire = self.hosts[side].close();
        self.put(side, wire);
    }

    pub(super) fn abort(&mut self, side: usize) {
        let wire = self.hosts[side].abort();
        self.put(side, Some(wire));
    }

    /// A segment that seems to be of this side comes to the middle. An end that has not begun
    /// does not get it.
    pub(super) fn forge(&mut self, side: usize, wire: Wire) {
        if self.hosts[1 - side].has_begun() {
            self.put(side, Some(wire));
        } else {
            self.comes_by(side, &wire);
        }
    }

    /// What was sent last.
    pub(super) fn last(&self) -> Wire {
        self.flights.last().expect("something is under way").wire
    }

    /// All that is under way comes by the middle, and stays there.
    pub(super) fn pass_by(&mut self) {
        for flight in std::mem::take(&mut self.flights) {
            self.comes_by(flight.from, &flight.wire);
        }
    }

    /// All is delivered, and sent again until both ends have what the other has sent.
    pub(super) fn settle(&mut self) {
        for _ in 0..100 {
            while !self.flights.is_empty() {
                self.deliver(0);
            }
            for side in [CLIENT, ENDPOINT] {
                for which in 0..self.hosts[side].all_unacknowledged() {
                    let wire = self.hosts[side].send_again(which);
                    self.put(side, wire);
                }
            }
            if self.flights.is_empty() {
                return;
            }
        }
        panic!("it does not settle: {self:?}");
    }

    /// Both ends close.
    pub(super) fn come_to_rest(&mut self) {
        self.settle();
        for side in [CLIENT, ENDPOINT] {
            self.close(side);
        }
        self.settle();
    }

    /// The state is not ahead of the ends.
    pub(super) fn check(&self) {
        let flags = self.flags();
        let [client, endpoint] = &self.hosts;
        if flags & EMBRYONIC == 0 {
            assert!(client.was_established, "{self:?}");
        }
        if flags & CLOSED != 0 {
            assert!(client.has_peers_fin && endpoint.has_peers_fin, "{self:?}");
        }
        // Before it is established a reset is taken back by the handshake.
        if flags & (RESET | EMBRYONIC) == RESET {
            assert!(client.has_aborted || endpoint.has_aborted, "{self:?}");
        }
    }

    fn index(&self, which: u8) -> Option<usize> {
        match (self.flights.len(), which) {
            (0, _) => None,
            (count, u8::MAX) => Some(count - 1),
            (count, which) => Some(usize::from(which) % count),
        }
    }

    fn put(&mut self, from: usize, wire: Option<Wire>) {
        self.flights.extend(wire.map(|wire| Flight {
            from,
            is_past: false,
            wire,
        }));
    }

    /// Takes a segment in the middle, as the pipeline does; false if it goes no further.
    fn comes_by(&mut self, from: usize, wire: &Wire) -> bool {
        let segment = Segment {
            flags: wire.flags,
            numbers: Numbers {
                sequence: wire.sequence,
                acknowledgment: wire.acknowledgment,
                // A SYN's data does not count.
                next: if wire.has(SYN) {
                    wire.sequence.wrapping_add(1)
                } else {
                    wire.next()
                },
            },
            expected: self.acknowledged[1 - from],
        };
        let Some(before) = self.connection else {
            if from != CLIENT || wire.flags != SYN {
                return false;
            }
            self.connection = Some(Connection {
                flags: EMBRYONIC | flow_flags::TCP,
                ends: [segment.numbers.next, 0],
            });
            return true;
        };
        let after = if from == CLIENT {
            before.on_client(&segment)
        } else {
            match before.on_endpoint(&segment) {
                Some(mut after) => {
                    after.flags |= flow_flags::SEEN_REPLY;
                    after
                }
                None => return false,
            }
        };
        self.connection = Some(after);
        if wire.has(ACK) {
            self.acknowledged[from] = wire.acknowledgment;
        }
        true
    }
}
