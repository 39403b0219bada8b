//! A process sends a datagram without a connection: to an endpoint, where its destination
//! is a frontend.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use proxy_ebpf::pipeline::send;

use crate::call::{ALLOW, Call, Denial, Either, end};
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
    let Some(socket) = call.socket() else {
        return ALLOW;
    };
    let reach = send(&socket, call.peer_v4(), call.v4(), &Maps);
    end(reach, denial, |to| call.set_v4(to))
}

#[inline(always)]
fn on_v6(call: &Call, denial: Denial) -> i32 {
    let Some(socket) = call.socket() else {
        return ALLOW;
    };
    match call.v6() {
        // The kernel asks the hook for IPv4 about these.
        Either::Mapped(_) => ALLOW,
        Either::V6(to) => {
            let peer = match call.peer_v6() {
                Some(Either::V6(peer)) => Some(peer),
                Some(Either::Mapped(_)) => return ALLOW,
                None => None,
            };
            let reach = send(&socket, peer, to, &Maps);
            end(reach, denial, |to| call.set_v6(to))
        }
    }
}
