//! Sending a packet to an endpoint's node in a tunnel.

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, TC_ACT_SHOT,
};
use proxy_ebpf::layout::{Counter, Tuple};
use proxy_ebpf::pipeline::{Client, Context, IpVersion, Packet as _, Reason, Tables, Verdict};

use crate::fib::{FibLookup, fib_lookup};
use crate::forward::{Route, length, redirect};
use crate::maps::Maps;
use crate::skb::Skb;
use crate::verdict::{apply, drop_for};

/// Leaves a tunnel's ends to the program that puts its packet into it: on this CPU, like the
/// packet.
#[inline(always)]
pub(crate) fn store_tunnel<A: Route>(ends: &Tuple<A>) {
    if let Some(scratch) = A::tunnel().get_ptr_mut(0) {
        // SAFETY: this CPU's own, and no other program runs on it until the next one has
        // read it.
        unsafe { *scratch = *ends };
    }
}

/// Sends the packet in a tunnel to the next hop on its way. One that would be too long for
/// that is answered.
#[inline(always)]
pub(crate) fn send_in_tunnel<A>(skb: &mut Skb) -> i32
where
    A: Route + IpVersion,
    Maps: Tables<A>,
{
    let (network, _) = skb.load_cb();
    // SAFETY: as above.
    let Some(ends) = A::tunnel()
        .get_ptr_mut(0)
        .map(|scratch| unsafe { *scratch })
    else {
        return TC_ACT_SHOT;
    };
    let mut lookup = FibLookup {
        family: A::FAMILY,
        length: length::<A>(skb, network).saturating_add(A::OUTER as u16),
        device: skb.device(),
        source: ends.source.to_fib_words(),
        destination: ends.destination.to_fib_words(),
        ..FibLookup::default()
    };
    let found = fib_lookup(skb.raw().cast(), &mut lookup);
    if found == i64::from(BPF_FIB_LKUP_RET_FRAG_NEEDED) {
        let verdict = Context::<A, _, _>::new(skb, network, &Maps, Client::Outside)
            .answer(Reason::TooBigForTunnel(lookup.length));
        return apply(skb, network, verdict);
    }
    if found != i64::from(BPF_FIB_LKUP_RET_SUCCESS) && found != i64::from(BPF_FIB_LKUP_RET_NO_NEIGH)
    {
        return drop_for::<A>(skb, network, Counter::Unroutable);
    }
    match Context::new(skb, network, &Maps, Client::Outside).encapsulate(&ends) {
        Some(()) => redirect::<A>(skb, network, &lookup),
        None => apply(skb, network, Verdict::<A>::Drop(Counter::RewriteFailed)),
    }
}
