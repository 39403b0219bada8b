//! Handing a reply to this host's stack.

use aya_ebpf::bindings::{BPF_F_INGRESS, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS};
use aya_ebpf::helpers::generated::bpf_redirect;
use proxy_ebpf::layout::{Counter, LinkAddress};
use proxy_ebpf::pipeline::{Client, IpVersion, Packet as _};

use crate::fib::{FibLookup, fib_lookup};
use crate::forward::Route;
use crate::maps::edge_device;
use crate::skb::Skb;
use crate::verdict::{NEXT, drop_for};

/// Lets the stack receive the packet by the device that leads to its source, the frontend: by any
/// other the stack may take it for spoofed (`net.ipv4.conf.*.rp_filter`). Where that device is not
/// known, or has no link header as others have, the packet goes up from where it is.
#[inline(always)]
pub(crate) fn deliver<A>(skb: &mut Skb) -> i32
where
    A: Route + IpVersion,
{
    skb.mark_translated();
    let (network, _) = skb.load_cb();
    let leaves = skb.load_client() == Client::Host;
    let here = skb.device();
    let by_route = device_of_route::<A>(skb, network).filter(|_| network != 0);
    let to = by_route
        .filter(|device| *device != here && set_destination(skb, *device))
        .unwrap_or(here);
    if to == here && !leaves {
        return NEXT;
    }
    if to == here && network != 0 && !set_destination(skb, here) {
        return drop_for::<A>(skb, network, Counter::RewriteFailed);
    }
    // SAFETY: a helper; the packet comes in by a device of this host.
    unsafe { bpf_redirect(to, u64::from(BPF_F_INGRESS)) as i32 }
}

/// Addresses the frame to a device, if that has a link header.
#[inline(always)]
fn set_destination(skb: &mut Skb, device: u32) -> bool {
    let own = edge_device(device).map_or(LinkAddress::default(), |it| it.addresses[0]);
    own != LinkAddress::default() && skb.address_to(own)
}

/// The device by which a packet of the reply's client leaves for the frontend.
#[inline(always)]
fn device_of_route<A>(skb: &Skb, network: usize) -> Option<u32>
where
    A: Route + IpVersion,
{
    let addresses = network + A::ADDRESSES;
    let frontend = skb.read::<A>(addresses)?;
    let client = skb.read::<A>(addresses + size_of::<A>())?;
    let mut lookup = FibLookup {
        family: A::FAMILY,
        // One that is never too long.
        length: 1,
        device: skb.device(),
        source: client.to_fib_words(),
        destination: frontend.to_fib_words(),
        ..FibLookup::default()
    };
    let found = fib_lookup(skb.raw().cast(), &mut lookup);
    let is_found = found == i64::from(BPF_FIB_LKUP_RET_SUCCESS)
        || found == i64::from(BPF_FIB_LKUP_RET_NO_NEIGH);
    is_found.then_some(lookup.device)
}
