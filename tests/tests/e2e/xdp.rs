//! XDP in front of TC on the uplink.

use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::programs::XdpMode;
use proxy_agent::maps::{MapSizes, SocketScope, load};
use proxy_tests::lab::client::{self, Transport};
use proxy_tests::lab::{Agent, Cluster, Family, Load, Namespace, Options, set_offload};
use serde_json::Value;

use crate::connections::{check_bulk, serve_iperf3};
use crate::metrics::{metrics, value};
use crate::world::{DNS_NODE_PORT, WEB_NODE_PORT, World};

const PATIENCE: Duration = Duration::from_secs(20);

/// A cluster whose agents use XDP also on the lab's cables.
pub(crate) fn world() -> Result<World> {
    let cluster = Cluster::new(Options::default())?;
    cluster.make_cables_like_hardware()?;
    let world = World::on(cluster, &["--xdp=always"])?;
    for agent in &world.agents {
        agent.wait_for(0, |event| is_attached(event, "eth0"))?;
    }
    Ok(world)
}

fn is_attached(event: &Value, device: &str) -> bool {
    event["fields"]["message"] == "XDP attached" && event["fields"]["device"] == device
}

fn is_refused(event: &Value, device: &str) -> bool {
    let message = event["fields"]["message"].as_str().unwrap_or_default();
    message.contains(&format!("no XDP on {device}"))
}

/// How many packets XDP has passed on and transmitted, on the first node.
pub(crate) fn by_xdp(node: &Namespace) -> Result<[f64; 2]> {
    let metrics = metrics(node)?;
    let count = |verdict| {
        let labels = [("verdict", verdict)];
        value(&metrics, "proxy_agent_xdp_packets_total", &labels)
    };
    Ok([count("pass")?, count("transmit")?])
}

#[test]
fn xdp_serves_clients_outside() -> Result<()> {
    let world = world()?;
    let node = &world.cluster.nodes[0].namespace;
    let from = &world.cluster.client;
    for (pod, name) in [((1, 1), "pod-1-1"), ((2, 1), "pod-2-1")] {
        world.scale("web", &[pod])?;
        world.scale("dns", &[pod])?;
        for family in Family::BOTH {
            let before = by_xdp(node)?;
            let web = world.node_port(1, family, WEB_NODE_PORT);
            let dns = world.node_port(1, family, DNS_NODE_PORT);
            assert_eq!(client::http(from, web)?, name);
            for transport in [Transport::Tcp, Transport::Udp] {
                assert_eq!(client::dns(from, dns, transport)?, name);
            }
            let after = by_xdp(node)?;
            let [passed, transmitted] = [0, 1].map(|at| after[at] - before[at]);
            println!("{family} to {name}: {passed} passed, {transmitted} sent");
            let at_work = if pod.0 == 1 { passed } else { transmitted };
            assert!(at_work > 8.0, "{passed} passed, {transmitted} sent");
        }
    }
    let metrics = metrics(node)?;
    assert_eq!(
        value(&metrics, "proxy_agent_xdp_devices", &[])?.to_string(),
        "1"
    );
    Ok(())
}

#[test]
fn a_local_endpoint_sees_its_client_through_xdp() -> Result<()> {
    let world = world()?;
    world.scale("web", &[(1, 1)])?;
    for family in Family::BOTH {
        let frontend = world.node_port(1, family, WEB_NODE_PORT);
        let peer = world.peer_seen_by("pod-1-1", || {
            client::http(&world.cluster.client, frontend).map(drop)
        })?;
        assert_eq!(peer, proxy_tests::lab::addresses::client().of(family));
    }
    Ok(())
}

#[test]
fn bulk_traffic_flows_through_xdp_both_ways() -> Result<()> {
    for (pod, family) in [((1, 1), Family::V4), ((2, 1), Family::V6)] {
        let world = world()?;
        let server = serve_iperf3(&world, pod)?;
        let frontend = world.node_port(1, family, WEB_NODE_PORT);
        for direction in [&[] as &[&str], &["-R"]] {
            check_bulk(&server, &world.cluster.client, frontend, direction)?;
        }
        let by_xdp = by_xdp(&world.cluster.nodes[0].namespace)?;
        assert!(by_xdp.iter().sum::<f64>() > 1000.0, "{by_xdp:?}");
    }
    Ok(())
}

