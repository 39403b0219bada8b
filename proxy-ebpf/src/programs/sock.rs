//! A socket itself, as the hooks of cgroups see it.

use core::ptr::addr_of;

use aya_ebpf::bindings::bpf_sock;
use proxy_ebpf::layout::{Port, V4, V6};
use proxy_ebpf::pipeline::SockAddr;

use crate::call::{V6Peer, classify_v6};

/// The port of the peer of a connected socket.
#[inline(always)]
unsafe fn peer_port(sock: *const bpf_sock) -> Option<Port> {
    // SAFETY: a field that the kernel checks access to.
    let port = Port::new(u16::from_be(unsafe {
        addr_of!((*sock).dst_port).read_volatile()
    }));
    (port != Port::new(0)).then_some(port)
}

/// The peer of a connected socket for IPv4, or for IPv6 with an IPv4 peer.
///
/// # Safety
///
/// `sock` is one that the kernel gave to the program.
#[inline(always)]
pub(crate) unsafe fn peer_v4(sock: *const bpf_sock) -> Option<SockAddr<V4>> {
    // SAFETY: as above.
    let port = unsafe { peer_port(sock) }?;
    // SAFETY: as above.
    let address = V4([unsafe { addr_of!((*sock).dst_ip4).read_volatile() }]);
    Some(SockAddr { address, port })
}

/// The peer of a connected socket for IPv6.
///
/// # Safety
///
/// `sock` is one that the kernel gave to the program.
#[inline(always)]
pub(crate) unsafe fn peer_v6(sock: *const bpf_sock) -> Option<V6Peer> {
    // SAFETY: as above.
    let port = unsafe { peer_port(sock) }?;
    // SAFETY: as above.
    let words = [0, 1, 2, 3].map(|at| unsafe { addr_of!((*sock).dst_ip6[at]).read_volatile() });
    Some(classify_v6(V6(words), port))
}
