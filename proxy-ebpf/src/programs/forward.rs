//! Sending a translated packet on: FIB lookup and redirect.

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_NOT_FWDED,
    BPF_FIB_LKUP_RET_SUCCESS, TC_ACT_SHOT, bpf_redir_neigh,
};
use aya_ebpf::helpers::generated::bpf_redirect_neigh;
use proxy_ebpf::layout::{Address, Counter, Stage, V4, V6, protocol};
use proxy_ebpf::pipeline::{Client, IpVersion, Packet as _};

use crate::deliver::deliver;
use crate::fib::{FibLookup, fib_lookup};
use crate::skb::Skb;
use crate::stages::tail_call;
use crate::statics::VersionMaps;
use crate::verdict::{NEXT, drop_for};

/// What a FIB lookup needs to know of an IP version.
pub(crate) trait Route: Address + VersionMaps<Self> {
    /// `AF_INET` or `AF_INET6`.
    const FAMILY: u8;
    /// What a stage's program for this version is under, of two.
    const VERSION: u32;
    /// The address as the lookup has it.
    fn to_fib_words(self) -> [u32; 4];
    /// The length of the headers of a packet that will be cut into segments.
    fn header_length(skb: &Skb, network: usize) -> u16;
}

impl Route for V4 {
    const FAMILY: u8 = 2;
    const VERSION: u32 = 0;

    #[inline(always)]
    fn to_fib_words(self) -> [u32; 4] {
        [self.0[0], 0, 0, 0]
    }

    #[inline(always)]
    fn header_length(skb: &Skb, network: usize) -> u16 {
        const PROTOCOL: usize = 9;
        let words = skb
            .read(network)
            .map_or(0, |[first, _]: [u8; 2]| first & 15);
        let length = usize::from(words) * 4;
        length as u16 + transport_header_length(skb, network + PROTOCOL, network + length)
    }
}

impl Route for V6 {
    const FAMILY: u8 = 10;
    const VERSION: u32 = 1;

    #[inline(always)]
    fn to_fib_words(self) -> [u32; 4] {
        self.0
    }

    #[inline(always)]
    fn header_length(skb: &Skb, network: usize) -> u16 {
        const NEXT_HEADER: usize = 6;
        // What is cut into segments has no extension headers.
        40 + transport_header_length(skb, network + NEXT_HEADER, network + 40)
    }
}

/// Sends the packet to the next hop for its addresses, by the device that leads there;
/// the kernel resolves the neighbour. A packet that has no way is dropped; one that is too
/// long for it goes to the stage that tells its sender.
#[inline(always)]
pub(crate) fn forward<A>(skb: &mut Skb) -> i32
where
    A: Route + IpVersion,
{
    let (network, _) = skb.load_cb();
    let addresses = network + A::ADDRESSES;
    let Some(source) = skb.read::<A>(addresses) else {
        return TC_ACT_SHOT;
    };
    let Some(destination) = skb.read::<A>(addresses + size_of::<A>()) else {
        return TC_ACT_SHOT;
    };
    let mut lookup = FibLookup {
        family: A::FAMILY,
        length: length::<A>(skb, network),
        device: skb.device(),
        source: source.to_fib_words(),
        destination: destination.to_fib_words(),
        ..FibLookup::default()
    };
    let found = fib_lookup(skb.raw().cast(), &mut lookup);
    if found == i64::from(BPF_FIB_LKUP_RET_FRAG_NEEDED) {
        return tail_call::<A>(skb, Stage::TooBig, network, lookup.length);
    }
    let is_to_host = found == i64::from(BPF_FIB_LKUP_RET_NOT_FWDED);
    if is_to_host && skb.load_client() == Client::Host {
        return deliver::<A>(skb);
    }
    if found != i64::from(BPF_FIB_LKUP_RET_SUCCESS) && found != i64::from(BPF_FIB_LKUP_RET_NO_NEIGH)
    {
        return drop_for::<A>(skb, network, Counter::Unroutable);
    }
    redirect::<A>(skb, network, &lookup)
}

/// Sends a translated reply, which leaves this host, by the device that leads from its source to
/// its destination, if that is another one.
#[inline(always)]
pub(crate) fn reroute<A>(skb: &mut Skb) -> i32
where
    A: Route + IpVersion,
{
    let (network, _) = skb.load_cb();
    let addresses = network + A::ADDRESSES;
    let (Some(source), Some(destination)) = (
        skb.read::<A>(addresses),
        skb.read::<A>(addresses + size_of::<A>()),
    ) else {
        return NEXT;
    };
    let mut lookup = FibLookup {
        family: A::FAMILY,
        // One that is never too long: the endpoint knows the path MTU.
        length: 1,
        device: skb.device(),
        source: source.to_fib_words(),
        destination: destination.to_fib_words(),
        ..FibLookup::default()
    };
    let found = fib_lookup(skb.raw().cast(), &mut lookup);
    let is_found = found == i64::from(BPF_FIB_LKUP_RET_SUCCESS)
        || found == i64::from(BPF_FIB_LKUP_RET_NO_NEIGH);
    // One that this host only forwards as a bridge goes on where it goes.
    if !is_found || lookup.device == skb.device() || skb.load_client() != Client::Host {
        return NEXT;
    }
    redirect::<A>(skb, network, &lookup)
}

/// Sends the packet, whose IP header is at `network`, to the next hop that a lookup has found.
#[inline(always)]
pub(crate) fn redirect<A: Route>(skb: &mut Skb, network: usize, lookup: &FibLookup) -> i32 {
    // By the device that leads on it gets that one's tag, if any. Of a device without a link
    // header it has none, which the redirect replaces by the next hop's (`__bpf_redirect_neigh`
    // in `net/core/filter.c`).
    if !skb.pop_vlan() || (network == 0 && !skb.push_link_header()) {
        return drop_for::<A>(skb, network, Counter::RewriteFailed);
    }
    // This host's own has a route, by which a neighbour that is yet to be resolved would be looked
    // up (`neigh_update` in `net/core/neighbour.c`): it gets the one of its new destination.
    if skb.load_client() == Client::Host {
        // SAFETY: without a next hop the helper looks for the route.
        return unsafe { bpf_redirect_neigh(lookup.device, core::ptr::null_mut(), 0, 0) as i32 };
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

/// The length of the transport header of a packet that will be cut into segments, of TCP or
/// into datagrams of UDP; the number of its protocol is at `protocol`.
#[inline(always)]
fn transport_header_length(skb: &Skb, protocol: usize, transport: usize) -> u16 {
    const UDP_HEADER: u16 = 8;
    match skb.read::<[u8; 2]>(protocol) {
        Some([protocol::TCP, _]) => {
            let word = skb.read(transport + 12);
            word.map_or(0, |[words, _]: [u8; 2]| u16::from(words >> 4) * 4)
        }
        _ => UDP_HEADER,
    }
}

/// The length of the longest IP packet that leaves.
#[inline(always)]
pub(crate) fn length<A: Route>(skb: &Skb, network: usize) -> u16 {
    // Of SCTP, whose parts have lengths of their own, as their sender found them to fit
    // (`include/linux/skbuff.h`).
    const GSO_BY_FRAGS: usize = 0xffff;
    match skb.segment_length() {
        0 => (skb.length() - network as u32) as u16,
        GSO_BY_FRAGS => 1,
        data => A::header_length(skb, network) + data as u16,
    }
}

/// `struct bpf_redir_neigh` of `linux/bpf.h`.
#[repr(C)]
struct NextHop {
    family: u32,
    address: [u32; 4],
}

const _: () = assert!(size_of::<NextHop>() == size_of::<bpf_redir_neigh>());
