//! The command line.

mod check;
mod cleanup;
mod examples;
mod explain;
mod generate;
#[cfg(test)]
mod golden;
mod list;
mod logging;
mod maps;
mod mount;
mod options;
mod output;
mod pause;
mod probe;
mod rows;
mod status;
mod style;
mod table;
mod top;
mod trace;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use check::CheckArgs;
use explain::ExplainArgs;
use generate::{CompletionsArgs, ManArgs};
use maps::{AllArgs, ListArgs};
use mount::MountArgs;
use options::RunArgs;
use probe::ProbeArgs;
use status::StatusArgs;
use top::TopArgs;
use trace::TraceArgs;
use verify::VerifyArgs;

use crate::config::{LogSettings, Settings, with_overrides};
use crate::runtime::{self, Configuration};

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
    /// stop it; what is pinned goes on serving until the next agent takes over, or
    /// `--cleanup` removes it.
    ///
    /// Needs root, or the capabilities BPF, `NET_ADMIN` and PERFMON; Linux 5.15 or newer.
    ///
    /// Exit status: 0 when stopped by a signal, 1 when it could not start or
    /// cannot go on, 2 for wrong usage or a mistake in the configuration file.
    #[command(after_help = examples::RUN_EXAMPLES)]
    Run(Box<RunArgs>),
    /// Say whether this node is fit for the agent, before it is installed.
    ///
    /// Asks the kernel, and loads the programs without attaching them: features, capabilities,
    /// file systems, devices and their drivers, other proxies, settings of the network stack,
    /// ports. Each line is ok, a warning, an error, or could not be found out, with what to do.
    /// Nothing is changed.
    ///
    /// Exit status: 0 where all is ok, but for warnings; 1 with an error; 2 where something could
    /// not be found out.
    #[command(after_help = check::EXAMPLES)]
    Check(CheckArgs),
    /// Print the completions of a shell.
    #[command(after_help = generate::COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
    /// Write the manual pages, one for each command.
    #[command(after_help = generate::MAN_EXAMPLES)]
    Man(ManArgs),
    /// Mount for the host what the agent is not allowed to, and end.
    ///
    /// For an init container: it takes the capability `SYS_ADMIN`, which the agent
    /// itself does not need.
    Mount(MountArgs),
    /// Do nothing until SIGTERM or SIGINT.
    ///
    /// For a DaemonSet that does its work in init containers, such as `run --cleanup`: its
    /// Pods do not end.
    Pause,
    /// Ask the agent on this machine how it is, and end.
    ///
    /// For the kubelet's probes: it asks over the agent's own socket (`--probe-socket` of
    /// `run`), at which nobody else answers.
    ///
    /// Exit status: 0 for yes, 1 for no or no answer.
    Probe(ProbeArgs),
    /// List Services with their frontends, as the kernel has them.
    ///
    /// Reads the maps that the agent has pinned, whether it runs or not. POLICY is the traffic
    /// policy of a frontend, ENDPOINTS and LOCAL the number of endpoints that it leads to under the
    /// policies Cluster and Local.
    ///
    /// Exit status: 0 if there are any, 1 if not, 2 where the maps cannot be read.
    #[command(after_help = examples::SERVICES_EXAMPLES)]
    Services(ListArgs),
    /// List the endpoints of Services, as the kernel has them.
    ///
    /// Reads the maps that the agent has pinned, whether it runs or not. STATE is `serving` where
    /// new connections go to the endpoint, `suspect` where they avoid it since it leaves them
    /// unanswered (setting `unanswered`), `draining` where only established ones do (it
    /// terminates, or hints and policies lead elsewhere), and `gone`.
    ///
    /// Exit status: 0 if there are any, 1 if not, 2 where the maps cannot be read.
    #[command(after_help = examples::BACKENDS_EXAMPLES)]
    Backends(AllArgs),
    /// List the connections and flows of datagrams that the node translates.
    ///
    /// Reads the flow table that the agent has pinned, whether it runs or not, a part at a time:
    /// no packet waits, and rows are printed as they are read. What comes meanwhile may be
    /// missing.
    ///
    /// Exit status: 0 if there are any, 1 if not, 2 where the maps cannot be read.
    #[command(after_help = examples::FLOWS_EXAMPLES)]
    Flows(AllArgs),
    /// List where clients are sent again (sessionAffinity: `ClientIP`).
    ///
    /// Exit status: 0 if there are any, 1 if not, 2 where the maps cannot be read.
    #[command(after_help = examples::AFFINITY_EXAMPLES)]
    Affinity(AllArgs),
    /// Say what becomes of a packet, and why.
    ///
    /// Runs the very code of the data path on a copy of the pinned maps: nothing is sent and
    /// nothing changes, and the agent may run or not. Says which frontend the packet finds, which
    /// endpoints are candidates, the flow that is there already, and on each path what becomes of
    /// source and destination: of packets of a Pod, of packets from outside (by XDP or TC), of the
    /// host's own, and at sockets. Which endpoint is selected at a socket is random. REASONS are
    /// names of the data path's counters.
    ///
    /// Exit status: 0 if the packet is for a Service, 1 if not, 2 where the maps cannot be read.
    #[command(after_help = examples::EXPLAIN_EXAMPLES)]
    Explain(ExplainArgs),
    /// Show how the agent is, and what it has programmed, on one screen.
    ///
    /// Asks the agent on this machine over its own socket. Where none runs, shows what the pinned
    /// maps say.
    ///
    /// Exit status: 0 if the agent is ready, 1 if it starts, is unhealthy or does not run, 2 where
    /// that cannot be told.
    #[command(after_help = examples::STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// Show Services by what they do, live on a terminal.
    ///
    /// Reads the maps that the agent has pinned, whether it runs or not, and shows Service ports by
    /// new connections, packets or totals, with the endpoints of the selected one below, and what
    /// the node drops and refuses. What the maps do not count is not shown: bytes, and drops of each
    /// Service (`trace --drops` tells of those). Of connections that are translated at sockets only
    /// their begin is counted, and no packets.
    ///
    /// Exit status: 0, or 2 where the maps cannot be read or there is no terminal.
    #[command(after_help = examples::TOP_EXAMPLES)]
    Top(TopArgs),
    /// Print new flows, drops and refusals of this node as they come.
    ///
    /// Asks the programs for events, whether the agent runs or not; while nobody does, they tell
    /// nothing, and nothing costs a packet more. A line has the time, the event, the device (or
    /// `socket`), the protocol, source > destination > endpoint, the Service and the reason. `new`
    /// is a flow that was made; `drop` a packet that is dropped; `answer` one that is answered by a
    /// reset or an ICMP error; `refuse` and `time-out` are calls of processes that fail. There is
    /// room for some thousand events that are not read yet; what is lost beyond that is counted,
    /// and printed. One `trace` at a time listens on a node.
    ///
    /// Exit status: 0 if no event was lost, 1 if some were, 2 where there are none to be had.
    #[command(after_help = examples::TRACE_EXAMPLES)]
    Trace(TraceArgs),
    /// Have the agent compare the maps with what it has programmed.
    ///
    /// Makes the audit that the agent also makes by itself now and then. What differs is repaired,
    /// and printed.
    ///
    /// Exit status: 0 if nothing differed, 1 if something did, 2 where no agent answers.
    #[command(after_help = examples::VERIFY_EXAMPLES)]
    Verify(VerifyArgs),
}

