//! Where a packet goes next, by the kernel's forwarding tables.

use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::bpf_fib_lookup;

/// `struct bpf_fib_lookup` of `linux/bpf.h`, with its unions resolved to what is
/// used here.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Lookup {
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

const _: () = assert!(size_of::<Lookup>() == size_of::<aya_ebpf::bindings::bpf_fib_lookup>());

/// Looks up the next hop; returns one of `BPF_FIB_LKUP_RET_*`.
#[inline(always)]
pub(crate) fn look_up(context: *mut c_void, lookup: &mut Lookup) -> i64 {
    // SAFETY: `lookup` has the layout and the size of the helper's argument.
    unsafe {
        bpf_fib_lookup(
            context,
            core::ptr::from_mut(lookup).cast(),
            size_of::<Lookup>() as i32,
            0,
        )
    }
}
