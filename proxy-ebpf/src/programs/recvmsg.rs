//! A process is told from where a datagram came: from the frontend to which it sent.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;

use crate::call::{Call, reveal_v4, reveal_v6};

#[cgroup_sock_addr(recvmsg4)]
pub(crate) fn recvmsg4(ctx: SockAddrContext) -> i32 {
    reveal_v4(&Call::new(&ctx))
}

#[cgroup_sock_addr(recvmsg6)]
pub(crate) fn recvmsg6(ctx: SockAddrContext) -> i32 {
    reveal_v6(&Call::new(&ctx))
}
