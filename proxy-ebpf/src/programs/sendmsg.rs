//! A process sends a datagram without a connection: to an endpoint, where its destination
//! is a frontend.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use proxy_ebpf::pipeline::{SocketVerdict, on_sendmsg};

use crate::call::{Call, ErrnoMode, V6Peer, apply_v4, apply_v6};
use crate::maps::Maps;

#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn sendmsg4(ctx: SockAddrContext) -> i32 {
    on_v4(&Call::new(&ctx), ErrnoMode::SetRetval)
}

#[cgroup_sock_addr(sendmsg6)]
pub(crate) fn sendmsg6(ctx: SockAddrContext) -> i32 {
    on_v6(&Call::new(&ctx), ErrnoMode::SetRetval)
}

#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn sendmsg4_eperm(ctx: SockAddrContext) -> i32 {
    on_v4(&Call::new(&ctx), ErrnoMode::Eperm)
}

#[cgroup_sock_addr(sendmsg6)]
pub(crate) fn sendmsg6_eperm(ctx: SockAddrContext) -> i32 {
    on_v6(&Call::new(&ctx), ErrnoMode::Eperm)
}

#[inline(always)]
fn on_v4(call: &Call, errno_mode: ErrnoMode) -> i32 {
    apply_v4(call, errno_mode, |socket, to| {
        on_sendmsg(socket, call.peer_v4(), to, &Maps)
    })
}

#[inline(always)]
fn on_v6(call: &Call, errno_mode: ErrnoMode) -> i32 {
    apply_v6(
        call,
        errno_mode,
        // The kernel asks the hook for IPv4 about these.
        |_, _| SocketVerdict::Unchanged,
        |socket, to| match call.peer_v6() {
            None => on_sendmsg(socket, None, to, &Maps),
            Some(V6Peer::V6(peer)) => on_sendmsg(socket, Some(peer), to, &Maps),
            Some(V6Peer::Mapped(_)) => SocketVerdict::Unchanged,
        },
    )
}
