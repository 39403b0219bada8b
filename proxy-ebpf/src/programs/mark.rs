//! The mark by which TC recognizes packets that XDP has already translated.
//!
//! It is stored in the XDP metadata, which the driver copies to the skb (Linux 4.15). The skb
//! can carry it into a Pod that runs such a proxy itself, so the value is specific to this
//! network namespace; the agent sets it.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::bpf_xdp_adjust_meta;

/// The mark's value; the agent sets it before it loads the programs.
#[unsafe(no_mangle)]
static TRANSLATED_MARK: u32 = 0;

/// The same for `tc_index`, which has 16 bits. 0 is what every packet has.
#[inline(always)]
pub(crate) fn tc_index() -> u32 {
    let value = value();
    let folded = (value ^ value >> 16) & 0xffff;
    if folded == 0 { 1 } else { folded }
}

#[inline(always)]
fn value() -> u32 {
    // SAFETY: reads a static; the compiler shall not know its value.
    unsafe { core::ptr::read_volatile(&raw const TRANSLATED_MARK) }
}

/// Marks the packet, where its driver has metadata.
#[inline(always)]
pub(crate) fn set(packet: *mut xdp_md) -> bool {
    // SAFETY: the helper changes nothing where it fails; the verifier proves the bounds
    // from the check.
    unsafe {
        if bpf_xdp_adjust_meta(packet, -(size_of::<u32>() as i32)) != 0 {
            return false;
        }
        let start = (*packet).data_meta as usize;
        if start + size_of::<u32>() > (*packet).data as usize {
            return false;
        }
        *(start as *mut u32) = value();
        true
    }
}

/// Whether XDP has marked the packet.
#[inline(always)]
pub(crate) fn is_set(packet: *mut __sk_buff) -> bool {
    // SAFETY: as above.
    unsafe {
        let start = (*packet).data_meta as usize;
        start + size_of::<u32>() <= (*packet).data as usize && *(start as *const u32) == value()
    }
}
