//! Where a packet goes next, by the kernel's forwarding tables.

use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::bpf_fib_lookup;

use crate::forward::Route;
use crate::statics::LOOKUP;

/// `struct bpf_fib_lookup` of `linux/bpf.h`, with its unions resolved to what is
/// used here.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct FibLookup {
    pub(crate) family: u8,
    pub(crate) protocol: u8,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    /// How long the packet is; then, how long it may be.
    pub(crate) length: u16,
    pub(crate) device: u32,
    pub(crate) flow_info: u32,
    pub(crate) source: [u32; 4],
    pub(crate) destination: [u32; 4],
    pub(crate) vlan: u32,
    pub(crate) source_link: [u16; 3],
    pub(crate) destination_link: [u16; 3],
}

const _: () = assert!(size_of::<FibLookup>() == size_of::<aya_ebpf::bindings::bpf_fib_lookup>());

/// Looks up the next hop; returns one of `BPF_FIB_LKUP_RET_*`.
#[inline(always)]
pub(crate) fn fib_lookup(context: *mut c_void, lookup: &mut FibLookup) -> i64 {
    // SAFETY: `lookup` has the layout and the size of the helper's argument.
    unsafe {
        bpf_fib_lookup(
            context,
            core::ptr::from_mut(lookup).cast(),
            size_of::<FibLookup>() as i32,
            0,
        )
    }
}

/// The device by which a packet leaves that came in by `device`; if it has no way, any.
#[inline(always)]
pub(crate) fn output_device<A: Route>(
    context: *mut c_void,
    device: u32,
    source: &A,
    destination: &A,
) -> Option<u32> {
    // The stack has no room. Programs at ingress and egress come here, which never interrupt one
    // another on a CPU: both run with softirqs disabled.
    let lookup = LOOKUP.get_ptr_mut(0)?;
    // SAFETY: this CPU's own element, which nothing else uses until this function ends.
    let lookup = unsafe { &mut *lookup };
    *lookup = FibLookup {
        family: A::FAMILY,
        // One that is never too long.
        length: 1,
        device,
        source: source.to_fib_words(),
        destination: destination.to_fib_words(),
        ..FibLookup::default()
    };
    fib_lookup(context, lookup);
    Some(lookup.device)
}
