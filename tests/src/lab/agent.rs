//! The real agent, on a node of the lab.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
    process::ExitStatus,
    time::Duration,
};

use anyhow::Result;
use serde_json::Value;

use super::{bpffs::Bpffs, node::Node, process::Process};

/// How long a start or a change may take before a test gives up on it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The socket path is off where a test does not ask for it: most ask by sockets of their
/// own process, which is in no node's cgroup, and are about packets.
const SOCKET_PATH: &str = "--socket-path";
/// Where a test does not say where sockets are served, that is in the node's cgroup.
const CGROUP: &str = "--cgroup";
/// So that each round of programming is logged, which most tests wait for.
const LOG_LEVEL: &str = "info,proxy_agent::agent=debug";

/// A running agent; killed on drop.
#[derive(Debug)]
pub struct Agent {
    process: Process,
}

impl Agent {
    /// Starts the agent binary in a node's namespace, on a folder of manifests.
    pub fn start(binary: &Path, node: &Node, manifests: &Path) -> Result<Self> {
        Self::start_with(binary, node, manifests, &[] as &[&str])
    }

    /// The same, with further arguments.
    pub fn start_with(
        binary: &Path,
        node: &Node,
        manifests: &Path,
        arguments: &[impl AsRef<OsStr>],
    ) -> Result<Self> {
        Self::run(binary, node, None, &from_files(manifests, arguments))
    }

    /// The same, with a BPF file system, so that what it attaches outlives it.
    pub fn start_pinned(
        binary: &Path,
        node: &Node,
        bpffs: &Bpffs,
        manifests: &Path,
        arguments: &[&str],
    ) -> Result<Self> {
        Self::run(binary, node, Some(bpffs), &from_files(manifests, arguments))
    }

    /// Starts it on a node, as the Node of the same name of an API server.
    pub fn start_at(binary: &Path, node: &Node, master: &str, arguments: &[&str]) -> Result<Self> {
        Self::run(binary, node, None, &from_server(master, arguments))
    }

    /// The same, with a BPF file system.
    pub fn start_pinned_at(
        binary: &Path,
        node: &Node,
        bpffs: &Bpffs,
        master: &str,
        arguments: &[&str],
    ) -> Result<Self> {
        Self::run(binary, node, Some(bpffs), &from_server(master, arguments))
    }

    fn run(
        binary: &Path,
        node: &Node,
        bpffs: Option<&Bpffs>,
        arguments: &[OsString],
    ) -> Result<Self> {
        let mut command = node.namespace.command_with(bpffs, binary);
        command.args(["run", "--node-name", &node.name, "--log-format", "json"]);
        command.args(["--log-level", LOG_LEVEL]);
        if bpffs.is_none() {
            // Not that of this machine: nodes would get in each other's way.
            command.args(["--bpffs", "none"]);
        }
        command.args(arguments);
        let names = |option: &str| {
            let is_it = |it: &OsString| it.to_string_lossy().starts_with(option);
            arguments.iter().any(is_it)
        };
        if !names(SOCKET_PATH) {
            command.args([SOCKET_PATH, "off"]);
        }
        if let Some(cgroup) = node.namespace.cgroup().filter(|_| !names(CGROUP)) {
            command.arg(CGROUP).arg(cgroup.path());
        }
        let process = Process::spawn(&format!("proxy-agent on {}", node.name), command)?;
        Ok(Self { process })
    }

    /// This point in the log: take it before a change, to wait for the change's effect.
    pub fn mark(&self) -> usize {
        self.process.mark()
    }

    /// Waits until the agent has programmed its first full state.
    pub fn wait_programmed(&self) -> Result<Value> {
        self.wait_programmed_after(0)
    }

    /// Waits until the agent has programmed ports of Services after a mark.
    pub fn wait_ports_programmed_after(&self, mark: usize) -> Result<Value> {
        self.wait_for(mark, |event| {
            let ports = event["fields"]["ports"].as_u64();
            message(event) == Some("programmed") && ports.is_some_and(|ports| ports > 0)
        })
    }

    /// Waits for the first state with ports of Services that the agent programs; for one
    /// that takes long.
    pub fn wait_ports_programmed_within(&self, patience: Duration) -> Result<()> {
        self.wait_ports_programmed_within_after(0, patience)
    }

    /// The same, after a mark.
    pub fn wait_ports_programmed_within_after(
        &self,
        mark: usize,
        patience: Duration,
    ) -> Result<()> {
        let has_ports = |line: &str| {
            serde_json::from_str(line).is_ok_and(|event: Value| {
                let ports = event["fields"]["ports"].as_u64();
                message(&event) == Some("programmed") && ports.is_some_and(|ports| ports > 0)
            })
        };
        self.process
            .wait_for_line_after(mark, patience, has_ports)?;
        Ok(())
    }

    /// Waits until the agent has programmed something after a mark, be it only a setting
    /// or what it has found out about the node.
    pub fn wait_programmed_after(&self, mark: usize) -> Result<Value> {
        self.wait_for(mark, |event| message(event) == Some("programmed"))
    }

    /// Waits until the programs are on a device.
    pub fn wait_attached(&self, device: &str) -> Result<Value> {
        self.wait_for(0, |event| {
            message(event) == Some("attached") && event["fields"]["device"] == device
        })
    }

    /// Waits for a log event after a mark, and returns it.
    pub fn wait_for(&self, mark: usize, mut wanted: impl FnMut(&Value) -> bool) -> Result<Value> {
        let line = self.process.wait_for_line_after(mark, TIMEOUT, |line| {
            serde_json::from_str(line).is_ok_and(|event| wanted(&event))
        })?;
        Ok(serde_json::from_str(&line)?)
    }

    /// What it is called in messages: it names its node.
    pub fn name(&self) -> &str {
        self.process.name()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The log so far.
    pub fn log(&self) -> Vec<String> {
        self.process.lines()
    }

    /// Ends the agent as Kubernetes does, with SIGTERM.
    pub fn stop(self) -> Result<ExitStatus> {
        self.process.terminate(TIMEOUT)
    }
}

/// The arguments of an agent on a folder of manifests.
fn from_files(manifests: &Path, more: &[impl AsRef<OsStr>]) -> Vec<OsString> {
    let mut arguments = vec![
        OsString::from("--source"),
        "files".into(),
        "--manifests".into(),
        manifests.into(),
    ];
    arguments.extend(more.iter().map(|argument| argument.as_ref().to_owned()));
    arguments
}

/// The arguments of an agent that follows an API server.
fn from_server(master: &str, more: &[&str]) -> Vec<OsString> {
    let source = ["--source", "kube", "--master", master];
    source.iter().chain(more).map(OsString::from).collect()
}

fn message(event: &Value) -> Option<&str> {
    event["fields"]["message"].as_str()
}
