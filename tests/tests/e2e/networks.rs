//! Networks of other shapes: nodes that are joined by a tunnel, replies that leave by
//! another uplink than their requests came by, a node that drops what its connection
//! tracking finds invalid.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::client::{self, Transport};
use proxy_tests::lab::uplinks::{SECOND, TUNNEL};
use proxy_tests::lab::{Cluster, Family, Namespace, Options, PodNetwork, addresses, mirror};

use crate::connections::{check_bulk, serve_iperf3};
use crate::world::{DNS_NODE_PORT, WEB_NODE_PORT, World, cluster_ip};

fn cluster(network: PodNetwork) -> Result<Cluster> {
    Cluster::new(Options {
        network,
        ..Options::default()
    })
}

/// How many packets a device has sent.
fn sent(by: &Namespace, device: &str) -> Result<u64> {
    let mut command = by.command("ip");
    let output = command.args(["-json", "-stats", "link", "show", device]);
    let links: serde_json::Value = serde_json::from_slice(&output.output()?.stdout)?;
    let count = links[0]["stats64"]["tx"]["packets"].as_u64();
    count.with_context(|| format!("no statistics of {device}"))
}

/// Asks by HTTP and, in both transports, by DNS.
fn ask_all(world: &World, from: &Namespace, family: Family, expected: &str) -> Result<()> {
    let web = world.node_port(1, family, WEB_NODE_PORT);
    let dns = world.node_port(1, family, DNS_NODE_PORT);
    ensure!(client::http(from, web)? == expected, "{web}");
    for transport in [Transport::Tcp, Transport::Udp] {
        ensure!(client::dns(from, dns, transport)? == expected, "{dns}");
    }
    Ok(())
}

/// The other end of the tunnel would drop packets from an address that belongs to the
/// uplink, and answer it by the uplink: what is sent on by a device has that device's.
#[test]
fn a_tunnel_between_nodes_carries_what_is_sent_on() -> Result<()> {
    for network in [PodNetwork::Bridge, PodNetwork::Routed] {
        let cluster = cluster(network)?;
        cluster.join_by_tunnel()?;
        let world = World::on(cluster, &[])?;
        world.agents[0].wait_attached(TUNNEL)?;
        world.scale("web", &[(2, 1)])?;
        world.scale("dns", &[(2, 1)])?;
        for family in Family::BOTH {
            ask_all(&world, &world.cluster.client, family, "pod-2-1")?;
            let web = world.node_port(1, family, WEB_NODE_PORT);
            let peer = world.peer_seen_by("pod-2-1", || {
                client::http(&world.cluster.client, web).map(drop)
            })?;
            assert_eq!(peer, addresses::tunnel(1).of(family));
            let inside = SocketAddr::new(cluster_ip("web", family), 80);
            let pod = &world.cluster.pod(1, 2).namespace;
            assert_eq!(client::http(pod, inside)?, "pod-2-1");
        }
        let server = serve_iperf3(&world, (2, 1))?;
        for family in Family::BOTH {
            let frontend = world.node_port(1, family, WEB_NODE_PORT);
            for direction in [&[] as &[&str], &["-R"]] {
                check_bulk(&server, &world.cluster.client, frontend, direction)?;
            }
        }
    }
    Ok(())
}

