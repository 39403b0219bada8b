//! Sending a packet to an endpoint's node in a tunnel.

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, TC_ACT_SHOT,
};
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use proxy_ebpf::layout::{Address, Counter, Tuple, V4, V6};
use proxy_ebpf::pipeline::{Reason, Tables, Version, answer, encapsulate};

use crate::fib::{Lookup, look_up};
use crate::forward::{Route, length, redirect};
use crate::maps::{Maps, count};
use crate::skb::Skb;
use crate::verdict::act;

/// What a program leaves to the program that puts its packet into a tunnel: the tunnel's
/// ends. Of this CPU alone, like the packet.
#[map]
static TUNNEL_V4: PerCpuArray<Tuple<V4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static TUNNEL_V6: PerCpuArray<Tuple<V6>> = PerCpuArray::with_max_entries(1, 0);

/// Where the tunnel's ends are left.
pub(crate) trait Ends: Address {
    fn place() -> Option<*mut Tuple<Self>>;
}

impl Ends for V4 {
    #[inline(always)]
    fn place() -> Option<*mut Tuple<Self>> {
        TUNNEL_V4.get_ptr_mut(0)
    }
}

impl Ends for V6 {
    #[inline(always)]
    fn place() -> Option<*mut Tuple<Self>> {
        TUNNEL_V6.get_ptr_mut(0)
    }
}

/// Leaves a tunnel's ends to the program that comes next.
#[inline(always)]
pub(crate) fn leave_ends<A: Ends>(ends: &Tuple<A>) {
    if let Some(place) = A::place() {
        // SAFETY: this CPU's own, and no other program runs on it until the next one has
        // read it.
        unsafe { *place = *ends };
    }
}

/// Sends the packet in a tunnel to the next hop on its way. One that would be too long for
/// that is answered.
#[inline(always)]
pub(crate) fn send_in_tunnel<A>(skb: &mut Skb) -> i32
where
    A: Route + Version,
    Maps: Tables<A>,
{
    let (network, _) = skb.left();
    // SAFETY: as above.
    let Some(ends) = A::place().map(|place| unsafe { *place }) else {
        return TC_ACT_SHOT;
    };
    let mut lookup = Lookup {
        family: A::FAMILY,
        length: length::<A>(skb, network).saturating_add(A::OUTER as u16),
        device: skb.device(),
        source: ends.source.widened(),
        destination: ends.destination.widened(),
        ..Lookup::default()
    };
    let found = look_up(skb.raw().cast(), &mut lookup);
    if found == i64::from(BPF_FIB_LKUP_RET_FRAG_NEEDED) {
        let verdict =
            answer::<A, _, _>(skb, network, &Maps, Reason::TooBigForTunnel(lookup.length));
        return act(skb, network, verdict);
    }
    if found != i64::from(BPF_FIB_LKUP_RET_SUCCESS) && found != i64::from(BPF_FIB_LKUP_RET_NO_NEIGH)
    {
        count(Counter::Unroutable);
        return TC_ACT_SHOT;
    }
    match encapsulate(skb, network, &Maps, &ends) {
        Some(()) => redirect(skb, &lookup),
        None => TC_ACT_SHOT,
    }
}
