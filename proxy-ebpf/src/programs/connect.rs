//! A process connects a socket: to an endpoint, where its destination is a frontend.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use proxy_ebpf::pipeline::on_connect;

use crate::call::{Call, ErrnoMode, apply_v4, apply_v6};
use crate::maps::Maps;

#[cgroup_sock_addr(connect4)]
pub(crate) fn connect4(ctx: SockAddrContext) -> i32 {
    on_v4(&Call::new(&ctx), ErrnoMode::SetRetval)
}

#[cgroup_sock_addr(connect6)]
pub(crate) fn connect6(ctx: SockAddrContext) -> i32 {
    on_v6(&Call::new(&ctx), ErrnoMode::SetRetval)
}

#[cgroup_sock_addr(connect4)]
pub(crate) fn connect4_eperm(ctx: SockAddrContext) -> i32 {
    on_v4(&Call::new(&ctx), ErrnoMode::Eperm)
}

#[cgroup_sock_addr(connect6)]
pub(crate) fn connect6_eperm(ctx: SockAddrContext) -> i32 {
    on_v6(&Call::new(&ctx), ErrnoMode::Eperm)
}

#[inline(always)]
fn on_v4(call: &Call, errno_mode: ErrnoMode) -> i32 {
    apply_v4(call, errno_mode, |socket, to| on_connect(socket, to, &Maps))
}

#[inline(always)]
fn on_v6(call: &Call, errno_mode: ErrnoMode) -> i32 {
    apply_v6(
        call,
        errno_mode,
        |socket, to| on_connect(socket, to, &Maps),
        |socket, to| on_connect(socket, to, &Maps),
    )
}
