//! Connections that a proxy in netfilter has, and the agent that takes its place.

use std::io::BufReader;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::mirror::{self, Conversation};
use proxy_tests::lab::spoof::segment;
use proxy_tests::lab::{Agent, Family, Pod, Process, Spoofer};
use proxy_tests::packets::tcp_flags::SYN;

use super::{End, Lasting, PATIENCE, ask_all, conversations, message};
use crate::telling::probe;

/// What a proxy in netfilter does for the mirror, on node 1: DNAT to one pod, and
/// masquerade of whoever it says.
fn rules(to: &Pod, masqueraded: &str) -> String {
    let rules = |(family, table): (Family, &str)| {
        let (frontend, endpoint) = (mirror::cluster_ip(family), to.addresses.of(family));
        let endpoint = SocketAddr::new(endpoint, mirror::PORT);
        let (address, port) = (frontend.ip(), frontend.port());
        format!(
            "table {table} proxy {{
                chain prerouting {{
                    type nat hook prerouting priority -100;
                    {table} daddr {address} meta l4proto {{ tcp, udp }} th dport {port} dnat to {endpoint}
                    fib daddr type local meta l4proto {{ tcp, udp }} th dport {} dnat to {endpoint}
                }}
                chain postrouting {{
                    type nat hook postrouting priority 100;
                    ct status dnat {masqueraded} masquerade
                }}
            }}\n",
            mirror::NODE_PORT,
        )
    };
    [(Family::V4, "ip"), (Family::V6, "ip6")]
        .map(rules)
        .concat()
}

/// An agent starts on node 1, cannot reach its API server, and ends: it has attached nothing,
/// and was alive but not ready.
fn starts_without_its_server(it: &Lasting) -> Result<()> {
    let node = &it.world.cluster.nodes[0];
    let socket = it.world.cluster.directory.path().join("run/probe.sock");
    let socket = socket.to_string_lossy();
    let arguments = ["--probe-socket", &socket];
    let nowhere = "http://127.0.0.1:1";
    let agent = Agent::start_pinned_at(&it.program, node, &it.bpffs, nowhere, &arguments)?;
    agent.wait_for(0, |event| event["fields"]["what"] == "probes")?;
    let failed = agent.wait_for(0, |event| message(event).starts_with("services:"))?;
    let failed = message(&failed);
    ensure!(
        failed.contains("(http://127.0.0.1:1/, of --master)"),
        "{failed}"
    );
    let says = |question: &str| probe(&it.program, question, &socket);
    ensure!(says("live")? == (true, "starting\n".to_owned()));
    ensure!(says("ready")? == (false, "starting\n".to_owned()));
    agent.stop()?;
    ensure!(!says("live")?.0, "it has gone");
    Ok(())
}

/// The mirror behind rules of node 1 that lead to Pod 1 of node 2, while the API has Pod 2.
fn behind_rules() -> Result<(Lasting, Vec<Process>)> {
    let it = Lasting::without_agent()?;
    it.world
        .after_programming(|| mirror::add(&it.world.manifests))?;
    it.world.scale(mirror::NAME, &[(2, 2)])?;
    let pods = [(2, 1), (2, 2)].map(|(node, pod)| it.world.cluster.pod(node, pod));
    let servers = mirror::start(pods)?;
    let node = &it.world.cluster.nodes[0].namespace;
    node.nft(&rules(pods[0], ""))?;
    Ok((it, servers))
}

#[test]
fn connections_of_a_proxy_in_netfilter_stay_its_own() -> Result<()> {
    let (mut it, _servers) = behind_rules()?;
    let mut open = conversations(&it.world)?;
    ask_all(&mut open, "pod-2-1").context("by netfilter")?;

    starts_without_its_server(&it)?;
    ask_all(&mut open, "pod-2-1").context("by netfilter, beside an agent without its server")?;
    it.start()?;
    for _ in 0..3 {
        ask_all(&mut open, "pod-2-1").context("by netfilter still")?;
    }
    let mut fresh = conversations(&it.world)?;
    ask_all(&mut fresh, "pod-2-2").context("by the agent")?;
    // Another agent does not change that.
    it.end(End::Killed)?;
    it.start()?;
    ask_all(&mut open, "pod-2-1").context("by netfilter, after a restart")?;
    ask_all(&mut fresh, "pod-2-2").context("by the agent, after a restart")?;
    Ok(())
}

