//! The command `check`: whether this node is fit for the agent.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::style::begins_with_state;
use crate::check::{Finding, Options, State, findings, json, probe, table};
use crate::config::{DEFAULT_BPFFS, PortRange};

/// What the agent would be started with.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// How to print what was found.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,

    /// The BPF file system in which the agent would pin its maps.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_BPFFS)]
    bpffs: PathBuf,

    /// The setting `natPorts` that the agent would have.
    #[arg(long, value_name = "FIRST-LAST", default_value = "1024-65535")]
    nat_ports: PortRange,
}

/// A form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A line for each finding.
    Table,
    /// The same for programs.
    Json,
}

pub(super) const EXAMPLES: &str = "Examples:
  On a node, as root:
    proxy-agent check

  On a node of a cluster, without installing anything else:
    kubectl apply -k manifests/check/
    kubectl -n kube-system logs job/proxy-agent-check

  What has to be done, alone:
    proxy-agent check -o json | jq -r '.findings[] | select(.advice) | .advice'";

/// Prints what was found; nothing is changed.
pub(super) fn run(args: &CheckArgs) -> ExitCode {
    let options = Options {
        bpffs: args.bpffs.clone(),
        nat_ports: args.nat_ports,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let facts = match runtime {
        Ok(runtime) => runtime.block_on(probe(&options)),
        Err(error) => {
            eprintln!("cannot start the runtime: {error}");
            return ExitCode::from(CANNOT_TELL);
        }
    };
    let findings = findings(&facts);
    match args.output {
        Output::Table => {
            for line in table(&findings).lines() {
                anstream::println!("{}", begins_with_state(line));
            }
        }
        Output::Json => print!("{}", json(&findings)),
    }
    ExitCode::from(exit_code(&findings))
}

const FIT: u8 = 0;
const NOT_FIT: u8 = 1;
const CANNOT_TELL: u8 = 2;

fn exit_code(findings: &[Finding]) -> u8 {
    match findings.iter().map(|finding| finding.state).max() {
        None | Some(State::Ok | State::Warning) => FIT,
        Some(State::Unknown) => CANNOT_TELL,
        Some(State::Error) => NOT_FIT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides_about_the_exit_code() {
        let finding = |state| Finding {
            check: "c".to_owned(),
            state,
            found: String::new(),
            advice: None,
        };
        let code = |states: &[State]| {
            let findings: Vec<_> = states.iter().copied().map(finding).collect();
            exit_code(&findings)
        };
        assert_eq!(code(&[State::Ok, State::Warning]), 0);
        assert_eq!(code(&[State::Error, State::Unknown, State::Ok]), 1);
        assert_eq!(code(&[State::Unknown, State::Warning]), 2);
    }
}
