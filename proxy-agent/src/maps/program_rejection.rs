//! Why the kernel refused a program or a link.

use std::error::Error;
use std::{fmt, fs};

use aya::programs::ProgramError;
use tracing::debug;

/// An error of loading or attaching a program, in one line.
///
/// What the verifier writes has thousands of lines; the last one says what it refused. The
/// whole goes to the log at the level `debug`.
#[derive(Debug)]
pub struct ProgramRejection(ProgramError);

impl ProgramRejection {
    /// Whether the program could not be loaded at all.
    pub fn is_of_load(&self) -> bool {
        matches!(self.0, ProgramError::LoadError { .. })
    }
}

impl From<ProgramError> for ProgramRejection {
    fn from(error: ProgramError) -> Self {
        if let ProgramError::LoadError { verifier_log, .. } = &error {
            debug!("the verifier says: {verifier_log}");
        }
        Self(error)
    }
}

impl fmt::Display for ProgramRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ProgramError::LoadError {
            io_error,
            verifier_log,
        } = &self.0
        else {
            return self.0.fmt(f);
        };
        write!(f, "{io_error}")?;
        if io_error.raw_os_error() == Some(libc::EPERM) {
            return f.write_str(
                "; has the process the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON?",
            );
        }
        match last_words(&verifier_log.to_string()) {
            Some(line) => write!(
                f,
                "; the verifier: {line} (all of it with the log level debug)"
            ),
            None => Ok(()),
        }
    }
}

impl Error for ProgramRejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        if self.is_of_load() {
            None
        } else {
            self.0.source()
        }
    }
}

/// The line before the verifier's account of its work.
fn last_words(log: &str) -> Option<&str> {
    /// "processed 12 insns (limit 1000000) ..."
    const ACCOUNT: &str = "processed ";
    let mut lines = log.lines().rev().map(str::trim);
    lines.find(|line| !line.is_empty() && !line.starts_with(ACCOUNT))
}

/// The running kernel's release, as `uname -r` says it.
pub(crate) fn running_kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    release.map_or_else(
        |_| "of an unknown release".to_owned(),
        |it| it.trim().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_what_was_refused() {
        let log = "0: R1=ctx()\n1: (95) exit\nR0 !read_ok\n\
                   processed 1 insns (limit 1000000) max_states_per_insn 0\n\n";
        assert_eq!(last_words(log), Some("R0 !read_ok"));
        assert_eq!(last_words(""), None);
    }
}
