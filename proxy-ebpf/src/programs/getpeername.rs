//! A process asks to what it is connected: to the frontend that it named.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;

use crate::call::{Call, reveal_v4, reveal_v6};

#[cgroup_sock_addr(getpeername4)]
pub(crate) fn getpeername4(ctx: SockAddrContext) -> i32 {
    reveal_v4(&Call::new(&ctx))
}

#[cgroup_sock_addr(getpeername6)]
pub(crate) fn getpeername6(ctx: SockAddrContext) -> i32 {
    reveal_v6(&Call::new(&ctx))
}
