//! A node in memory, in the terms of `proxy_tests::packets`.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use proxy_tests::lab::Family;
use proxy_tests::packets::{Hook, Packet, Scenario, address, chunks, tcp_flags};

pub(super) use super::maps::FromIp;
use super::maps::maps;
use crate::host::{self, Action, Frame, Link, Memory, Shared};
use crate::layout::{
    Address, Counter, Edge, FlowKey, Liveness, Port, Span, Timeouts, Tuple, V4, V6, backend_flags,
    frontend_flags, liveness_state, settings_flags, ticks,
};
use crate::pipeline::{Client, Tables as _};

/// UDP's number in an IP header.
pub(super) const UDP: u8 = 17;
/// SCTP's.
const SCTP: u8 = 132;

/// A node in memory.
pub(super) struct World {
    pub(super) v4: Memory<V4>,
    pub(super) v6: Memory<V6>,
    pub(super) shared: Rc<Shared>,
}

/// The key of a flow's record.
pub(super) fn flow_key<A: FromIp>(
    (source, destination): (SocketAddr, SocketAddr),
    protocol: u8,
    edge: Edge,
) -> FlowKey<A> {
    let tuple = Tuple {
        source: A::from_ip(source.ip()).unwrap(),
        destination: A::from_ip(destination.ip()).unwrap(),
        source_port: Port::new(source.port()),
        destination_port: Port::new(destination.port()),
    };
    FlowKey::new(tuple, protocol, edge)
}

/// Writes a set behind all others, with a gap.
fn span(shared: &Shared, set: &[usize]) -> Span {
    let mut slots = shared.slots.borrow_mut();
    let start = slots.last_key_value().map_or(7, |(last, _)| last + 3);
    let indices = set.iter().map(|&it| u32::try_from(it).unwrap());
    slots.extend((start..).zip(indices));
    let len = u32::try_from(set.len()).unwrap();
    Span { start, len }
}

