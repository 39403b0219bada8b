//! The source address of forwarded packets: that of the output device.

use aya_ebpf::bindings::__sk_buff;
use proxy_ebpf::pipeline::MasqueradeSource;

use crate::fib::output_device;
use crate::forward::Route;
use crate::skb::Skb;

/// What is sent on has the address of the device by which it leaves.
pub(crate) struct OutputDeviceSource {
    context: *mut __sk_buff,
}

impl OutputDeviceSource {
    #[inline(always)]
    pub(crate) fn from(skb: &Skb) -> Self {
        Self { context: skb.raw() }
    }
}

impl<A: Route> MasqueradeSource<A> for OutputDeviceSource {
    #[inline(always)]
    fn source(&self, client: &A, endpoint: &A) -> Option<&A> {
        // SAFETY: a field of the context.
        let came_by = unsafe { (*self.context).ifindex };
        let device = output_device(self.context.cast(), came_by, client, endpoint)?;
        // SAFETY: not preallocated, so a deleted element is not reused while this program
        // runs.
        unsafe { A::device_addresses().get(device) }
    }
}
