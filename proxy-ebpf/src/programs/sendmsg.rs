//! A process sends a datagram without a connection: to an endpoint, where its destination
//! is a frontend.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use proxy_ebpf::pipeline::{Reach, send};

use crate::call::{Call, Denial, Either, reach_v4, reach_v6};
use crate::maps::Maps;

#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn sendmsg4(ctx: SockAddrContext) -> i32 {
    on_v4(&Call::new(&ctx), Denial::Code)
}

#[cgroup_sock_addr(sendmsg6)]
pub(crate) fn sendmsg6(ctx: SockAddrContext) -> i32 {
    on_v6(&Call::new(&ctx), Denial::Code)
}

#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn sendmsg4_eperm(ctx: SockAddrContext) -> i32 {
    on_v4(&Call::new(&ctx), Denial::Eperm)
}

#[cgroup_sock_addr(sendmsg6)]
pub(crate) fn sendmsg6_eperm(ctx: SockAddrContext) -> i32 {
    on_v6(&Call::new(&ctx), Denial::Eperm)
}

#[inline(always)]
fn on_v4(call: &Call, denial: Denial) -> i32 {
    reach_v4(call, denial, |socket, to| {
        send(socket, call.peer_v4(), to, &Maps)
    })
}

#[inline(always)]
fn on_v6(call: &Call, denial: Denial) -> i32 {
    reach_v6(
        call,
        denial,
        // The kernel asks the hook for IPv4 about these.
        |_, _| Reach::Unchanged,
        |socket, to| match call.peer_v6() {
            None => send(socket, None, to, &Maps),
            Some(Either::V6(peer)) => send(socket, Some(peer), to, &Maps),
            Some(Either::Mapped(_)) => Reach::Unchanged,
        },
    )
}
