//! Starting and stopping the agent.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use proxy_tests::lab::{
    Agent, Cluster, Family, Manifests, Options, PodNetwork, Process, Tally, client,
};

use crate::world::{World, agent_program, cluster_ip};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Runs the agent on a node until it ends by itself: its exit status and output.
fn run_to_its_end(
    cluster: &Cluster,
    wrapper: &[&str],
    arguments: &[&str],
) -> Result<(i32, String)> {
    let program = agent_program();
    let namespace = &cluster.nodes[0].namespace;
    let mut command: Command = match wrapper {
        [] => namespace.command(&program),
        [first, rest @ ..] => {
            let mut command = namespace.command(first);
            command.args(rest).arg(&program);
            command
        }
    };
    command.args(arguments);
    let mut process = Process::spawn("proxy-agent", command)?;
    let status = process.wait(TIMEOUT)?;
    Ok((status.code().unwrap_or(-1), process.lines().join("\n")))
}

#[test]
fn without_pins_a_stop_detaches() -> Result<()> {
    let mut world = World::new(PodNetwork::Bridge)?;
    let status = world.agents.remove(0).stop()?;
    assert_eq!(status.code(), Some(0));
    // The NodePort answers no more: nothing of the agent is left on the node.
    let refused = world.cluster.client.run(|| {
        let address = world.node_port(1, Family::V4, 30080);
        std::net::TcpStream::connect_timeout(&address, TIMEOUT)
    })?;
    assert_eq!(
        refused.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    Ok(())
}

#[test]
fn an_agent_that_was_killed_leaves_nothing_in_the_way_of_the_next() -> Result<()> {
    let arguments = ["--attach", "clsact"];
    let mut world = World::with_arguments(PodNetwork::Bridge, &arguments)?;
    // Its filters stay on the devices, with its maps.
    drop(world.agents.remove(0));
    let pods = [world.cluster.pod(2, 2)];
    world.manifests.set_endpoints("web", &pods)?;
    let node = &world.cluster.nodes[0];
    let next = Agent::start_with(&agent_program(), node, world.manifests.path(), &arguments)?;
    next.wait_attached("veth3")?;
    let from = &world.cluster.pod(1, 3).namespace;
    let frontend = SocketAddr::new(cluster_ip("web", Family::V4), 80);
    let tally = Tally::of(10, || client::http(from, frontend));
    assert_eq!(tally.answers, [("pod-2-2".to_owned(), 10)].into());
    Ok(())
}

/// The filters and qdiscs of node 1, as tc shows them.
fn traffic_control(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let mut tc = cluster.nodes[0].namespace.command("tc");
    Ok(String::from_utf8(tc.args(arguments).output()?.stdout)?)
}

#[test]
fn cleanup_removes_what_a_killed_agent_left_and_nothing_else() -> Result<()> {
    let mut world = World::with_arguments(PodNetwork::Bridge, &["--attach", "clsact"])?;
    drop(world.agents.remove(0));
    let cluster = &world.cluster;
    let tc = |arguments: &str| {
        let arguments: Vec<_> = arguments.split(' ').collect();
        traffic_control(cluster, &arguments)
    };
    // Somebody else's: a filter beside ours, and a qdisc with nothing in it.
    let theirs = "filter add dev veth1 ingress pref 77 bpf bytecode";
    let mut add = cluster.nodes[0].namespace.command("tc");
    add.args(theirs.split(' '))
        .args(["1,6 0 0 0", "flowid", "1:1"]);
    anyhow::ensure!(add.status()?.success(), "{theirs}");
    tc("qdisc add dev cni0 clsact")?;
    for (device, program) in [
        ("eth0", "egress_outside"),
        ("veth1", "egress_pod"),
        ("veth2", "egress_pod"),
    ] {
        let filters = tc(&format!("filter show dev {device} egress"))?;
        assert!(filters.contains(program), "{device}: {filters}");
    }

    let (status, output) = run_to_its_end(cluster, &[], &["run", "--cleanup"])?;
    assert_eq!(status, 0, "{output}");
    for device in ["eth0", "veth2", "veth3"] {
        let left = tc(&format!("qdisc show dev {device}"))?;
        assert!(!left.contains("clsact"), "{device}: {left}");
    }
    for device in ["cni0", "veth1"] {
        let left = tc(&format!("qdisc show dev {device}"))?;
        assert!(left.contains("clsact"), "{device}: {left}");
    }
    let left = tc("filter show dev veth1 ingress")? + &tc("filter show dev veth1 egress")?;
    assert!(left.contains("bytecode"), "{left}");
    assert!(
        !left.contains("ingress_pod") && !left.contains("egress_pod"),
        "{left}"
    );
    Ok(())
}

#[test]
fn an_agent_without_capabilities_says_what_it_lacks() -> Result<()> {
    let cluster = Cluster::new(Options::default())?;
    let manifests = Manifests::copy_examples(cluster.directory.path())?;
    let folder = manifests.path().to_string_lossy().into_owned();
    let (status, output) = run_to_its_end(
        &cluster,
        &["setpriv", "--bounding-set=-all", "--inh-caps=-all"],
        &[
            "run",
            "--source",
            "files",
            "--manifests",
            &folder,
            "--node-name",
            "node1",
        ],
    )?;
    assert_eq!(status, 1, "{output}");
    assert!(output.contains("CAP_BPF"), "{output}");
    Ok(())
}

#[test]
fn a_folder_that_is_not_there_is_named() -> Result<()> {
    let cluster = Cluster::new(Options::default())?;
    let (status, output) = run_to_its_end(
        &cluster,
        &[],
        &[
            "run",
            "--source",
            "files",
            "--manifests",
            "/nowhere/at/all",
            "--node-name",
            "node1",
        ],
    )?;
    assert_eq!(status, 1, "{output}");
    assert!(output.contains("/nowhere/at/all"), "{output}");
    Ok(())
}

#[test]
fn wrong_usage_is_told_from_failure() -> Result<()> {
    let cluster = Cluster::new(Options::default())?;
    let (status, output) = run_to_its_end(
        &cluster,
        &[],
        &["run", "--source", "files", "--node-name", "node1"],
    )?;
    assert_eq!(status, 2, "{output}");
    assert!(output.contains("--manifests"), "{output}");
    Ok(())
}
