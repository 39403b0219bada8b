//! What is remembered of a socket whose destination was translated.

use super::{Address, Bytes, Port, V4, V6};

/// A socket's cookie: no other socket has it until the machine starts anew. In two words,
/// so that a key has no padding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
#[repr(transparent)]
pub struct SocketCookie(pub [u32; 2]);

impl From<u64> for SocketCookie {
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a number")]
    fn from(cookie: u64) -> Self {
        Self([cookie as u32, (cookie >> 32) as u32])
    }
}

/// What the peer in a [`SocketKey`] is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[repr(u16)]
pub enum NatDirection {
    /// The frontend, to which the application sends; the record has the endpoint.
    Forward = 0,
    /// The endpoint, from which the socket hears; the record has the frontend.
    Reverse = 1,
}

/// Key of `SOCKETS_*`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
#[repr(C)]
pub struct SocketKey<A> {
    /// The socket.
    pub cookie: SocketCookie,
    /// Its peer's address.
    pub address: A,
    /// Its peer's port.
    pub port: Port,
    /// A [`NatDirection`].
    pub direction: u16,
}

impl<A> SocketKey<A> {
    /// A key from its parts.
    #[inline(always)]
    pub const fn new(
        cookie: SocketCookie,
        address: A,
        port: Port,
        direction: NatDirection,
    ) -> Self {
        Self {
            cookie,
            address,
            port,
            direction: direction as u16,
        }
    }
}

impl<A: Address> SocketKey<A> {
    /// The key of a socket that is connected to an endpoint. Without the endpoint, which the
    /// kernel does not know any more when a socket is closed that was connected to another
    /// one, or whose connection came to nothing.
    #[inline(always)]
    pub fn connected(cookie: SocketCookie) -> Self {
        Self::new(cookie, A::default(), Port::new(0), NatDirection::Reverse)
    }

    /// The key under which the frontend is to which a socket's last flow of datagrams goes.
    #[inline(always)]
    pub fn last_flow(cookie: SocketCookie) -> Self {
        Self::new(cookie, A::default(), Port::new(0), NatDirection::Forward)
    }
}

/// Value of `SOCKETS_*`: what takes the peer's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct SocketRecord<A> {
    /// The address.
    pub address: A,
    /// The port.
    pub port: Port,
    /// Of a connected socket its endpoint's port.
    pub peer_port: Port,
    /// Index of the backend.
    pub backend: u32,
    /// The backend's generation when it was picked.
    pub generation: u32,
    /// When a datagram was last sent with this record, in [`super::ticks`]; of a connected
    /// socket, for which this does not expire, its endpoint's address, folded.
    pub last_seen: u32,
}

impl<A: Address> SocketRecord<A> {
    /// The same as the record of a socket that is connected to this endpoint.
    #[inline(always)]
    #[must_use]
    pub fn connected_to(self, address: &A, port: Port) -> Self {
        Self {
            peer_port: port,
            last_seen: address_hash(address),
            ..self
        }
    }

    /// Whether a record under [`SocketKey::connected`] is about this endpoint. The socket may
    /// be connected to somebody else: the last attempt failed, or it was to none of ours.
    #[inline(always)]
    pub fn is_connected_to(&self, address: &A, port: Port) -> bool {
        self.peer_port == port && self.last_seen == address_hash(address)
    }
}

/// An address in 32 bits: an IPv4 one as it is.
#[inline(always)]
fn address_hash<A: Address>(address: &A) -> u32 {
    let words = address.words().iter();
    words.fold(0, |sum: u32, word| sum.rotate_left(7) ^ word)
}

/// How many Pods of a node can have their sockets left alone.
pub const LEFT_OUT_PODS: u32 = 4096;

/// Levels of cgroups below the root of all at which a Pod's can be, and the root's.
pub const CGROUP_LEVELS: u32 = 16;

sizes! {
    SocketKey<V4> = [8 4 2 2], align 4;
    SocketKey<V6> = [8 16 2 2], align 4;
    SocketRecord<V4> = [4 2 2 4 4 4], align 4;
    SocketRecord<V6> = [16 2 2 4 4 4], align 4;
}

bytes! { SocketKey<V4>, SocketKey<V6>, SocketRecord<V4>, SocketRecord<V6> }
