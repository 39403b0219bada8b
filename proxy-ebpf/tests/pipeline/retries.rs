//! Connections that were translated at their sockets, and whose endpoint does not answer: their
//! packets go to another one.

use std::cell::Cell;
use std::net::SocketAddr;

use proxy_tests::lab::Family;
use proxy_tests::packets::{Frontend, Hook, Packet, Protocol, Scenario, tcp_flags};

use super::caller::{Caller, Outcome};
use super::world::{World, at, segment};
use crate::layout::{Counter, Liveness};
use crate::pipeline::{Client, Handshake};

use tcp_flags::{ACK, FIN, SYN};

const TCP: u8 = 6;

/// A ClusterIP whose endpoints are on another node, and whose client.
struct Scene {
    world: World,
    family: Family,
    client: Client,
    next: Cell<u16>,
}

/// A socket that was translated, and whose SYN has been sent.
struct Connection {
    socket: Caller,
    from: SocketAddr,
    endpoint: SocketAddr,
}

impl Connection {
    fn syn(&self) -> Packet {
        Packet::tcp(self.from, self.endpoint, SYN)
    }

    fn segment(&self, flags: u8, numbers: [u32; 2]) -> Packet {
        segment((self.from, self.endpoint), flags, numbers)
    }
}

impl Scene {
    fn all(endpoints: u8) -> impl Iterator<Item = Self> {
        let clients = [Client::Pod, Client::Host];
        let each = move |family| clients.map(|client| Self::new(family, client, endpoints));
        Family::BOTH.into_iter().flat_map(each)
    }

    fn new(family: Family, client: Client, endpoints: u8) -> Self {
        let mut scenario = Scenario::empty();
        for host in 1..=endpoints {
            scenario.add_backend(at(family, 3, host, 8080), false);
        }
        let all = (0..usize::from(endpoints)).collect();
        let frontend = Frontend::new(at(family, 9, 1, 80), Protocol::Tcp, all);
        scenario.frontends.push(frontend);
        let mut world = World::new(&scenario);
        world.retry_unanswered();
        Self {
            world,
            family,
            client,
            next: 0.into(),
        }
    }

    fn service(&self) -> SocketAddr {
        at(self.family, 9, 1, 80)
    }

    /// Where the client's packets are seen.
    fn hook(&self) -> Hook {
        match self.client {
            Client::Host => Hook::FromHost,
            _ => Hook::FromPod,
        }
    }

    /// Where the answers to it are seen.
    fn back(&self) -> Hook {
        match self.client {
            Client::Host => Hook::FromOutside,
            _ => Hook::Out,
        }
    }

    fn sent(&self, packet: &Packet) -> (SocketAddr, SocketAddr) {
        self.world.ends(self.hook(), packet)
    }

    fn begin(&self) -> Connection {
        let number = self.next.replace(self.next.get() + 1);
        let from = match self.client {
            Client::Host => at(self.family, 1, 1, 40_000 + number),
            _ => at(self.family, 2, 9, 40_000 + number),
        };
        let socket = Caller::new(self.client, TCP, number.into());
        let Outcome::Endpoint(endpoint) = socket.connect(&self.world, self.service()) else {
            panic!("it is translated");
        };
        let connection = Connection {
            socket,
            from,
            endpoint,
        };
        let ends = (from, endpoint);
        socket.handshake(&self.world, Handshake::Begins, ends);
        assert_eq!(self.sent(&connection.syn()), ends);
        connection
    }

    fn time_out(&self, it: &Connection) {
        self.tell(it, Handshake::TimesOut);
    }

    fn tell(&self, it: &Connection, what: Handshake) {
        let ends = (it.from, it.endpoint);
        it.socket.handshake(&self.world, what, ends);
    }

    fn liveness(&self, endpoint: SocketAddr) -> Liveness {
        let mut all = (0..).zip(1..);
        let found = all.find(|(_, host)| at(self.family, 3, *host, 8080) == endpoint);
        self.world.liveness(self.family, found.unwrap().0)
    }

    /// The endpoint answers a SYN that goes from and to these, and the connection is made.
    fn establish(&self, it: &Connection, wire: (SocketAddr, SocketAddr)) {
        let answer = it.syn().answer(wire.1, wire.0);
        let came = self.world.ends(self.back(), &answer);
        assert_eq!(came, (it.endpoint, it.from));
        assert_eq!(self.sent(&it.segment(ACK, [1, 1])), wire);
    }
}

