//! Waiting until no running program can see what was replaced.
#![expect(unsafe_code, reason = "a system call that libc does not wrap")]

use std::time::Duration;

/// `MEMBARRIER_CMD_GLOBAL` of `linux/membarrier.h`: the kernel answers after an
/// RCU grace period (`synchronize_rcu`, kernel/sched/membarrier.c), and every run
/// of a networking program is an RCU reader.
const MEMBARRIER_CMD_GLOBAL: libc::c_long = 1;

/// Where the kernel refuses the call (no `CONFIG_MEMBARRIER`, `nohz_full` CPUs, a
/// seccomp filter): programs run for microseconds, without sleeping; a hundred
/// milliseconds outlast any of them.
const FALLBACK: Duration = Duration::from_millis(100);

/// Returns once no program that was running at the call still runs. Blocks for
/// some tens of milliseconds.
pub fn synchronize_rcu() {
    // SAFETY: takes no pointers.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result != 0 {
        std::thread::sleep(FALLBACK);
    }
}
