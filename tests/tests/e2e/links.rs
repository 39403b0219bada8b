//! Devices of other kinds than Ethernet, and frames that are not for this node.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::tun::TUN;
use proxy_tests::lab::{
    Cluster, Family, Namespace, Options, PodNetwork, addresses, client, mirror,
};

use crate::every_path::{packets, start};
use crate::metrics::{metrics, value};
use crate::world::{World, cluster_ip};
use crate::xdp;

fn cluster() -> Result<Cluster> {
    let cluster = Cluster::new(Options {
        network: PodNetwork::Bridge,
        pods_per_node: 2,
    })?;
    cluster.make_cables_like_hardware()?;
    Ok(cluster)
}

/// Sends packets through each path of a cluster of which these nodes have devices without a link
/// header.
fn without_link_header(cluster: &Cluster, nodes: &[usize]) -> Result<()> {
    let _servers = mirror::start([cluster.pod(1, 1), cluster.pod(2, 1)])?;
    let agents = start(cluster)?;
    for node in nodes {
        agents[node - 1].wait_attached(TUN)?;
    }
    for family in Family::BOTH {
        packets(cluster, family)?;
    }
    Ok(())
}

#[test]
fn nodes_may_be_joined_without_link_headers() -> Result<()> {
    let cluster = cluster()?;
    let _cable = cluster.join_by_tun()?;
    without_link_header(&cluster, &[1, 2])
}

#[test]
fn nodes_may_be_joined_by_tunnels_of_the_kernel() -> Result<()> {
    let cluster = cluster()?;
    if cluster.join_by_gre()? {
        without_link_header(&cluster, &[1, 2])
    } else {
        println!("skipped: this kernel has no GRE devices");
        Ok(())
    }
}

#[test]
fn a_client_may_come_without_a_link_header() -> Result<()> {
    let cluster = cluster()?;
    let _cable = cluster.connect_client_by_tun()?;
    without_link_header(&cluster, &[1])
}

fn flows_created(node: &Namespace) -> Result<f64> {
    value(&metrics(node)?, "proxy_agent_flows_created_total", &[])
}

/// Each request is answered, and node2, which hears all of them, has not taken any for its own.
fn only_what_is_for_a_node_is_its_own(world: &World) -> Result<()> {
    world.cluster.make_fabric_a_hub()?;
    for pod in [(1, 1), (2, 2)] {
        world.scale("web", &[pod])?;
        let name = &world.cluster.pod(pod.0, pod.1).name;
        for family in Family::BOTH {
            // The client's way to ClusterIPs leads by node1.
            let web = SocketAddr::new(cluster_ip("web", family), 80);
            for _ in 0..10 {
                assert_eq!(&client::http(&world.cluster.client, web)?, name);
            }
        }
    }
    let [taken, overheard] = [0, 1].map(|node| &world.cluster.nodes[node].namespace);
    assert!(flows_created(taken)? >= 40.0);
    assert_eq!(flows_created(overheard)?.to_string(), "0");
    Ok(())
}

#[test]
fn frames_for_another_node_are_left_alone() -> Result<()> {
    only_what_is_for_a_node_is_its_own(&World::new(PodNetwork::Bridge)?)
}

#[test]
fn frames_for_another_node_are_left_alone_by_xdp() -> Result<()> {
    only_what_is_for_a_node_is_its_own(&xdp::world()?)
}

/// Sends a frame with a VLAN tag in front of a datagram, and hears the answer, which comes
/// without.
const TAGGED: &str = "
import socket, struct, sys
link, source, target, port, tag = bytes.fromhex(sys.argv[1]), *sys.argv[2:4], *map(int, sys.argv[4:])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
s.bind((source, 0))
payload = b'who\\n'
udp = struct.pack('!4H', s.getsockname()[1], port, 8 + len(payload), 0) + payload
words = [0x4500, 20 + len(udp), 1, 0, 0x4011, 0]
words += struct.unpack('!4H', socket.inet_aton(source) + socket.inet_aton(target))
total = sum(words)
words[5] = 0xffff - (total + (total >> 16) & 0xffff)
frame = link + struct.pack('!3H', 0x8100, tag, 0x0800) + struct.pack('!10H', *words) + udp
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(('eth0', 0))
wire.send(frame)
try:
    print(s.recv(64).decode())
except TimeoutError:
    print('no answer')
";

/// A device's link-layer address.
fn link_address(at: &Namespace, device: &str) -> Result<String> {
    let mut command = at.command("ip");
    let output = command.args(["-json", "link", "show", device]).output()?;
    let links: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let address = links[0]["address"].as_str().context("no address")?;
    Ok(address.replace(':', ""))
}

/// What comes of a datagram to a NodePort of node1 with the tag of this VLAN.
fn ask_by_vlan(cluster: &Cluster, tag: u16) -> Result<String> {
    let (client, node) = (&cluster.client, &cluster.nodes[0].namespace);
    let link = [link_address(node, "eth0")?, link_address(client, "eth0")?].concat();
    let own = addresses::client().v4.to_string();
    let to = addresses::node(1).v4.to_string();
    let numbers = [mirror::NODE_PORT, tag].map(|number| number.to_string());
    let mut command = client.command("python3");
    command
        .args(["-c", TAGGED, &link, &own, &to])
        .args(&numbers);
    let output = command.output()?;
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{errors}");
    Ok(answer.trim().to_owned())
}

/// A tag says that the frame is a VLAN device's, which is none here; or only its priority.
#[test]
fn a_frame_with_a_tag_is_left_to_its_vlan() -> Result<()> {
    const VLAN: u16 = 999;
    const PRIORITY: u16 = 5 << 13;
    let world = World::new(PodNetwork::Routed)?;
    let _mirrors = mirror::start(world.cluster.pods())?;
    world.after_programming(|| mirror::add(&world.manifests))?;
    let node = &world.cluster.nodes[0].namespace;
    for pod in [(1, 1), (2, 1)] {
        world.scale(mirror::NAME, &[pod])?;
        let before = flows_created(node)?;
        assert_eq!(ask_by_vlan(&world.cluster, VLAN)?, "no answer");
        assert_eq!(flows_created(node)?.to_string(), before.to_string());
        let answer = ask_by_vlan(&world.cluster, PRIORITY)?;
        let name = &world.cluster.pod(pod.0, pod.1).name;
        ensure!(answer.starts_with(&format!("{name} ")), "{answer}");
    }
    Ok(())
}