#[test]
fn the_syn_that_is_sent_again_goes_to_another_endpoint() {
    for scene in Scene::all(3) {
        for _ in 0..20 {
            let it = scene.begin();
            scene.time_out(&it);
            let wire = scene.sent(&it.syn());
            assert_ne!(wire.1, it.endpoint);
            scene.establish(&it, wire);
            let unanswered = scene.liveness(it.endpoint).unanswered;
            scene.tell(&it, Handshake::IsAnsweredLate);
            assert_eq!(scene.liveness(it.endpoint).unanswered, unanswered);
            let data = it.segment(ACK, [1, 1]);
            assert_eq!(scene.sent(&data), wire);
        }
        assert_eq!(scene.world.counter_of(Counter::ConnectionRetried), 20);
    }
}

#[test]
fn without_an_answer_it_goes_on_to_others() {
    for scene in Scene::all(4) {
        let it = scene.begin();
        scene.time_out(&it);
        let mut wire = (it.from, it.endpoint);
        for _ in 0..4 {
            scene.world.wait(2);
            let last = wire.1;
            wire = scene.sent(&it.syn());
            assert_ne!(wire.1, last);
            assert!(scene.liveness(last).unanswered > 0, "{last}");
        }
        scene.establish(&it, wire);
        assert_eq!(scene.liveness(wire.1).unanswered, 0);
    }
}

#[test]
fn an_answer_that_comes_late_is_not_taken_for_the_others() {
    for scene in Scene::all(3) {
        let it = scene.begin();
        scene.time_out(&it);
        let wire = scene.sent(&it.syn());
        let late = it.syn().answer(it.endpoint, it.from);
        let came = scene.world.ends(scene.back(), &late);
        assert_eq!(came, (scene.service(), it.from), "no socket has that");
        assert_eq!(scene.liveness(it.endpoint).unanswered, 0, "it lives");
        scene.establish(&it, wire);
    }
}

#[test]
fn where_there_is_no_other_endpoint_nothing_changes() {
    for scene in Scene::all(1) {
        let it = scene.begin();
        scene.time_out(&it);
        let ends = (it.from, it.endpoint);
        assert_eq!(scene.sent(&it.syn()), ends);
        let late = it.syn().answer(it.endpoint, it.from);
        let came = scene.world.ends(scene.back(), &late);
        assert_eq!(came, (it.endpoint, it.from));
        scene.tell(&it, Handshake::IsAnsweredLate);
        assert_eq!(scene.liveness(it.endpoint).unanswered, 0);
        assert_eq!(scene.sent(&it.segment(ACK, [1, 1])), ends);
    }
}

#[test]
fn a_lost_answer_is_sent_again_by_the_same_endpoint() {
    for scene in Scene::all(3) {
        let it = scene.begin();
        scene.time_out(&it);
        let wire = scene.sent(&it.syn());
        let answer = it.syn().answer(wire.1, wire.0);
        scene.world.ends(scene.back(), &answer);
        scene.world.wait(2);
        assert_eq!(scene.sent(&it.syn()), wire);
        scene.establish(&it, wire);
    }
}

#[test]
fn another_connection_with_the_tuple_is_another_one() {
    for scene in Scene::all(3) {
        let it = scene.begin();
        scene.time_out(&it);
        let wire = scene.sent(&it.syn());
        scene.establish(&it, wire);
        let ends = (it.from, it.endpoint);
        let hook = scene.hook();
        for (hook, segment) in [
            (hook, it.segment(FIN | ACK, [1, 1])),
            (scene.back(), segment((wire.1, wire.0), FIN | ACK, [1, 2])),
            (hook, it.segment(ACK, [2, 2])),
        ] {
            scene.world.ends(hook, &segment);
        }
        scene.world.wait(200);
        for packet in [
            it.segment(SYN, [5000, 0]),
            it.segment(ACK, [5001, 1]),
            it.segment(ACK, [5001, 1]),
        ] {
            assert_eq!(scene.sent(&packet), ends, "{packet:?}");
        }
        let answer = segment((it.endpoint, it.from), ACK, [1, 5001]);
        let came = scene.world.ends(scene.back(), &answer);
        assert_eq!(came, (it.endpoint, it.from));
    }
}
