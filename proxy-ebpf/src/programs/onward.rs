//! The ways onward from TC, which is the last hook.

use aya_ebpf::bindings::__sk_buff;
use proxy_ebpf::layout::Tuple;
use proxy_ebpf::pipeline::{EveryWay, Headers, Onward};

use crate::fib::device_towards;
use crate::forward::Route;
use crate::maps::{DeviceAddresses, Maps};
use crate::skb::Skb;

/// Every way; what is sent on has the address of the device by which it leaves.
pub(crate) struct ByRoute {
    context: *mut __sk_buff,
}

impl ByRoute {
    #[inline(always)]
    pub(crate) fn from(skb: &Skb) -> Self {
        Self { context: skb.raw() }
    }
}

impl<A> Onward<A> for ByRoute
where
    A: Route,
    Maps: DeviceAddresses<A>,
{
    const HAS_NEXT: bool = <EveryWay as Onward<A>>::HAS_NEXT;

    #[inline(always)]
    fn can_pass(&mut self) -> bool {
        <EveryWay as Onward<A>>::can_pass(&mut EveryWay)
    }

    #[inline(always)]
    fn can_return(&mut self) -> bool {
        <EveryWay as Onward<A>>::can_return(&mut EveryWay)
    }

    #[inline(always)]
    fn can_forward(&mut self, headers: &Headers<A>, to: &Tuple<A>) -> bool {
        EveryWay.can_forward(headers, to)
    }

    #[inline(always)]
    fn source(&mut self, client: &A, endpoint: &A) -> Option<&A> {
        // SAFETY: a field of the context.
        let came_by = unsafe { (*self.context).ifindex };
        let device = device_towards(self.context.cast(), came_by, client, endpoint)?;
        Maps.device_address(device)
    }
}
