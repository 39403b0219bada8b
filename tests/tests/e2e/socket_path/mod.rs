//! The socket path: what processes of the host and of pods see when they call `connect`
//! and its like.
//!
//! Each call is made by a process of its own in the node's cgroup, mostly by Python,
//! whose sockets are the system's.

mod asker;
mod binds;
mod datagrams;
mod names;
mod others;
mod programs;
mod reach;
mod records;
mod refusals;
mod resets;
mod switch;

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use proxy_tests::lab::{Cluster, Namespace, PodNetwork, Process, mirror};

pub(crate) use asker::Asker;

use crate::world::World;

/// Serves sockets.
const ON: [&str; 2] = ["--socket-path", "on"];

/// What all scripts begin with.
const PRELUDE: &str = r#"
import errno, os, socket, sys, time
TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM

def open_socket(address, kind, mapped=False):
    family = socket.AF_INET6 if mapped or ":" in address else socket.AF_INET
    it = socket.socket(family, kind)
    it.settimeout(3)
    return it

def name_of(code):
    return errno.errorcode.get(code, str(code))

def attempt(call, *arguments):
    try:
        call(*arguments)
        return "ok"
    except OSError as error:
        # Python's own time limit has no number.
        return name_of(error.errno) if error.errno else "timeout"
"#;

/// A Python script that runs in a namespace: `address`, `port` and `more` are its
/// arguments.
fn python_command(from: &Namespace, script: &str, to: SocketAddr, more: &[&str]) -> Command {
    let mut command = from.command("python3");
    let (address, port) = (to.ip().to_string(), to.port().to_string());
    let begin = "address, port, more = sys.argv[1], int(sys.argv[2]), sys.argv[3:]\n";
    command.args(["-c", &format!("{PRELUDE}{begin}{script}"), &address, &port]);
    command.args(more);
    command
}

/// What a Python script prints; what it says to its standard error goes to the test's output.
pub(crate) fn python(
    from: &Namespace,
    script: &str,
    to: SocketAddr,
    more: &[&str],
) -> Result<String> {
    let mut command = python_command(from, script, to, more);
    let output = command.stdin(Stdio::null()).output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{stderr}");
    print!("{stderr}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// A world that serves sockets, with these settings of the project's own.
fn configured(cluster: Cluster, own: &str) -> Result<World> {
    let file = cluster.directory.path().join("config.yaml");
    let text = format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n---\n\
         apiVersion: proxy-agent/v1alpha1\nkind: ProxyAgentConfiguration\n{own}\n"
    );
    std::fs::write(&file, text)?;
    let file = file.display().to_string();
    World::on(cluster, &["--socket-path=on", "--config", &file])
}

/// A world with a mirror behind `pods`, and a server in every pod.
fn mirrors(
    network: PodNetwork,
    arguments: &[&str],
    pods: &[(usize, usize)],
) -> Result<(World, Vec<Process>)> {
    let world = World::with_arguments(network, arguments)?;
    let servers = mirror::start(world.cluster.pods())?;
    world.after_programming(|| mirror::add(&world.manifests))?;
    world.scale(mirror::NAME, pods)?;
    Ok((world, servers))
}

impl World {
    /// A process of node1, and one of a pod of node1.
    fn host_and_pod(&self) -> [(&'static str, &Namespace); 2] {
        [
            ("the host", &self.cluster.nodes[0].namespace),
            ("a pod", &self.cluster.pod(1, 3).namespace),
        ]
    }
}
