//! A process closes a socket: what was remembered of it goes.

use core::ptr::addr_of;

use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;
use proxy_ebpf::layout::{V4, V6, protocol};
use proxy_ebpf::pipeline::{End, forget, forget_flow};

use crate::call::Either;
use crate::maps::Maps;
use crate::sock::{address_v4, address_v6};

const AF_INET: u32 = 2;

#[cgroup_sock(sock_release)]
pub(crate) fn release(ctx: SockContext) -> i32 {
    on_release(ctx.sock);
    1
}

#[inline(always)]
fn on_release(sock: *mut bpf_sock) {
    // SAFETY: the socket is the context; a helper, and fields of it.
    let (cookie, family, protocol) = unsafe {
        (
            bpf_get_socket_cookie(sock.cast()).into(),
            addr_of!((*sock).family).read_volatile(),
            addr_of!((*sock).protocol).read_volatile(),
        )
    };
    let is_v4 = family == AF_INET;
    if is_v4 {
        // SAFETY: as above.
        forget(cookie, unsafe { address_v4(sock) }, &Maps);
    } else {
        // SAFETY: as above.
        match unsafe { address_v6(sock) } {
            Either::Mapped(End { address, .. }) => forget(cookie, address, &Maps),
            Either::V6(End { address, .. }) => forget(cookie, address, &Maps),
        }
    }
    if protocol == u32::from(protocol::UDP) {
        // A socket for IPv6 may have sent by IPv4.
        forget_flow::<V4, _>(cookie, &Maps);
        if !is_v4 {
            forget_flow::<V6, _>(cookie, &Maps);
        }
    }
}
