//! Ticks of the data path as people have time.

use proxy_ebpf::layout::ticks;

/// Whole seconds in so many ticks.
pub(super) fn seconds(count: u32) -> u64 {
    (u64::from(count) << ticks::SHIFT) / 1_000_000_000
}
