//! Sending a translated packet on: FIB lookup and redirect.

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, TC_ACT_SHOT, bpf_redir_neigh,
};
use aya_ebpf::helpers::generated::{bpf_fib_lookup, bpf_redirect_neigh};
use proxy_ebpf::layout::{Address, Counter, Tuple, V4, V6};

use crate::skb::Skb;

/// `struct bpf_fib_lookup` of `linux/bpf.h`, with its unions resolved to what is
/// used here.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Lookup {
    family: u8,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
    total_length: u16,
    device: u32,
    flow_info: u32,
    source: [u32; 4],
    destination: [u32; 4],
    vlan: u32,
    source_link: [u16; 3],
    destination_link: [u16; 3],
}

const _: () = assert!(size_of::<Lookup>() == size_of::<aya_ebpf::bindings::bpf_fib_lookup>());

/// What a FIB lookup needs to know of an IP version.
pub(crate) trait Route: Address {
    /// `AF_INET` or `AF_INET6`.
    const FAMILY: u8;
    /// The address as the lookup has it.
    fn widened(self) -> [u32; 4];
}

impl Route for V4 {
    const FAMILY: u8 = 2;

    #[inline(always)]
    fn widened(self) -> [u32; 4] {
        [self.0[0], 0, 0, 0]
    }
}

impl Route for V6 {
    const FAMILY: u8 = 10;

    #[inline(always)]
    fn widened(self) -> [u32; 4] {
        self.0
    }
}

/// Sends the packet to the next hop for `tuple`, by the device that leads there;
/// the kernel resolves the neighbour. A packet that has no way is dropped.
#[inline(always)]
pub(crate) fn forward<A: Route>(skb: &Skb, tuple: &Tuple<A>) -> i32 {
    let mut lookup = Lookup {
        family: A::FAMILY,
        device: skb.device(),
        source: tuple.source.widened(),
        destination: tuple.destination.widened(),
        ..Lookup::default()
    };
    // SAFETY: `lookup` has the layout and the size of the helper's argument.
    let found = unsafe {
        bpf_fib_lookup(
            skb.raw().cast(),
            core::ptr::from_mut(&mut lookup).cast(),
            size_of::<Lookup>() as i32,
            0,
        )
    };
    if found != i64::from(BPF_FIB_LKUP_RET_SUCCESS) && found != i64::from(BPF_FIB_LKUP_RET_NO_NEIGH)
    {
        crate::maps::count(Counter::Unroutable);
        return TC_ACT_SHOT;
    }
    // The lookup has put the next hop in the place of the destination; it can be
    // of IPv6 for an IPv4 route (RFC 5549).
    let mut next_hop = NextHop {
        family: u32::from(lookup.family),
        address: lookup.destination,
    };
    // SAFETY: `next_hop` has the layout and the size of the helper's argument.
    unsafe {
        bpf_redirect_neigh(
            lookup.device,
            core::ptr::from_mut(&mut next_hop).cast(),
            size_of::<NextHop>() as i32,
            0,
        ) as i32
    }
}

/// `struct bpf_redir_neigh` of `linux/bpf.h`.
#[repr(C)]
struct NextHop {
    family: u32,
    address: [u32; 4],
}

const _: () = assert!(size_of::<NextHop>() == size_of::<bpf_redir_neigh>());
