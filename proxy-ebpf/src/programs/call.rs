//! A process's call with an address, as the hooks of cgroups see it.

use core::hint::black_box;
use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval};
use aya_ebpf::programs::SockAddrContext;
use proxy_ebpf::layout::{Port, SocketCookie, V4, V6};
use proxy_ebpf::pipeline::{Client, SockAddr, Socket, SocketVerdict};

use crate::sock::{peer_v4, peer_v6};
use crate::sockets::{HOST_NETNS, SERVES_PODS, is_opted_out};

/// The call goes on.
pub(crate) const ALLOW: i32 = 1;
/// The call fails: with EPERM, or with what `bpf_set_retval` was given.
const DENY: i32 = 0;

const ECONNREFUSED: i32 = 111;
const ETIMEDOUT: i32 = 110;
const EADDRINUSE: i32 = 98;

/// The third word of an IPv4-mapped IPv6 address, `::ffff:192.0.2.1` (RFC 4291, 2.5.5.2).
const MAPPED: u32 = 0xffff_u32.to_be();

/// How a call can be made to fail.
#[derive(Clone, Copy)]
pub(crate) enum ErrnoMode {
    /// With any error (Linux 6.1).
    SetRetval,
    /// Only with EPERM.
    Eperm,
}

impl ErrnoMode {
    #[inline(always)]
    fn with(self, error: i32) -> i32 {
        if let ErrnoMode::SetRetval = self {
            // SAFETY: sets what the call returns.
            unsafe { bpf_set_retval(-error) };
        }
        DENY
    }

    /// Fails since the address is taken.
    #[inline(always)]
    pub(crate) fn address_in_use(self) -> i32 {
        self.with(EADDRINUSE)
    }
}

/// A call with an address: where to, where from, or at which.
pub(crate) struct Call {
    raw: *mut bpf_sock_addr,
}

/// An address of a socket for IPv6.
pub(crate) enum V6Peer {
    /// IPv4's, in IPv6's clothes.
    Mapped(SockAddr<V4>),
    /// IPv6's own.
    V6(SockAddr<V6>),
}

/// An address and a port of a socket for IPv6.
#[inline(always)]
pub(crate) fn classify_v6(address: V6, port: Port) -> V6Peer {
    match address.0 {
        [0, 0, MAPPED, address] => V6Peer::Mapped(SockAddr {
            address: V4([address]),
            port,
        }),
        _ => V6Peer::V6(SockAddr { address, port }),
    }
}

impl Call {
    #[inline(always)]
    pub(crate) fn new(ctx: &SockAddrContext) -> Self {
        Self { raw: ctx.sock_addr }
    }

    /// The socket; `None` if it is not to be served.
    #[inline(always)]
    pub(crate) fn socket(&self) -> Option<Socket> {
        // SAFETY: a helper, and a field of the context.
        let (netns, protocol) = unsafe {
            let netns = bpf_get_netns_cookie(self.raw.cast());
            (netns, addr_of!((*self.raw).protocol).read_volatile())
        };
        let client = if netns == HOST_NETNS.load() {
            Client::Host
        } else if SERVES_PODS.load() == 1 && !is_opted_out() {
            Client::Pod
        } else {
            return None;
        };
        Some(Socket {
            cookie: self.cookie(),
            // MPTCP's number does not fit; it is none that is served.
            protocol: u8::try_from(protocol).unwrap_or(0),
            client,
        })
    }

    /// The socket's cookie.
    #[inline(always)]
    pub(crate) fn cookie(&self) -> SocketCookie {
        // SAFETY: a helper.
        unsafe { bpf_get_socket_cookie(self.raw.cast()) }.into()
    }

    #[inline(always)]
    fn port(&self) -> Port {
        // SAFETY: a field of the context, 16 bits in 32.
        let port = unsafe { addr_of!((*self.raw).user_port).read_volatile() };
        Port::new(u16::from_be(port as u16))
    }

    /// The address, at a hook for IPv4.
    #[inline(always)]
    pub(crate) fn v4(&self) -> SockAddr<V4> {
        // SAFETY: a field of the context.
        let address = unsafe { addr_of!((*self.raw).user_ip4).read_volatile() };
        SockAddr {
            address: V4([address]),
            port: self.port(),
        }
    }

    /// The address, at a hook for IPv6.
    #[inline(always)]
    pub(crate) fn v6(&self) -> V6Peer {
        // SAFETY: fields of the context.
        let words =
            [0, 1, 2, 3].map(|at| unsafe { addr_of!((*self.raw).user_ip6[at]).read_volatile() });
        classify_v6(V6(words), self.port())
    }

    /// What the socket of this call is connected to, at a hook for IPv4.
    #[inline(always)]
    pub(crate) fn peer_v4(&self) -> Option<SockAddr<V4>> {
        // SAFETY: the socket is a field of the context.
        unsafe { peer_v4(self.sock()?) }
    }

    /// What the socket of this call is connected to, at a hook for IPv6.
    #[inline(always)]
    pub(crate) fn peer_v6(&self) -> Option<V6Peer> {
        // SAFETY: the socket is a field of the context.
        unsafe { peer_v6(self.sock()?) }
    }

