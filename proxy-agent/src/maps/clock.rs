//! The clock of the data path.

use std::io;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use proxy_ebpf::layout::ticks;

/// The time as records have it (`bpf_ktime_get_ns`, bpf-helpers(7)), in ticks.
///
/// # Errors
///
/// The kernel's, of `clock_gettime(2)`.
pub fn now() -> io::Result<u32> {
    let since_boot = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
    let nanoseconds = u64::try_from(since_boot.as_nanos()).unwrap_or(u64::MAX);
    Ok(ticks::from_nanoseconds(nanoseconds))
}