impl World {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let (v4, v6) = maps(scenario);
        let shared = Rc::clone(&v4.shared);
        // Long after boot, so that tests can also look back.
        shared.now.set(1_000_000);
        Self { v4, v6, shared }
    }

    /// Runs a frame through a hook.
    pub(super) fn run(&self, hook: Hook, bytes: &[u8], link: Link) -> (Action, Vec<u8>) {
        let mut frame = Frame(bytes.to_vec());
        let hook = match hook {
            Hook::FromPod => host::Hook::Ingress(Client::Pod),
            Hook::FromOutside => host::Hook::Ingress(Client::Outside),
            Hook::Out => host::Hook::Egress(Client::Outside),
            Hook::FromHost => host::Hook::Egress(Client::Host),
        };
        let action = host::run(&mut frame, hook, link, &self.v4, &self.v6);
        (action, frame.0)
    }

    /// What becomes of a frame that was to be sent on and is longer than `mtu`.
    pub(super) fn too_big(&self, bytes: &[u8], mtu: u16) -> (Action, Vec<u8>) {
        let mut frame = Frame(bytes.to_vec());
        let action = host::run_too_big(&mut frame, Link::Ethernet, mtu, &self.v4, &self.v6);
        (action, frame.0)
    }

    /// Runs a packet through a hook of a device like the one it is made for.
    pub(super) fn send(&self, hook: Hook, packet: &Packet) -> (Action, Vec<u8>) {
        let link = match packet.link {
            Some(_) => Link::Ethernet,
            None => Link::Ip(packet.ether_type()),
        };
        self.run(hook, &packet.build(), link)
    }

    /// The same for a packet that must not be dropped; its addresses afterwards.
    pub(super) fn ends(&self, hook: Hook, packet: &Packet) -> (SocketAddr, SocketAddr) {
        let (action, bytes) = self.send(hook, packet);
        assert_ne!(action, Action::Drop, "{packet:?}");
        packet.endpoints_in(&bytes)
    }

    /// Has a client ask by this packet, an endpoint answer, and the client go on: then
    /// the flow is open. From where to where its packets go.
    pub(super) fn open(&self, hook: Hook, packet: &Packet) -> (SocketAddr, SocketAddr) {
        let (source, endpoint) = self.ends(hook, packet);
        self.go_on(hook, packet, (source, endpoint));
        (source, endpoint)
    }

    /// The same from the answer on, of a flow that goes from and to these.
    pub(super) fn go_on(&self, hook: Hook, first: &Packet, wire: (SocketAddr, SocketAddr)) {
        let (to, from) = (first.destination, first.source);
        let packet = match first.protocol() {
            UDP => Packet::udp(from, to),
            SCTP => Packet::sctp(from, to, chunks::COOKIE_ECHO),
            _ => Packet::tcp(from, to, tcp_flags::ACK),
        };
        let is_sent_on = wire.0.ip() != first.source.ip();
        let back = if is_sent_on { hook } else { Hook::Out };
        let answer = first.answer(wire.1, wire.0);
        let came = self.ends(back, &answer);
        assert_eq!(came, (first.destination, first.source));
        assert_eq!(self.ends(hook, &packet), wire);
    }

    /// Has both ends of an open connection close it, the client first; it goes from and to these.
    pub(super) fn close(&self, hook: Hook, first: &Packet, wire: (SocketAddr, SocketAddr)) {
        use tcp_flags::{ACK, FIN};
        let (client, service) = (first.source, first.destination);
        let back = if wire.0.ip() == client.ip() {
            Hook::Out
        } else {
            hook
        };
        let segments = [
            (hook, segment((client, service), FIN | ACK, [1, 1])),
            (back, segment((wire.1, wire.0), FIN | ACK, [1, 2])),
            (hook, segment((client, service), ACK, [2, 2])),
        ];
        for (hook, segment) in segments {
            self.ends(hook, &segment);
        }
    }

    /// Has the endpoints of new flows, and the places of all records, be others.
    pub(super) fn reseed(&self) {
        let seed = &self.shared.flow_seed;
        seed.set(seed.get().wrapping_add(0x9e37_79b9));
    }

    /// Lets time pass.
    pub(super) fn wait(&self, seconds: u32) {
        let now = self.shared.now.get();
        self.shared.now.set(now + ticks::from_seconds(seconds));
    }

    /// Lets the time of an endpoint end, as the agent does.
    pub(super) fn end_backend(&mut self, index: u32) {
        self.raise_generation(index, 1);
    }

    /// Adds to the generation of a backend.
    pub(super) fn raise_generation(&mut self, index: u32, by: u32) {
        if let Some(backend) = self.v4.backends.get_mut(&index) {
            backend.generation += by;
        }
        if let Some(backend) = self.v6.backends.get_mut(&index) {
            backend.generation += by;
        }
    }

    /// Has a backend serve another Service port.
    pub(super) fn set_service_of(&mut self, index: u32, service: u32) {
        if let Some(backend) = self.v4.backends.get_mut(&index) {
            backend.service = service;
        }
        if let Some(backend) = self.v6.backends.get_mut(&index) {
            backend.service = service;
        }
    }

    /// Has connections reset to endpoints that are gone.
    pub(super) fn reset_gone(&mut self) {
        self.v4.settings.flags |= settings_flags::RESET_GONE;
        self.v6.settings.flags |= settings_flags::RESET_GONE;
    }

    /// Has a SYN that is sent again go to another endpoint.
    pub(super) fn retry_unanswered(&mut self) {
        self.v4.settings.flags |= settings_flags::RETRY_UNANSWERED;
        self.v6.settings.flags |= settings_flags::RETRY_UNANSWERED;
    }

    /// Says of all endpoints what their Service says of connections that they do not answer, by bits
    /// of [`backend_flags`].
    pub(super) fn say_unanswered(&mut self, flags: u16) {
        let all = backend_flags::SAYS_UNANSWERED | backend_flags::RETRIED;
        for backend in self.v4.backends.values_mut() {
            backend.flags = backend.flags & !all | flags;
        }
        for backend in self.v6.backends.values_mut() {
            backend.flags = backend.flags & !all | flags;
        }
    }

    /// Whether the endpoint of an index answers, as the programs see it.
    pub(super) fn liveness(&self, family: Family, index: u32) -> Liveness {
        match family {
            Family::V4 => self.v4.liveness(index),
            Family::V6 => self.v6.liveness(index),
        }
        .unwrap_or_default()
    }

    /// Says whether new connections go to an endpoint, as the agent does; if not, to two others.
    pub(super) fn set_liveness_state(&mut self, family: Family, index: u32, state: u32) {
        let generation = match family {
            Family::V4 => mark_suspect(&mut self.v4, index, state),
            Family::V6 => mark_suspect(&mut self.v6, index, state),
        };
        self.set_liveness(family, index, |it| Liveness {
            state,
            generation,
            instead: [2, 3, 2, 3],
            ..it
        });
    }

    /// Says where connections go in the place of one that is avoided, as the agent does.
    pub(super) fn set_instead(&self, family: Family, index: u32, instead: [u32; 4]) {
        self.set_liveness(family, index, |it| Liveness { instead, ..it });
    }

    fn set_liveness(&self, family: Family, index: u32, next: impl Fn(Liveness) -> Liveness) {
        let after = next(self.liveness(family, index));
        match family {
            Family::V4 => self.v4.set_liveness(index, &after),
            Family::V6 => self.v6.set_liveness(index, &after),
        }
    }

    /// Gives all frontends one Service port, and its clients this affinity.
    pub(super) fn set_affinity(&mut self, seconds: u32) {
        let v4 = self.v4.frontends.values_mut();
        for frontend in v4.chain(self.v6.frontends.values_mut()) {
            frontend.service = 0;
            frontend.affinity_seconds = seconds;
        }
    }

    /// Has the tuple of a new connection lead to its endpoint, by any frontend.
    pub(super) fn hash(&mut self) {
        let v4 = self.v4.frontends.values_mut();
        for frontend in v4.chain(self.v6.frontends.values_mut()) {
            frontend.flags |= frontend_flags::HASHED;
        }
    }

    /// Says in which sets of its Service port an endpoint is, as the agent does.
    pub(super) fn set_membership(&mut self, index: u32, sets: u16) {
        let all = backend_flags::IN_CLUSTER_SET | backend_flags::IN_LOCAL_SET;
        if let Some(backend) = self.v4.backends.get_mut(&index) {
            backend.flags = backend.flags & !all | sets;
        }
        if let Some(backend) = self.v6.backends.get_mut(&index) {
            backend.flags = backend.flags & !all | sets;
        }
    }

    /// Points all frontends' cluster sets to another set.
    pub(super) fn switch_sets(&mut self, set: &[usize]) {
        let cluster = span(&self.shared, set);
        let v4 = self.v4.frontends.values_mut();
        for frontend in v4.chain(self.v6.frontends.values_mut()) {
            frontend.cluster = cluster;
        }
    }

    /// Removes a flow's record, as the kernel does where memory is short.
    pub(super) fn evict(&self, ends: (SocketAddr, SocketAddr), protocol: u8, edge: Edge) {
        if ends.0.is_ipv4() {
            evict(&self.v4, &flow_key(ends, protocol, edge));
        } else {
            evict(&self.v6, &flow_key(ends, protocol, edge));
        }
    }

    /// Gives the flow tables so many buckets, without records.
    pub(super) fn set_buckets(&mut self, count: u32) {
        self.v4.set_buckets(count);
        self.v6.set_buckets(count);
    }

    /// Another CPU claims this way of each bucket, and does not go on.
    pub(super) fn abandon_claim(&self, way: usize) {
        self.v4.abandon_claim(way);
        self.v6.abandon_claim(way);
    }

    /// It is known to be gone.
    pub(super) fn end_claims(&self) {
        self.v4.end_claims();
        self.v6.end_claims();
    }

    /// Flow records of both families.
    pub(super) fn flow_records(&self) -> usize {
        records(&self.v4) + records(&self.v6)
    }

    /// The value of a counter.
    pub(super) fn counter_of(&self, counter: Counter) -> u64 {
        self.v4.counter(counter)
    }

    /// Takes direct return from all frontends.
    pub(super) fn lose_direct_return(&mut self) {
        let v4 = self.v4.frontends.values_mut();
        for frontend in v4.chain(self.v6.frontends.values_mut()) {
            frontend.flags &= !frontend_flags::DSR;
        }
    }

    /// The counters that are not 0.
    pub(super) fn counters(&self) -> Vec<(Counter, u64)> {
        let all = Counter::ALL
            .iter()
            .map(|(it, _)| (*it, self.v4.counter(*it)));
        all.filter(|(_, value)| *value != 0).collect()
    }

    /// The counters that are not 0 since the last call.
    pub(super) fn counted(&self) -> Vec<(Counter, u64)> {
        let counted = self.counters();
        RefCell::borrow_mut(&self.shared.counters).clear();
        counted
    }
}