/// A device that gets its address late, and another one later.
#[test]
fn the_address_of_what_is_sent_on_follows_its_device() -> Result<()> {
    let world = World::new(PodNetwork::Routed)?;
    world.scale("web", &[(2, 1)])?;
    let web = world.node_port(1, Family::V4, WEB_NODE_PORT);
    let node = &world.cluster.nodes[0].namespace;
    let peer = || {
        let ask = || client::http(&world.cluster.client, web).map(drop);
        world.peer_seen_by("pod-2-1", ask)
    };
    assert_eq!(peer()?, addresses::node(1).of(Family::V4));
    // The way to the endpoint leads through another device from now on.
    let far = &world.cluster.nodes[1].namespace;
    node.ip(&[format!(
        "link add {SECOND} type veth peer name {SECOND} netns {}",
        far.name()
    )])?;
    far.ip(&[
        format!("addr add 172.29.0.12/24 dev {SECOND}"),
        format!("link set {SECOND} up"),
    ])?;
    for own in ["172.29.0.11", "172.29.0.13"] {
        let mut mark = world.agents[0].mark();
        node.ip(&[
            format!("addr flush dev {SECOND}"),
            format!("addr add {own}/24 dev {SECOND}"),
            format!("link set {SECOND} up"),
            format!("route replace 10.244.2.0/24 via 172.29.0.12 dev {SECOND}"),
        ])?;
        // Each of these changes may be programmed by itself.
        while peer()?.to_string() != own {
            world.agents[0].wait_programmed_after(mark)?;
            mark = world.agents[0].mark();
        }
    }
    Ok(())
}

/// Requests come by one uplink, and the way back to the client is another one.
#[test]
fn replies_leave_by_another_uplink() -> Result<()> {
    for network in [PodNetwork::Bridge, PodNetwork::Routed] {
        let cluster = cluster(network)?;
        cluster.add_second_uplink()?;
        let world = World::on(cluster, &[])?;
        let node = &world.cluster.nodes[0].namespace;
        for (pod, name) in [((1, 1), "pod-1-1"), ((2, 1), "pod-2-1")] {
            world.scale("web", &[pod])?;
            world.scale("dns", &[pod])?;
            for family in Family::BOTH {
                let before = sent(node, SECOND)?;
                ask_all(&world, &world.cluster.client, family, name)?;
                let replies = sent(node, SECOND)? - before;
                assert!(replies > 8, "{family} from {name}: {replies} packets");
            }
        }
        let server = serve_iperf3(&world, (2, 1))?;
        let frontend = world.node_port(1, Family::V4, WEB_NODE_PORT);
        for direction in [&[] as &[&str], &["-R"]] {
            check_bulk(&server, &world.cluster.client, frontend, direction)?;
        }
    }
    Ok(())
}

/// What Pods send leaves by an uplink of theirs (as the network plugin of AWS has it), and replies to
/// who has come by the node's address by the one that has that address.
#[test]
fn replies_leave_by_the_uplink_of_their_frontend() -> Result<()> {
    for network in [PodNetwork::Bridge, PodNetwork::Routed] {
        let cluster = cluster(network)?;
        cluster.add_uplink_of_pods()?;
        let world = World::on(cluster, &[])?;
        world.agents[0].wait_for(0, |event| {
            event["fields"]["message"] == "routes of the host"
                && event["fields"]["by_source"] == true
        })?;
        let _mirrors = mirror::start([world.cluster.pod(1, 1)])?;
        world.after_programming(|| mirror::add(&world.manifests))?;
        for (pod, name) in [((1, 1), "pod-1-1"), ((2, 1), "pod-2-1")] {
            world.scale("web", &[pod])?;
            world.scale("dns", &[pod])?;
            for family in Family::BOTH {
                ask_all(&world, &world.cluster.client, family, name)?;
            }
        }
        world.scale(mirror::NAME, &[(1, 1)])?;
        for family in Family::BOTH {
            let to = world.node_port(1, family, mirror::NODE_PORT);
            let client = &world.cluster.client;
            client
                .run(|| mirror::ask_at_length(to, 5000))?
                .context("in fragments")?;
        }
    }
    Ok(())
}

