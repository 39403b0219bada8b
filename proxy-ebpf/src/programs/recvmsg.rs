//! `recvmsg`: the source of a datagram becomes the frontend that it was sent to.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use proxy_ebpf::pipeline::on_recvmsg;

use crate::call::{Call, reverse_nat_v4, reverse_nat_v6};
use crate::maps::Maps;

#[cgroup_sock_addr(recvmsg4)]
pub(crate) fn recvmsg4(ctx: SockAddrContext) -> i32 {
    reverse_nat_v4(&Call::new(&ctx), |cookie, peer| {
        on_recvmsg(cookie, peer, &Maps)
    })
}

#[cgroup_sock_addr(recvmsg6)]
pub(crate) fn recvmsg6(ctx: SockAddrContext) -> i32 {
    reverse_nat_v6(
        &Call::new(&ctx),
        |cookie, peer| on_recvmsg(cookie, peer, &Maps),
        |cookie, peer| on_recvmsg(cookie, peer, &Maps),
    )
}
