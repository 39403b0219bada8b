//! A process asks to what it is connected: to the frontend that it named.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use proxy_ebpf::pipeline::on_getpeername;

use crate::call::{Call, reverse_nat_v4, reverse_nat_v6};
use crate::maps::Maps;

#[cgroup_sock_addr(getpeername4)]
pub(crate) fn getpeername4(ctx: SockAddrContext) -> i32 {
    reverse_nat_v4(&Call::new(&ctx), |cookie, peer| {
        on_getpeername(cookie, peer, &Maps)
    })
}

#[cgroup_sock_addr(getpeername6)]
pub(crate) fn getpeername6(ctx: SockAddrContext) -> i32 {
    reverse_nat_v6(
        &Call::new(&ctx),
        |cookie, peer| on_getpeername(cookie, peer, &Maps),
        |cookie, peer| on_getpeername(cookie, peer, &Maps),
    )
}
