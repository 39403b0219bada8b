//! A process connects a socket: to an endpoint, where its destination is a frontend.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use proxy_ebpf::pipeline::connect;

use crate::call::{ALLOW, Call, Denial, Either, end};
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
    let Some(socket) = call.socket() else {
        return ALLOW;
    };
    let reach = connect(&socket, call.v4(), &Maps);
    end(reach, denial, |to| call.set_v4(to))
}

#[inline(always)]
fn on_v6(call: &Call, denial: Denial) -> i32 {
    let Some(socket) = call.socket() else {
        return ALLOW;
    };
    match call.v6() {
        Either::Mapped(to) => {
            let reach = connect(&socket, to, &Maps);
            end(reach, denial, |to| call.set_mapped(to))
        }
        Either::V6(to) => {
            let reach = connect(&socket, to, &Maps);
            end(reach, denial, |to| call.set_v6(to))
        }
    }
}