fn evict<A: Address>(memory: &Memory<A>, key: &FlowKey<A>) {
    assert!(
        memory.find(&key.by_parts()).is_some(),
        "there was no such record"
    );
    memory.remove(key);
}

/// Flow records that are not over.
fn records<A: Address>(memory: &Memory<A>) -> usize {
    let now = memory.shared.now.get();
    memory
        .records()
        .filter(|record| !record.is_over(&Timeouts::DEFAULT, now))
        .count()
}

/// A segment without data, whose numbers are counted from the initial ones: its own and the
/// one that it acknowledges.
pub(super) fn segment(
    (source, destination): (SocketAddr, SocketAddr),
    flags: u8,
    [own, acknowledged]: [u32; 2],
) -> Packet {
    Packet::tcp(source, destination, flags)
        .numbered(own, acknowledged)
        .empty()
}

/// An endpoint in the tests' own network.
pub(super) fn at(family: Family, network: u8, host: u8, port: u16) -> SocketAddr {
    SocketAddr::new(address(family, network, host), port)
}

/// Has the programs look at the liveness of a backend that is not just used; its generation.
fn mark_suspect<A>(memory: &mut Memory<A>, index: u32, state: u32) -> u32 {
    let backend = memory.backends.get_mut(&index).expect("a backend");
    backend.flags &= !backend_flags::SUSPECT;
    if state != liveness_state::USED {
        backend.flags |= backend_flags::SUSPECT;
    }
    backend.generation
}