/// A device whose driver has no XDP.
#[test]
fn tc_serves_alone_where_the_driver_has_no_xdp() -> Result<()> {
    let world = world()?;
    let agent = &world.agents[0];
    let node = &world.cluster.nodes[0].namespace;
    let mark = agent.mark();
    node.ip(&["link add tunnel type vxlan id 7 dstport 4789 dev eth0".into()])?;
    agent.wait_attached("tunnel")?;
    agent.wait_for(mark, |event| is_refused(event, "tunnel"))?;
    // Another change has the devices looked over again.
    node.ip(&["link add other type vxlan id 8 dstport 4790 dev eth0".into()])?;
    agent.wait_attached("other")?;
    agent.wait_for(mark, |event| is_refused(event, "other"))?;
    let times = events(agent)
        .filter(|event| is_refused(event, "tunnel"))
        .count();
    assert_eq!(times, 1, "it is said once");
    Ok(())
}

fn events(agent: &Agent) -> impl Iterator<Item = Value> {
    let log = agent.log().into_iter();
    log.filter_map(|line| serde_json::from_str(&line).ok())
}

/// While somebody else's program is on the uplink, TC serves; when it goes, XDP comes,
/// and no connection fails.
#[test]
fn xdp_comes_under_traffic_when_the_uplink_is_free() -> Result<()> {
    let cluster = Cluster::new(Options::default())?;
    cluster.make_cables_like_hardware()?;
    // Otherwise the device stops to poll while it has no program, and frees what waits for that
    // (`veth_disable_xdp` in `drivers/net/veth.c`).
    set_offload(&cluster.nodes[0].namespace, "eth0", "gro", "on")?;
    let sizes = MapSizes {
        frontends: 16,
        backends: 16,
        slots: 16,
        flows: 16,
        node_addresses: 16,
    };
    // Of ours, but with empty maps: it passes everything on.
    let mut foreign = load(sizes, SocketScope::default(), None)?;
    let program = foreign.xdp()?;
    program.load()?;
    let link = cluster.nodes[0].namespace.run(|| -> Result<_> {
        let id = program.attach("eth0", XdpMode::Driver)?;
        Ok(program.take_link(id)?)
    })??;

    let world = World::on(cluster, &["--xdp=always"])?;
    let (agent, node) = (&world.agents[0], &world.cluster.nodes[0].namespace);
    let refused = agent.wait_for(0, |event| is_refused(event, "eth0"))?;
    assert_eq!(refused["level"], "INFO");
    world.scale("web", &[(1, 1), (2, 1)])?;
    let frontend = world.node_port(1, Family::V4, WEB_NODE_PORT);
    let load = Load::start(&world.cluster.client, frontend, 2)?;
    load.wait_for_requests(100, PATIENCE)?;
    assert_eq!(by_xdp(node)?.map(|count| count.to_string()), ["0", "0"]);

    load.next_phase();
    drop(link);
    // The agent looks again when devices change.
    let mark = agent.mark();
    node.ip(&["link add nudge type bridge".into()])?;
    agent
        .wait_for(mark, |event| is_attached(event, "eth0"))
        .context("XDP does not come")?;
    load.wait_for_requests(200, PATIENCE)?;
    for phase in load.stop()? {
        assert_eq!(phase.failures, Vec::<String>::new());
        println!("the slowest request took {:?}", phase.slowest);
        assert!(phase.slowest < Duration::from_millis(900), "{phase:?}");
    }
    let [passed, transmitted] = by_xdp(node)?;
    assert!(
        passed > 100.0 && transmitted > 100.0,
        "{passed} and {transmitted}"
    );
    Ok(())
}
