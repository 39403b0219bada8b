//! The address with which packets leave that are sent on.

use aya_ebpf::bindings::__sk_buff;
use proxy_ebpf::pipeline::Sources;

use crate::fib::device_towards;
use crate::forward::Route;
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

impl<A: Route> Sources<A> for ByRoute {
    #[inline(always)]
    fn source(&self, client: &A, endpoint: &A) -> Option<&A> {
        // SAFETY: a field of the context.
        let came_by = unsafe { (*self.context).ifindex };
        let device = device_towards(self.context.cast(), came_by, client, endpoint)?;
        // SAFETY: not preallocated, so a deleted element is not reused while this program
        // runs.
        unsafe { A::device_addresses().get(device) }
    }
}
