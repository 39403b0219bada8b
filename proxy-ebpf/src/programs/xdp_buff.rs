//! A packet that has no socket buffer yet, as the pipeline's packet.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use proxy_ebpf::layout::Bytes;
use proxy_ebpf::pipeline::Packet;

/// No offset of a header exceeds this; the verifier wants a bound.
const MAX_OFFSET: usize = 0x7fff;

/// A packet in a driver's memory, whole: the program does not say that it knows
/// packets of several buffers, so that drivers do not give it any. Its checksums are
/// complete; the agent sees to it that the program is only where they are.
pub(crate) struct XdpBuff {
    raw: *mut xdp_md,
}

impl XdpBuff {
    #[inline(always)]
    pub(crate) fn new(ctx: &XdpContext) -> Self {
        Self { raw: ctx.ctx }
    }

    #[inline(always)]
    pub(crate) fn from_raw(raw: *mut xdp_md) -> Self {
        Self { raw }
    }

    #[inline(always)]
    pub(crate) fn raw(&self) -> *mut xdp_md {
        self.raw
    }

    /// Where a value lies, if all of it is in the packet.
    #[inline(always)]
    fn at<T: Bytes>(&self, offset: usize) -> Option<*mut T> {
        if offset > MAX_OFFSET {
            return None;
        }
        // SAFETY: fields of the context.
        let (data, end) = unsafe { ((*self.raw).data as usize, (*self.raw).data_end as usize) };
        let start = data + offset;
        (start + size_of::<T>() <= end).then_some(start as *mut T)
    }
}

impl Packet for XdpBuff {
    /// Such packets are left to TC: with offsets that depend on what the packet says,
    /// the verifier has to follow three times as much.
    const MAX_EXTENSION_HEADERS: usize = 0;

    #[inline(always)]
    fn len(&self) -> usize {
        // SAFETY: fields of the context.
        unsafe { ((*self.raw).data_end as usize).saturating_sub((*self.raw).data as usize) }
    }

    #[inline(always)]
    fn device(&self) -> u32 {
        // SAFETY: a field of the context.
        unsafe { (*self.raw).ingress_ifindex }
    }

    /// The hook has passed all others before.
    #[inline(always)]
    fn is_for_host(&self) -> bool {
        true
    }

    #[inline(always)]
    fn read<T: Bytes>(&self, offset: usize) -> Option<T> {
        // SAFETY: the verifier proves the bounds from the check in `at`. The targets of
        // eBPF that Kubernetes runs on load words from any address.
        self.at::<T>(offset).map(|value| unsafe { *value })
    }

    #[inline(always)]
    fn write<T: Bytes>(&mut self, offset: usize, value: &T) -> Option<()> {
        let place = self.at::<T>(offset)?;
        // SAFETY: as in `read`, and `value` has no padding.
        unsafe { *place = *value };
        Some(())
    }

    #[inline(always)]
    fn update<T: Bytes>(&mut self, offset: usize, change: impl FnOnce(T) -> T) -> Option<()> {
        let place = self.at::<T>(offset)?;
        // SAFETY: as in `read` and `write`.
        unsafe { *place = change(*place) };
        Some(())
    }

    #[inline(always)]
    fn adjust_sctp_checksum(&mut self, offset: usize, change: u32) -> Option<()> {
        let sum = self.at::<u32>(offset)?;
        // SAFETY: as in `read` and `write`.
        unsafe { *sum ^= change };
        Some(())
    }

    #[inline(always)]
    fn is_checksum_partial(&mut self, _: usize, _: u16) -> bool {
        false
    }

    /// TC does this, and what follows.
    #[inline(always)]
    fn prepend<T: Bytes>(&mut self, _: usize, _: usize, _: &T) -> Option<()> {
        None
    }

    #[inline(always)]
    fn encapsulate<T: Bytes>(&mut self, _: usize, _: &T) -> Option<()> {
        None
    }

    #[inline(always)]
    fn decapsulate(&mut self, _: usize, _: usize) -> Option<()> {
        None
    }
}
