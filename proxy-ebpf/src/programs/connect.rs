//! A process connects a socket: to an endpoint, where its destination is a frontend.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use proxy_ebpf::pipeline::connect;

use crate::call::{Call, Denial, reach_v4, reach_v6};
use crate::maps::Maps;

#[cgroup_sock_addr(connect4)]
pub(crate) fn connect4(ctx: SockAddrContext) -> i32 {
    on_v4(&Call::new(&ctx), Denial::Code)
}

#[cgroup_sock_addr(connect6)]
pub(crate) fn connect6(ctx: SockAddrContext) -> i32 {
    on_v6(&Call::new(&ctx), Denial::Code)
}

#[cgroup_sock_addr(connect4)]
pub(crate) fn connect4_eperm(ctx: SockAddrContext) -> i32 {
    on_v4(&Call::new(&ctx), Denial::Eperm)
}

#[cgroup_sock_addr(connect6)]
pub(crate) fn connect6_eperm(ctx: SockAddrContext) -> i32 {
    on_v6(&Call::new(&ctx), Denial::Eperm)
}

#[inline(always)]
fn on_v4(call: &Call, denial: Denial) -> i32 {
    reach_v4(call, denial, |socket, to| connect(socket, to, &Maps))
}

#[inline(always)]
fn on_v6(call: &Call, denial: Denial) -> i32 {
    reach_v6(
        call,
        denial,
        |socket, to| connect(socket, to, &Maps),
        |socket, to| connect(socket, to, &Maps),
    )
}