/// They have the endpoint, and the source, that netfilter gave them, and go on without it.
#[test]
fn connections_of_a_proxy_in_netfilter_are_taken_over() -> Result<()> {
    for (endpoint, masqueraded) in [
        ((2, 1), ""),
        // All, as for a frontend with the policy Cluster; or only who comes from outside.
        ((1, 1), ""),
        ((1, 1), "iifname != \"veth3\""),
    ] {
        let mut it = Lasting::without_agent()?;
        it.world
            .after_programming(|| mirror::add(&it.world.manifests))?;
        it.world.scale(mirror::NAME, &[endpoint])?;
        let pod = it.world.cluster.pod(endpoint.0, endpoint.1);
        let _servers = mirror::start([pod])?;
        let name = pod.name.clone();
        let node = &it.world.cluster.nodes[0].namespace;
        node.nft(&rules(pod, masqueraded))?;
        let mut open = conversations(&it.world)?;
        ask_all(&mut open, &name).context("by netfilter")?;
        let peers = peers(&mut open)?;

        it.start()?;
        it.agent().wait_for(0, |event| {
            message(event) == "connections of netfilter taken over"
                && event["fields"]["taken"] == open.len()
        })?;
        ask_all(&mut open, &name).context("beside netfilter's rules")?;
        it.world.cluster.nodes[0].namespace.nft("flush ruleset")?;
        for _ in 0..2 {
            let now = self::peers(&mut open).context("without them")?;
            assert_eq!(now, peers, "{endpoint:?}");
        }
        let mut fresh = conversations(&it.world)?;
        ask_all(&mut fresh, &name).context("by the agent")?;
        it.end(End::Killed)?;
        it.start()?;
        ask_all(&mut open, &name).context("after a restart")?;
    }
    Ok(())
}

/// Whom the endpoints of conversations see.
fn peers(open: &mut [Conversation]) -> Result<Vec<IpAddr>> {
    open.iter_mut()
        .enumerate()
        .map(|(number, conversation)| {
            let answer = conversation.ask();
            let answer = answer.with_context(|| format!("conversation {number}"))?;
            Ok(answer.peer)
        })
        .collect()
}

/// A neighbour's SYN begins no connection where one is already.
#[test]
fn a_syn_alone_takes_no_connection_of_a_proxy_in_netfilter() -> Result<()> {
    let (mut it, _servers) = behind_rules()?;
    let routes = Family::BOTH.map(|family| {
        let node_port = it.world.node_port(1, family, mirror::NODE_PORT);
        let pod = &it.world.cluster.pod(1, 3).namespace;
        [
            (pod, mirror::cluster_ip(family)),
            (&it.world.cluster.client, node_port),
        ]
    });
    let mut open = Vec::new();
    for (from, to) in routes.into_iter().flatten() {
        let stream = from.run(|| TcpStream::connect_timeout(&to, PATIENCE))??;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let source = stream.local_addr()?;
        let conversation = Conversation::Tcp(BufReader::new(stream));
        open.push((conversation, source, to));
    }
    for (conversation, _, to) in &mut open {
        let answer = conversation.ask();
        let answer = answer.with_context(|| format!("{to}, by netfilter"))?;
        assert_eq!(answer.pod, "pod-2-1");
    }
    it.start()?;
    let neighbour = Spoofer::new(&it.world.cluster.pod(1, 1).namespace)?;
    for (_, source, to) in &open {
        neighbour.send(&segment(*source, *to, SYN, [0x1357_9bdf, 0]))?;
    }
    thread::sleep(Duration::from_millis(50));
    for (conversation, _, to) in &mut open {
        for round in 0..2 {
            let answer = conversation.ask();
            let answer = answer.with_context(|| format!("{to}, round {round}"))?;
            assert_eq!(answer.pod, "pod-2-1");
        }
    }
    Ok(())
}
