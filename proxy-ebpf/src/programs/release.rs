//! A process closes a socket: what was remembered of it goes.

use core::ptr::addr_of;

use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;
use proxy_ebpf::layout::{V4, V6, protocol};
use proxy_ebpf::pipeline::{on_release, on_release_udp};

use crate::maps::Maps;

const AF_INET: u32 = 2;

#[cgroup_sock(sock_release)]
pub(crate) fn release(ctx: SockContext) -> i32 {
    release_socket(ctx.sock);
    1
}

#[inline(always)]
fn release_socket(sock: *mut bpf_sock) {
    // SAFETY: the socket is the context; a helper, and fields of it.
    let (cookie, family, protocol) = unsafe {
        (
            bpf_get_socket_cookie(sock.cast()).into(),
            addr_of!((*sock).family).read_volatile(),
            addr_of!((*sock).protocol).read_volatile(),
        )
    };
    let is_v4 = family == AF_INET;
    // A socket for IPv6 may have been used with IPv4.
    on_release::<V4, _>(cookie, &Maps);
    if !is_v4 {
        on_release::<V6, _>(cookie, &Maps);
    }
    if protocol == u32::from(protocol::UDP) {
        on_release_udp::<V4, _>(cookie, &Maps);
        if !is_v4 {
            on_release_udp::<V6, _>(cookie, &Maps);
        }
    }
}