/// The node's address is on a device above the uplink, as with a VLAN: what comes in passes
/// our programs at both.
#[test]
fn an_uplink_may_be_two_devices() -> Result<()> {
    let cluster = cluster(PodNetwork::Bridge)?;
    let (v4, v6) = (addresses::node(1).v4, addresses::node(1).v6);
    let far = addresses::node(2);
    let (pods_v4, pods_v6) = addresses::pod_ranges(2);
    cluster.nodes[0].namespace.ip(&[
        "addr flush dev eth0".into(),
        "link add link eth0 name above type macvlan mode bridge".into(),
        format!("addr add {v4}/24 dev above"),
        format!("addr add {v6}/64 dev above"),
        "link set above up".into(),
        format!("route replace {pods_v4} via {} dev above", far.v4),
        format!("route replace {pods_v6} via {} dev above", far.v6),
    ])?;
    let world = World::on(cluster, &[])?;
    world.agents[0].wait_attached("above")?;
    for (pod, name) in [((1, 1), "pod-1-1"), ((2, 1), "pod-2-1")] {
        world.scale("web", &[pod])?;
        world.scale("dns", &[pod])?;
        for family in Family::BOTH {
            ask_all(&world, &world.cluster.client, family, name)?;
        }
    }
    Ok(())
}

/// Drops and counts what connection tracking finds invalid, wherever it passes. It knows
/// no redirects of IPv6, which a node sends that routes between pods of one bridge.
const DROP_INVALID: &str = "\
table inet invalid {
  counter invalid {}
  chain forward { type filter hook forward priority 0; ct state invalid counter name invalid drop; }
  chain input { type filter hook input priority 0; ct state invalid counter name invalid drop; }
  chain output {
    type filter hook output priority 0
    icmpv6 type nd-redirect accept
    ct state invalid counter name invalid drop
  }
}
";

/// How many packets that rule has dropped.
fn invalid(node: &Namespace) -> Result<u64> {
    let mut command = node.command("nft");
    let output = command.args(["-j", "list", "counter", "inet", "invalid", "invalid"]);
    let listing: serde_json::Value = serde_json::from_slice(&output.output()?.stdout)?;
    let entries = listing["nftables"].as_array().context("no list")?;
    let mut counters = entries.iter().filter_map(|it| it["counter"].as_object());
    let packets = counters.find_map(|it| it["packets"].as_u64());
    packets.context("no counter")
}

#[test]
fn connection_tracking_finds_nothing_invalid() -> Result<()> {
    for network in [PodNetwork::Bridge, PodNetwork::Routed] {
        let world = World::new(network)?;
        let rules = world.cluster.directory.path().join("rules");
        fs::write(&rules, DROP_INVALID)?;
        for node in &world.cluster.nodes {
            let mut command = node.namespace.command("nft");
            let output = command.arg("-f").arg(&rules).output()?;
            let errors = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "nft: {errors}");
        }
        let _mirrors = mirror::start(world.cluster.pods())?;
        world.after_programming(|| mirror::add(&world.manifests))?;
        for endpoint in [(1, 1), (2, 1)] {
            world.scale("web", &[endpoint])?;
            world.scale(mirror::NAME, &[endpoint])?;
            for family in Family::BOTH {
                let node_port = world.node_port(1, family, mirror::NODE_PORT);
                let hairpin = world.cluster.pod(1, 1);
                for client in [&world.cluster.client, &hairpin.namespace] {
                    for transport in [Transport::Tcp, Transport::Udp] {
                        client.run(|| mirror::ask(node_port, transport))??;
                    }
                    let web = world.node_port(1, family, WEB_NODE_PORT);
                    client::http(client, web)?;
                }
                for pod in [hairpin, world.cluster.pod(1, 2)] {
                    for transport in [Transport::Tcp, Transport::Udp] {
                        let to = mirror::cluster_ip(family);
                        pod.namespace.run(|| mirror::ask(to, transport))??;
                    }
                }
            }
        }
        let server = serve_iperf3(&world, (1, 1))?;
        let frontend = world.node_port(1, Family::V4, WEB_NODE_PORT);
        check_bulk(&server, &world.cluster.client, frontend, &[])?;
        for node in &world.cluster.nodes {
            assert_eq!(invalid(&node.namespace)?, 0, "on {}", node.name);
        }
    }
    Ok(())
}
