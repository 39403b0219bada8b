//! A process asks to what it is connected: to the frontend that it named.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use proxy_ebpf::pipeline::reveal;

use crate::call::{Call, tell_v4, tell_v6};
use crate::maps::Maps;

#[cgroup_sock_addr(getpeername4)]
pub(crate) fn getpeername4(ctx: SockAddrContext) -> i32 {
    tell_v4(&Call::new(&ctx), |cookie, peer| reveal(cookie, peer, &Maps))
}

#[cgroup_sock_addr(getpeername6)]
pub(crate) fn getpeername6(ctx: SockAddrContext) -> i32 {
    tell_v6(
        &Call::new(&ctx),
        |cookie, peer| reveal(cookie, peer, &Maps),
        |cookie, peer| reveal(cookie, peer, &Maps),
    )
}
