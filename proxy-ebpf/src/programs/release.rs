//! A process closes a socket: what was remembered of it goes.

use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;
use proxy_ebpf::pipeline::forget;

use crate::call::Either;
use crate::maps::Maps;
use crate::sock::{peer_v4, peer_v6};

const AF_INET: u32 = 2;

#[cgroup_sock(sock_release)]
pub(crate) fn release(ctx: SockContext) -> i32 {
    on_release(ctx.sock);
    1
}

#[inline(always)]
fn on_release(sock: *mut bpf_sock) {
    // SAFETY: the socket is the context; a helper, and a field of it.
    let (cookie, family) = unsafe { (bpf_get_socket_cookie(sock.cast()), (*sock).family) };
    let cookie = cookie.into();
    if family == AF_INET {
        // SAFETY: as above.
        if let Some(peer) = unsafe { peer_v4(sock) } {
            forget(cookie, peer, &Maps);
        }
        return;
    }
    // SAFETY: as above.
    match unsafe { peer_v6(sock) } {
        Some(Either::Mapped(peer)) => forget(cookie, peer, &Maps),
        Some(Either::V6(peer)) => forget(cookie, peer, &Maps),
        None => {}
    }
}
