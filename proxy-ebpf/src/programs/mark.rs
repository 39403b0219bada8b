//! The mark by which TC knows that XDP has translated a packet: to translate it a
//! second time would be wrong, and it is no plain connection either.
//!
//! It lies in the packet's metadata, which the driver hands on to the socket buffer
//! (Linux 4.15). There it may outlive this node's stack, so that it must not mean
//! anything to a node behind a pod's device: the agent sets its value, which is of this
//! network namespace only.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::bpf_xdp_adjust_meta;

/// The mark's value; the agent sets it before it loads the programs.
#[unsafe(no_mangle)]
static TRANSLATED_MARK: u32 = 0;

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