    #[inline(always)]
    fn sock(&self) -> Option<*const bpf_sock> {
        // SAFETY: a field of the context.
        let sock = unsafe { addr_of!((*self.raw).__bindgen_anon_1.sk).read_volatile() };
        (!sock.is_null()).then_some(sock.cast_const())
    }

    /// The context for a write. The compiler shall not know that it is the same as for
    /// reads: it would keep the addresses of single fields, and the kernel takes them
    /// only as a distance from the context's own.
    #[inline(always)]
    fn for_write(&self) -> *mut bpf_sock_addr {
        black_box(self.raw)
    }

    #[inline(always)]
    fn set_port(&self, port: Port) {
        let raw = self.for_write();
        // SAFETY: a field of the context.
        unsafe { addr_of_mut!((*raw).user_port).write_volatile(port.raw().into()) };
    }

    /// Sets the address, at a hook for IPv4.
    #[inline(always)]
    pub(crate) fn set_v4(&self, end: SockAddr<V4>) {
        let raw = self.for_write();
        // SAFETY: a field of the context.
        unsafe { addr_of_mut!((*raw).user_ip4).write_volatile(end.address.0[0]) };
        self.set_port(end.port);
    }

    /// Sets the address, where there was a mapped one.
    #[inline(always)]
    pub(crate) fn set_mapped(&self, end: SockAddr<V4>) {
        let raw = self.for_write();
        // SAFETY: a field of the context.
        unsafe { addr_of_mut!((*raw).user_ip6[3]).write_volatile(end.address.0[0]) };
        self.set_port(end.port);
    }

    /// Sets the address, at a hook for IPv6.
    #[inline(always)]
    pub(crate) fn set_v6(&self, end: SockAddr<V6>) {
        let raw = self.for_write();
        let [first, second, third, last] = end.address.0;
        for (at, word) in [(0, first), (1, second), (2, third), (3, last)] {
            // SAFETY: a field of the context.
            unsafe { addr_of_mut!((*raw).user_ip6[at]).write_volatile(word) };
        }
        self.set_port(end.port);
    }
}

/// Does with the destination of a call, at a hook for IPv4, what is decided for its socket.
#[inline(always)]
pub(crate) fn apply_v4(
    call: &Call,
    errno_mode: ErrnoMode,
    decide: impl FnOnce(&Socket, SockAddr<V4>) -> SocketVerdict<V4>,
) -> i32 {
    let Some(socket) = call.socket() else {
        return ALLOW;
    };
    end(decide(&socket, call.v4()), errno_mode, |to| call.set_v4(to))
}

/// The same at a hook for IPv6, where the destination may be an IPv4 one.
#[inline(always)]
pub(crate) fn apply_v6(
    call: &Call,
    errno_mode: ErrnoMode,
    decide_mapped: impl FnOnce(&Socket, SockAddr<V4>) -> SocketVerdict<V4>,
    decide: impl FnOnce(&Socket, SockAddr<V6>) -> SocketVerdict<V6>,
) -> i32 {
    let Some(socket) = call.socket() else {
        return ALLOW;
    };
    match call.v6() {
        V6Peer::Mapped(to) => end(decide_mapped(&socket, to), errno_mode, |to| {
            call.set_mapped(to)
        }),
        V6Peer::V6(to) => end(decide(&socket, to), errno_mode, |to| call.set_v6(to)),
    }
}

/// Ends a call as was decided about its destination.
#[inline(always)]
fn end<A>(reach: SocketVerdict<A>, errno_mode: ErrnoMode, set: impl FnOnce(SockAddr<A>)) -> i32 {
    match reach {
        SocketVerdict::Unchanged => ALLOW,
        SocketVerdict::Endpoint(end) => {
            set(end);
            ALLOW
        }
        SocketVerdict::Refused => errno_mode.with(ECONNREFUSED),
        SocketVerdict::TimedOut => errno_mode.with(ETIMEDOUT),
    }
}

/// Tells the process of a call about a peer, at a hook for IPv4, the frontend that it named.
#[inline(always)]
pub(crate) fn reverse_nat_v4(
    call: &Call,
    frontend: impl FnOnce(SocketCookie, SockAddr<V4>) -> Option<SockAddr<V4>>,
) -> i32 {
    if let Some(frontend) = frontend(call.cookie(), call.v4()) {
        call.set_v4(frontend);
    }
    ALLOW
}

/// The same at a hook for IPv6, where the peer may be an IPv4 one.
#[inline(always)]
pub(crate) fn reverse_nat_v6(
    call: &Call,
    frontend_of_mapped: impl FnOnce(SocketCookie, SockAddr<V4>) -> Option<SockAddr<V4>>,
    frontend: impl FnOnce(SocketCookie, SockAddr<V6>) -> Option<SockAddr<V6>>,
) -> i32 {
    match call.v6() {
        V6Peer::Mapped(peer) => {
            if let Some(frontend) = frontend_of_mapped(call.cookie(), peer) {
                call.set_mapped(frontend);
            }
        }
        V6Peer::V6(peer) => {
            if let Some(frontend) = frontend(call.cookie(), peer) {
                call.set_v6(frontend);
            }
        }
    }
    ALLOW
}
