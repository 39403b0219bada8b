//! The address with which packets leave that are sent on.

use aya_ebpf::bindings::__sk_buff;
use proxy_ebpf::pipeline::Sources;

use crate::fib::device_towards;
use crate::forward::Route;
use crate::maps::{DeviceAddresses, Maps};
use crate::skb::Skb;

/// What is sent on has the address of the device by which it leaves.
pub(crate) struct ByRoute {
    context: *mut __sk_buff,
}

impl ByRoute {
    #[inline(always)]
    pub(crate) fn from(skb: &Skb) -> Self {
        Self { context: skb.raw() }
    }
}

impl<A> Sources<A> for ByRoute
where
    A: Route,
    Maps: DeviceAddresses<A>,
{
    #[inline(always)]
    fn source(&self, client: &A, endpoint: &A) -> Option<&A> {
        // SAFETY: a field of the context.
        let came_by = unsafe { (*self.context).ifindex };
        let device = device_towards(self.context.cast(), came_by, client, endpoint)?;
        Maps.device_address(device)
    }
}
