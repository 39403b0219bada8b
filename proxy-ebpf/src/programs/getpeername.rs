//! A process asks to what it is connected: to the frontend that it named.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use proxy_ebpf::pipeline::reveal;

use crate::call::{ALLOW, Call, Either};
use crate::maps::Maps;

#[cgroup_sock_addr(getpeername4)]
pub(crate) fn getpeername4(ctx: SockAddrContext) -> i32 {
    let call = Call::new(&ctx);
    if let Some(frontend) = reveal(call.cookie(), call.v4(), &Maps) {
        call.set_v4(frontend);
    }
    ALLOW
}

#[cgroup_sock_addr(getpeername6)]
pub(crate) fn getpeername6(ctx: SockAddrContext) -> i32 {
    let call = Call::new(&ctx);
    match call.v6() {
        Either::Mapped(from) => {
            if let Some(frontend) = reveal(call.cookie(), from, &Maps) {
                call.set_mapped(frontend);
            }
        }
        Either::V6(from) => {
            if let Some(frontend) = reveal(call.cookie(), from, &Maps) {
                call.set_v6(frontend);
            }
        }
    }
    ALLOW
}
