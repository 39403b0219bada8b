//! The command line.

mod configuration;
mod logging;
mod options;
mod pace;
mod preflight;
mod process;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use configuration::Configuration;
use options::RunArgs;

/// The Kubernetes Service proxy on eBPF: sends Service traffic to backend Pods,
/// in place of kube-proxy, with any CNI.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve this node's Services until stopped.
    ///
    /// Loads the eBPF programs, attaches them to every edge device (uplinks,
    /// tunnels, host ends of pods' devices) as devices come and go, and keeps the
    /// kernel's maps in step with the objects of the source. SIGINT and SIGTERM
    /// stop it; the programs are detached then.
    ///
    /// Needs root, or the capabilities BPF, `NET_ADMIN` and PERFMON; Linux 5.15 or newer.
    ///
    /// Exit status: 0 when stopped by a signal, 1 when it could not start or
    /// cannot go on, 2 for wrong usage or a mistake in the configuration file.
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunArgs>),
}

const RUN_EXAMPLES: &str = "Examples:
  Serve a cluster's Services, with the settings of its kube-proxy:
    proxy-agent run --config /var/lib/kube-proxy/config.conf

  The same as this machine's Node, by a kubeconfig file:
    proxy-agent run --hostname-override node1 --kubeconfig /etc/kubernetes/proxy.conf

  Serve the Services in a folder of manifests, as node1:
    proxy-agent run --source files --manifests manifests/examples --hostname-override node1";

/// The exit status for wrong usage, clap's own, and for a mistake in the
/// configuration file: to start again will not help.
const WRONG_USAGE: u8 = 2;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run_agent(*args),
    }
}

fn run_agent(args: RunArgs) -> ExitCode {
    let log = args.log.clone();
    let (configuration, file) = match Configuration::read(args) {
        Ok(read) => read,
        Err(error) => {
            logging::start(&log, log.without_file());
            tracing::error!("{error}");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    let level = logging::start(&log, configuration.settings().log);
    match run::run(configuration, file, &level) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