/// The exit status for wrong usage, clap's own, and for a mistake in the
/// configuration file: to start again will not help.
const WRONG_USAGE: u8 = 2;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run_agent(&args),
        Command::Check(args) => check::run(&args),
        Command::Completions(args) => generate::completions(&args, &mut Cli::command()),
        Command::Man(args) => generate::man(&args, Cli::command()),
        Command::Mount(args) => {
            let settings = LogSettings {
                json: args.log_format == "json",
                ..LogSettings::default()
            };
            logging::start(&args.log, settings);
            end(mount::run(&args))
        }
        Command::Pause => end(pause::run()),
        Command::Probe(args) => probe::run(&args),
        Command::Services(args) => maps::services(&args),
        Command::Backends(args) => maps::backends(&args),
        Command::Flows(args) => maps::flows(&args),
        Command::Affinity(args) => maps::affinity(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Trace(args) => trace::run(&args),
        Command::Verify(args) => verify::run(&args),
    }
}

fn end(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_agent(args: &RunArgs) -> ExitCode {
    let log = &args.log;
    let overrides = args.overrides();
    let without_file = with_overrides(Settings::default(), &overrides);
    let configuration = match Configuration::read(&args.config, overrides) {
        Ok(read) => read,
        Err(error) => {
            logging::start(log, without_file.log);
            tracing::error!("{error}");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    let settings = configuration.settings();
    let level = logging::start(log, settings.log);
    end(if args.cleanup {
        cleanup::run(settings)
    } else {
        let source = args.source(settings);
        runtime::run(configuration, source, Box::new(move |to| level.set(to)))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use k8s_openapi::api::apps::v1::DaemonSet;
    use k8s_openapi::api::batch::v1::Job;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
    /// The commands in a DaemonSet, of the init container first.
    fn of_the_daemon_set(folder: &str) -> [Command; 2] {
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
        let file = manifests.join(folder).join("daemonset.yaml");
        let text = fs::read_to_string(file).unwrap();
        let daemon_set: DaemonSet = serde_saphyr::from_str(&text).unwrap();
        let pod = daemon_set.spec.unwrap().template.spec.unwrap();
        let containers = pod
            .init_containers
            .unwrap()
            .into_iter()
            .chain(pod.containers);
        let commands = containers.map(|container| {
            // The image's entry point is the agent.
            assert_eq!(container.command, None);
            let args = ["proxy-agent".to_owned()].into_iter();
            let line = Cli::try_parse_from(args.chain(container.args.unwrap()));
            line.unwrap_or_else(|error| panic!("{error}")).command
        });
        let commands: Vec<_> = commands.collect();
        commands.try_into().expect("two containers")
    }

    #[test]
    fn the_command_lines_of_the_clean_up_are_understood() {
        let [first, second] = of_the_daemon_set("cleanup");
        assert!(matches!(first, Command::Run(args) if args.cleanup));
        assert!(matches!(second, Command::Pause));
    }

    #[test]
    fn the_command_line_of_the_check_is_understood() {
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
        let text = fs::read_to_string(manifests.join("check/job.yaml")).unwrap();
        let job: Job = serde_saphyr::from_str(&text).unwrap();
        let pod = job.spec.unwrap().template.spec.unwrap();
        let args = pod.containers[0].args.clone().unwrap();
        let line = ["proxy-agent".to_owned()].into_iter().chain(args);
        let command = Cli::try_parse_from(line).unwrap().command;
        assert!(matches!(command, Command::Check(_)));
    }

    #[test]
    fn the_daemon_sets_command_lines_are_understood() {
        let [first, second] = of_the_daemon_set("base");
        assert!(matches!(first, Command::Mount(_)));
        let Command::Run(run) = second else {
            panic!("not the agent");
        };
        let files = [
            "/var/lib/kube-proxy/config.conf",
            "/etc/proxy-agent/config.conf",
        ];
        assert_eq!(run.config, files.map(PathBuf::from));
    }
}
