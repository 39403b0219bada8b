//! The clock of the programs.

/// The time of the programs, which is a jiffy late, in nanoseconds (`bpf_ktime_get_coarse_ns`,
/// bpf-helpers(7)).
#[expect(unsafe_code, reason = "std does not have this clock")]
pub fn coarse() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: fills `now`; this clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) };
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
