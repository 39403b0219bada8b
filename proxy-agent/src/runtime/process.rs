//! Settings of the process itself.

use std::fs;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::warn;

const OOM_SCORE_ADJ: &str = "/proc/self/oom_score_adj";

/// Sets how readily the kernel ends this process when memory is short
/// (`proc_pid_oom_score_adj(5)`); without a score it is left as it is.
pub(super) fn set_oom_score_adj(score: Option<i16>) {
    let Some(score) = score else { return };
    let is = fs::read_to_string(OOM_SCORE_ADJ).unwrap_or_default();
    if is.trim().parse() == Ok(score) {
        return;
    }
    if let Err(error) = fs::write(OOM_SCORE_ADJ, score.to_string()) {
        warn!(
            "oomScoreAdj stays {}: {error} (to lower it takes the capability SYS_RESOURCE)",
            is.trim()
        );
    }
}

/// Lets the process open as many files as it may at all: each health check of a load
/// balancer's Service is a listener on each of the node's addresses, and container
/// runtimes start processes with a limit of 1024 that is theirs to raise.
pub(super) fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(())
    });
    if let Err(error) = raised {
        warn!("cannot raise RLIMIT_NOFILE: {error}");
    }
}

/// Lets the process have as much locked memory as its maps take: before Linux 5.11 they are
/// charged to this limit, which is a few kilobytes in most containers.
pub(super) fn raise_memory_limit() {
    let unlimited = libc::RLIM_INFINITY;
    let raised = setrlimit(Resource::RLIMIT_MEMLOCK, unlimited, unlimited).or_else(|_| {
        let (_, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
        setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard)
    });
    if let Err(error) = raised {
        warn!("cannot raise RLIMIT_MEMLOCK: {error}");
    }
}

/// Gives freed memory back to the kernel, of which loading the programs leaves some 13 MiB
/// behind. (`malloc_trim(3)`, of the GNU C library.)
#[expect(unsafe_code, reason = "a call of the allocator's")]
pub(super) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number, and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
