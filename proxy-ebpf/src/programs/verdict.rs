//! Doing with a packet what the pipeline says.

use aya_ebpf::bindings::{BPF_F_INGRESS, TC_ACT_SHOT};
use aya_ebpf::helpers::generated::bpf_redirect;
use proxy_ebpf::layout::{Counter, Stage};
use proxy_ebpf::pipeline::{Client, Packet as _, Verdict};

use crate::forward::Route;
use crate::skb::Skb;
use crate::stages::tail_call;
use crate::tunnel::store_tunnel;

/// Not an action of TC: a tcx program passes the packet to the next one
/// (`TCX_NEXT`), and a clsact filter in direct-action mode to the next filter
/// (`TC_ACT_UNSPEC`).
pub(crate) const NEXT: i32 = -1;

/// The action of TC for a packet whose IP header is at `network`.
#[inline(always)]
pub(crate) fn apply<A: Route>(skb: &mut Skb, network: usize, verdict: Verdict<A>) -> i32 {
    match verdict {
        Verdict::Pass => NEXT,
        Verdict::PassTranslated => {
            skb.mark_translated();
            NEXT
        }
        Verdict::Drop(reason) => tail_call::<A>(skb, Stage::TraceDrop, network, reason as u16),
        Verdict::Discard => TC_ACT_SHOT,
        Verdict::Refuse(reason) => tail_call::<A>(skb, Stage::Refuse, network, reason as u16),
        Verdict::Continue(stage) => tail_call::<A>(skb, stage, network, 0),
        Verdict::Encapsulate(ends) => {
            store_tunnel(&ends);
            tail_call::<A>(skb, Stage::Encapsulate, network, 0)
        }
        Verdict::OpenTunnelled(endpoints) => {
            skb.store_endpoints(endpoints);
            tail_call::<A>(skb, Stage::OpenTunnelled, network, 0)
        }
        Verdict::Forward(_) => tail_call::<A>(skb, Stage::Forward, network, 0),
        // SAFETY: gives the packet back to the device that it came from.
        Verdict::Reinject => unsafe { bpf_redirect(skb.device(), u64::from(BPF_F_INGRESS)) as i32 },
        Verdict::Deliver => tail_call::<A>(skb, Stage::Deliver, network, 0),
        Verdict::Bounce => {
            let flags = match skb.load_client() {
                Client::Host => u64::from(BPF_F_INGRESS),
                Client::Pod | Client::Outside => 0,
            };
            // SAFETY: sends the packet back by the device at which it is.
            unsafe { bpf_redirect(skb.device(), flags) as i32 }
        }
    }
}

/// Drops the packet, whose IP header is at `network`, and counts why.
#[inline(always)]
pub(crate) fn drop_for<A: Route>(skb: &mut Skb, network: usize, reason: Counter) -> i32 {
    crate::maps::count(reason);
    tail_call::<A>(skb, Stage::TraceDrop, network, reason as u16)
}
