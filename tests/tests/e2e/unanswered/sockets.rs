//! The same of connections that are translated at their sockets.

use anyhow::{Result, ensure};
use proxy_tests::lab::{Family, PodNetwork, mirror};

use super::{SUSPECTS, are_left_alone, connect, darken, metric, sent_again, world};
use crate::world::World;

const FLOWS: &str = "proxy_agent_flows_created_total";

#[test]
fn endpoints_that_do_not_answer_sockets_are_left_alone() -> Result<()> {
    let world = world(&["--socket-path", "on"])?;
    let _servers = mirror::start([(1, 1), (1, 2), (2, 1)].map(|(n, p)| world.cluster.pod(n, p)))?;
    let pod = &world.cluster.pod(1, 3).namespace;
    let host = &world.cluster.nodes[0].namespace;
    let before = metric(&world, FLOWS)?;
    for from in [pod, host] {
        ensure!(sent_again(&connect(&world, from, true, 10)?) == 0);
    }
    ensure!(metric(&world, FLOWS)? == before, "packets are translated");
    let dark = &world.cluster.nodes[1].namespace;
    are_left_alone(&world, &[(pod, true), (host, true)], dark, &darken("eth0"))
}

/// Connects until three connections were answered only when their SYN was sent again.
const MAPPED: &str = r#"
import socket, struct, sys
TOTAL_RETRANS = 100  # struct tcp_info, linux/tcp.h
again = 0
while again < 3:
    with socket.socket(socket.AF_INET6) as it:
        it.settimeout(10)
        it.connect(("::ffff:" + sys.argv[1], int(sys.argv[2])))
        info = it.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        again += struct.unpack_from("I", info, TOTAL_RETRANS)[0] > 0
        it.sendall(b"who\n")
        assert it.recv(100).startswith(b"pod-1-")
"#;

#[test]
fn sockets_for_ipv6_with_an_ipv4_peer_count_as_well() -> Result<()> {
    let world = world(&["--socket-path", "on"])?;
    let _servers = mirror::start([(1, 1), (1, 2), (2, 1)].map(|(n, p)| world.cluster.pod(n, p)))?;
    let places = [
        &world.cluster.pod(1, 3).namespace,
        &world.cluster.nodes[0].namespace,
    ];
    let dark = &world.cluster.nodes[1].namespace;
    for from in places {
        connect(&world, from, true, 30)?;
        let mark = world.agents[0].mark();
        dark.nft(&darken("eth0"))?;
        let to = mirror::cluster_ip(Family::V4);
        let mut python = from.command("python3");
        python.args(["-c", MAPPED, &to.ip().to_string(), &to.port().to_string()]);
        let output = python.output()?;
        ensure!(output.status.success(), "{output:?}");
        world.agents[0].wait_for(mark, |event| {
            let message = event["fields"]["message"].as_str();
            message.is_some_and(|it| it.contains("does not answer"))
        })?;
        dark.nft("delete table netdev dark\n")?;
        while metric(&world, SUSPECTS)? > 0 {
            connect(&world, from, true, 20)?;
        }
    }
    Ok(())
}

/// By a bridge the SYN is addressed to the Pod that is dark, and reaches no other.
#[test]
fn pods_that_are_routed_are_retried_from_an_endpoint_of_their_node() -> Result<()> {
    let arguments = ["--socket-path", "on", "--unanswered", "retry"];
    let world = World::with_arguments(PodNetwork::Routed, &arguments)?;
    world.after_programming(|| mirror::add(&world.manifests))?;
    world.scale(mirror::NAME, &[(1, 1), (1, 2), (2, 1)])?;
    let _servers = mirror::start([(1, 1), (1, 2), (2, 1)].map(|(n, p)| world.cluster.pod(n, p)))?;
    let pod = &world.cluster.pod(1, 3).namespace;
    let flows = metric(&world, FLOWS)?;
    ensure!(sent_again(&connect(&world, pod, true, 30)?) == 0);
    ensure!(metric(&world, FLOWS)? == flows, "packets are translated");

    let dark = &world.cluster.pod(1, 1).namespace;
    dark.nft(&darken("eth0"))?;
    let outcomes = connect(&world, pod, true, 60)?;
    ensure!(sent_again(&outcomes) > 0, "{outcomes:?}");
    for by in ["pod-1-2", "pod-2-1"] {
        let mut again = outcomes.iter().filter(|it| it.again > 0);
        ensure!(again.any(|it| it.by == by), "{by}: {outcomes:?}");
    }
    ensure!(outcomes.iter().all(|it| it.by != "pod-1-1"), "{outcomes:?}");
    Ok(())
}
