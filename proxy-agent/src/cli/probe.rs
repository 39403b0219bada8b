//! The command `probe`: asks an agent how it is.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::serve;
use crate::status::Condition;

/// What to ask, and where.
#[derive(Debug, Args)]
pub(super) struct ProbeArgs {
    /// What is asked.
    #[arg(value_enum)]
    question: Question,

    /// The agent's socket.
    #[arg(long, value_name = "FILE")]
    socket: PathBuf,
}

/// What a probe wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Question {
    /// Whether a restart would not help.
    Live,
    /// Whether it serves, its programs being attached and its maps holding what they should,
    /// or would if the agent before it ended.
    Ready,
}

impl Question {
    fn is_answered_by(self, condition: Condition) -> bool {
        match self {
            Self::Live => condition != Condition::Unhealthy,
            Self::Ready => matches!(condition, Condition::Ready | Condition::Standby),
        }
    }
}

/// Asks. What is printed is what the kubelet reports of a probe that failed.
pub(super) fn run(args: &ProbeArgs) -> ExitCode {
    match serve::condition(&args.socket) {
        Ok(condition) => {
            println!("{}", condition.name());
            if args.question.is_answered_by(condition) {
                return ExitCode::SUCCESS;
            }
        }
        Err(error) => println!("{:#}", anyhow::Error::from(error)),
    }
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_starts_is_live_and_not_ready() {
        for (condition, live, ready) in [
            (Condition::Starting, true, false),
            (Condition::Standby, true, true),
            (Condition::Ready, true, true),
            (Condition::Unhealthy, false, false),
        ] {
            assert_eq!(Question::Live.is_answered_by(condition), live);
            assert_eq!(Question::Ready.is_answered_by(condition), ready);
        }
    }
}
