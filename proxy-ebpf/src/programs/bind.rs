//! A process binds a socket: not the host's own to a NodePort, whose packets it would
//! never see.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use proxy_ebpf::layout::V4;
use proxy_ebpf::pipeline::{SockAddr, Socket, on_bind};

use crate::call::{ALLOW, Call, ErrnoMode, V6Peer};
use crate::maps::Maps;

#[cgroup_sock_addr(bind4)]
pub(crate) fn bind4(ctx: SockAddrContext) -> i32 {
    on_v4(&Call::new(&ctx), ErrnoMode::SetRetval)
}

#[cgroup_sock_addr(bind6)]
pub(crate) fn bind6(ctx: SockAddrContext) -> i32 {
    on_v6(&Call::new(&ctx), ErrnoMode::SetRetval)
}

#[cgroup_sock_addr(bind4)]
pub(crate) fn bind4_eperm(ctx: SockAddrContext) -> i32 {
    on_v4(&Call::new(&ctx), ErrnoMode::Eperm)
}

#[cgroup_sock_addr(bind6)]
pub(crate) fn bind6_eperm(ctx: SockAddrContext) -> i32 {
    on_v6(&Call::new(&ctx), ErrnoMode::Eperm)
}

#[inline(always)]
fn on_v4(call: &Call, errno_mode: ErrnoMode) -> i32 {
    call.socket().map_or(ALLOW, |socket| {
        end(on_bind(&socket, call.v4(), &Maps), errno_mode)
    })
}

#[inline(always)]
fn on_v6(call: &Call, errno_mode: ErrnoMode) -> i32 {
    let Some(socket) = call.socket() else {
        return ALLOW;
    };
    match call.v6() {
        V6Peer::Mapped(at) => end(on_bind(&socket, at, &Maps), errno_mode),
        V6Peer::V6(at) => {
            let is_free = on_bind(&socket, at, &Maps) && is_free_of_v4(&socket, at);
            end(is_free, errno_mode)
        }
    }
}

/// A socket that is bound to no address in particular mostly serves IPv4 as well.
#[inline(always)]
fn is_free_of_v4(socket: &Socket, at: SockAddr<proxy_ebpf::layout::V6>) -> bool {
    let any = SockAddr {
        address: V4::default(),
        port: at.port,
    };
    at.address.0 != [0; 4] || on_bind(socket, any, &Maps)
}

#[inline(always)]
fn end(is_free: bool, errno_mode: ErrnoMode) -> i32 {
    if is_free {
        ALLOW
    } else {
        errno_mode.address_in_use()
    }
}
