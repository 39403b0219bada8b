//! Settings of the process itself.

use std::fs;

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
