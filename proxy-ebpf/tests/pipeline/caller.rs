//! A process with a socket, in terms of the standard library.

use std::net::{IpAddr, SocketAddr};

use proxy_tests::packets::FIRST_SEQUENCE;

use super::world::{FromIp, World};
use crate::host::Memory;
use crate::layout::{Address, Port, SocketCookie};
use crate::pipeline::{
    Client, Handshake, SockAddr, Socket, SocketVerdict, Syn, Watch, on_bind, on_connect,
    on_getpeername, on_handshake, on_recvmsg, on_release, on_release_udp, on_sendmsg,
};

/// What becomes of a destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    Unchanged,
    Endpoint(SocketAddr),
    Refused,
    TimedOut,
}

/// A process with a socket.
#[derive(Clone, Copy)]
pub(super) struct Caller(Socket);

/// Does something with the maps of an address's family.
macro_rules! in_family {
    ($world:ident, $address:expr, $memory:ident => $result:expr) => {
        if $address.is_ipv4() {
            let $memory = &$world.v4;
            $result
        } else {
            let $memory = &$world.v6;
            $result
        }
    };
}

impl Caller {
    pub(super) fn new(client: Client, protocol: u8, cookie: u64) -> Self {
        Self(Socket {
            cookie: SocketCookie::from(cookie),
            protocol,
            client,
        })
    }

    pub(super) fn connect(&self, world: &World, to: SocketAddr) -> Outcome {
        in_family!(world, to, it => outcome(on_connect(&self.0, end_in(it, to), it)))
    }

    /// Something happens in the handshake of the socket, which is bound to `from`, with `peer`. Its
    /// SYN has the number that packets of tests have.
    pub(super) fn handshake(
        &self,
        world: &World,
        what: Handshake,
        (from, peer): (SocketAddr, SocketAddr),
    ) -> Watch {
        in_family!(world, peer, it => {
            let syn = || Syn { from: end_in(it, from), sequence: FIRST_SEQUENCE };
            on_handshake(what, self.0.cookie, end_in(it, peer), syn, it)
        })
    }

    pub(super) fn send(&self, world: &World, peer: Option<SocketAddr>, to: SocketAddr) -> Outcome {
        in_family!(world, to, it => {
            let peer = peer.map(|peer| end_in(it, peer));
            outcome(on_sendmsg(&self.0, peer, end_in(it, to), it))
        })
    }

    pub(super) fn on_getpeername(&self, world: &World, from: SocketAddr) -> Option<SocketAddr> {
        in_family!(world, from, it => on_getpeername(self.0.cookie, end_in(it, from), it).map(ip_end))
    }

    /// The same when a datagram comes.
    pub(super) fn on_recvmsg(&self, world: &World, from: SocketAddr) -> Option<SocketAddr> {
        in_family!(world, from, it => on_recvmsg(self.0.cookie, end_in(it, from), it).map(ip_end))
    }

    /// Closes the socket, one for IPv6.
    pub(super) fn close(&self, world: &World) {
        on_release(self.0.cookie, &world.v4);
        on_release(self.0.cookie, &world.v6);
        on_release_udp(self.0.cookie, &world.v4);
        on_release_udp(self.0.cookie, &world.v6);
    }

    pub(super) fn may_bind(&self, world: &World, at: SocketAddr) -> bool {
        in_family!(world, at, it => on_bind(&self.0, end_in(it, at), it))
    }
}

fn end_in<A: FromIp>(_: &Memory<A>, address: SocketAddr) -> SockAddr<A> {
    SockAddr {
        address: A::from_ip(address.ip()).unwrap(),
        port: Port::new(address.port()),
    }
}

fn ip_end<A: Address>(end: SockAddr<A>) -> SocketAddr {
    let words: Vec<u32> = end
        .address
        .words()
        .iter()
        .map(|it| u32::from_be(*it))
        .collect();
    let ip: IpAddr = if let [word] = words[..] {
        word.to_be_bytes().into()
    } else {
        let bits = words
            .iter()
            .fold(0, |bits, word| bits << 32 | u128::from(*word));
        bits.to_be_bytes().into()
    };
    (ip, end.port.number()).into()
}

fn outcome<A: Address>(reach: SocketVerdict<A>) -> Outcome {
    match reach {
        SocketVerdict::Unchanged => Outcome::Unchanged,
        SocketVerdict::Endpoint(end) => Outcome::Endpoint(ip_end(end)),
        SocketVerdict::Refused => Outcome::Refused,
        SocketVerdict::TimedOut => Outcome::TimedOut,
    }
}
