//! Direct server return, by the annotation `proxy-agent/forwarding`: the endpoint's node
//! answers the client itself.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::client::{self, Transport};
use proxy_tests::lab::mirror::{self, Answer, Conversation};
use proxy_tests::lab::uplinks::TUNNEL;
use proxy_tests::lab::{Family, Namespace, PodNetwork, Process, addresses};

use crate::connections::{check_bulk, serve_iperf3};
use crate::metrics::{metrics, value};
use crate::path_mtu::{learned, upload};
use crate::rules::{add, edit};
use crate::world::{DNS_NODE_PORT, WEB_NODE_PORT, World};

const TRANSPORTS: [Transport; 2] = [Transport::Tcp, Transport::Udp];
/// Load balancer addresses, one of each family.
const VIPS: [&str; 2] = ["203.0.113.1", "2001:db8::1"];

/// A cluster whose Services have direct return, and where nothing else may answer: the
/// client takes no answer from the first node, and the nodes drop what comes from the wrong
/// side or belongs to no connection that they have seen begin.
fn world(network: PodNetwork) -> Result<World> {
    let world = World::with_arguments(network, &["--forwarding=dsr"])?;
    for node in &world.cluster.nodes {
        for device in ["all", "eth0"] {
            let name = format!("net/ipv4/conf/{device}/rp_filter");
            node.namespace.sysctl(&name, "1")?;
        }
        nft(
            &node.namespace,
            "add table inet strict; \
             add chain inet strict forward { type filter hook forward priority 0; }; \
             add rule inet strict forward ct state invalid drop",
        )?;
    }
    let first = link_address(&world.cluster.nodes[0].namespace)?;
    nft(
        &world.cluster.client,
        &format!(
            "add table netdev strict; \
             add chain netdev strict in {{ type filter hook ingress device eth0 priority 0; }}; \
             add rule netdev strict in ether saddr {first} tcp sport != 0 drop; \
             add rule netdev strict in ether saddr {first} udp sport != 0 drop"
        ),
    )?;
    Ok(world)
}

fn nft(at: &Namespace, rules: &str) -> Result<()> {
    let output = at.command("nft").arg(rules).output()?;
    ensure!(output.status.success(), "nft: {output:?}");
    Ok(())
}

/// The Ethernet address of a node's uplink.
fn link_address(node: &Namespace) -> Result<String> {
    let mut command = node.command("ip");
    let output = command.args(["-json", "link", "show", "eth0"]).output()?;
    let links: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let address = links[0]["address"].as_str().context("an address")?;
    Ok(address.to_owned())
}

/// How many packets a node has put into tunnels, or taken out.
fn in_tunnels(world: &World, node: usize, direction: &str) -> Result<f64> {
    let metrics = metrics(&world.cluster.nodes[node - 1].namespace)?;
    let labels = [("direction", direction)];
    value(&metrics, "proxy_agent_tunnel_packets_total", &labels)
}

#[test]
fn a_client_outside_is_answered_by_the_endpoints_node() -> Result<()> {
    for network in [PodNetwork::Bridge, PodNetwork::Routed] {
        let world = world(network)?;
        let from = &world.cluster.client;
        world.scale("web", &[(2, 1)])?;
        world.scale("dns", &[(2, 1)])?;
        for family in Family::BOTH {
            let web = world.node_port(1, family, WEB_NODE_PORT);
            let dns = world.node_port(1, family, DNS_NODE_PORT);
            let peer = world.peer_seen_by("pod-2-1", || client::http(from, web).map(drop))?;
            assert_eq!(peer, addresses::client().of(family));
            for transport in TRANSPORTS {
                assert_eq!(client::dns(from, dns, transport)?, "pod-2-1");
            }
            let sent = in_tunnels(&world, 1, "encapsulated")?;
            let taken = in_tunnels(&world, 2, "decapsulated")?;
            println!("{family}: {sent} sent, {taken} taken out");
            assert!(sent > 8.0 && taken > 8.0, "{sent} sent, {taken} taken out");
        }
    }
    Ok(())
}

#[test]
fn bulk_traffic_flows_both_ways() -> Result<()> {
    let world = world(PodNetwork::Bridge)?;
    let server = serve_iperf3(&world, (2, 1))?;
    for family in Family::BOTH {
        let frontend = world.node_port(1, family, WEB_NODE_PORT);
        for direction in [&[] as &[&str], &["-R"]] {
            check_bulk(&server, &world.cluster.client, frontend, direction)?;
        }
    }
    Ok(())
}

/// What is left of the way's 1500 bytes.
const ROOM: [(Family, u32); 2] = [(Family::V4, 1480), (Family::V6, 1460)];

#[test]
fn a_connection_learns_what_fits_into_the_tunnel() -> Result<()> {
    let world = world(PodNetwork::Routed)?;
    world.scale("web", &[(2, 1)])?;
    let client = &world.cluster.client;
    for (family, room) in ROOM {
        let to = world.node_port(1, family, WEB_NODE_PORT);
        upload(client, to)?;
        assert_eq!(learned(client, to.ip())?, Some(room), "{family}");
    }
    Ok(())
}

/// Sends one datagram of a length that must not be fragmented, and tells what comes back, any
/// error included (`IP_RECVERR`, and the same of IPv6).
const SENDER: &str = r#"
import errno, socket, sys
host, port, length = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if ":" in host:
    sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IPV6, 23, 2)
    sender.setsockopt(socket.IPPROTO_IPV6, 25, 1)
else:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, 10, 2)
    sender.setsockopt(socket.IPPROTO_IP, 11, 1)
sender.settimeout(5)
sender.connect((host, port))
sender.send(bytes(length))
try:
    print(sender.recv(10))
except OSError as error:
    print(errno.errorcode.get(error.errno, error))
"#;

/// Sends a datagram that makes a packet of this length, and tells what comes back.
fn send(client: &Namespace, to: SocketAddr, length: u32) -> Result<String> {
    let headers = if to.is_ipv4() { 28 } else { 48 };
    let mut command = client.command("python3");
    command.args(["-c", SENDER, &to.ip().to_string()]);
    command.args([to.port().to_string(), (length - headers).to_string()]);
    let told = String::from_utf8(command.output()?.stdout)?;
    Ok(told.trim_end().to_owned())
}

#[test]
fn a_datagram_that_is_too_long_for_the_tunnel_is_answered() -> Result<()> {
    let world = world(PodNetwork::Routed)?;
    world.scale("dns", &[(2, 1)])?;
    let client = &world.cluster.client;
    for (family, room) in ROOM {
        let to = world.node_port(1, family, DNS_NODE_PORT);
        assert_eq!(send(client, to, 1500)?, "EMSGSIZE", "{family}");
        assert_eq!(learned(client, to.ip())?, Some(room), "{family}");
    }
    Ok(())
}

/// Has the kernel of a namespace forget the path MTUs that it has learned.
fn forget_learned(at: &Namespace) -> Result<()> {
    for version in ["-4", "-6"] {
        let mut command = at.command("ip");
        let output = command
            .args([version, "route", "flush", "cache"])
            .output()?;
        ensure!(output.status.success(), "ip: {output:?}");
    }
    Ok(())
}

/// What is left of the way's 1500 bytes in a tunnel inside of the network's own one: VXLAN
/// over IPv4 takes 50 more.
const ROOM_IN_OVERLAY: [(Family, u32); 2] = [(Family::V4, 1430), (Family::V6, 1410)];

#[test]
fn tunnels_go_through_an_overlay_network() -> Result<()> {
    let world = world(PodNetwork::Bridge)?;
    world.scale("web", &[(2, 1)])?;
    world.cluster.join_by_tunnel()?;
    // By that device the client's packets come, whose own way is another.
    let node = &world.cluster.nodes[1].namespace;
    for (device, value) in [("all", "0"), (TUNNEL, "2")] {
        node.sysctl(&format!("net/ipv4/conf/{device}/rp_filter"), value)?;
    }
    for agent in &world.agents {
        agent.wait_attached(TUNNEL)?;
    }
    let client = &world.cluster.client;
    for (family, room) in ROOM_IN_OVERLAY {
        let web = world.node_port(1, family, WEB_NODE_PORT);
        let peer = world.peer_seen_by("pod-2-1", || client::http(client, web).map(drop))?;
        assert_eq!(peer, addresses::client().of(family));
        upload(client, web)?;
        assert_eq!(learned(client, web.ip())?, Some(room), "{family}");
        let by_overlay = in_tunnels(&world, 2, "decapsulated")?;
        assert!(by_overlay > 8.0, "{by_overlay} taken out");
    }
    Ok(())
}

/// What the way between the nodes takes, behind the first node's own device.
const NARROW: u32 = 1400;

#[test]
fn what_a_router_between_the_nodes_says_of_a_tunnel_is_told_to_the_client() -> Result<()> {
    let world = world(PodNetwork::Routed)?;
    for service in ["web", "dns"] {
        world.scale(service, &[(2, 1)])?;
    }
    let client = &world.cluster.client;
    let router = world.cluster.put_router_between()?;
    let pod = world.cluster.pod(2, 1).addresses;
    for (family, header) in [(Family::V4, 20), (Family::V6, 40)] {
        let web = world.node_port(1, family, WEB_NODE_PORT);
        let dns = world.node_port(1, family, DNS_NODE_PORT);
        let (pod, via) = (pod.of(family), addresses::node(2).of(family));
        router.ip(&[format!("route add unreachable {pod}")])?;
        assert_eq!(send(client, dns, 100)?, "EHOSTUNREACH", "{family}");
        router.ip(&[
            format!("route del unreachable {pod}"),
            format!("route add {pod} via {via} dev eth0 mtu lock {NARROW}"),
        ])?;
        // Fits on the first node.
        assert_eq!(send(client, dns, NARROW)?, "EMSGSIZE", "{family}");
        assert_eq!(
            learned(client, web.ip())?,
            Some(NARROW - header),
            "{family}"
        );
        forget_learned(client)?;
        assert_eq!(learned(client, web.ip())?, None, "{family}");
        upload(client, web)?;
        assert_eq!(
            learned(client, web.ip())?,
            Some(NARROW - header),
            "{family}"
        );
        client::http(client, web)?;
    }
    Ok(())
}

/// A mirror on each of these pods, and what the client has open to it by node 1, with the
/// Service as `change` makes it.
struct Talk {
    world: World,
    _servers: Vec<Process>,
    open: Vec<Conversation>,
}

impl Talk {
    fn start(change: impl Fn(&str) -> String, frontends: &[SocketAddr]) -> Result<Self> {
        let world = world(PodNetwork::Bridge)?;
        let servers = mirror::start(world.cluster.nodes[1].pods.iter())?;
        add(&world, &[(2, 1)], change)?;
        route_to_balancers(&world)?;
        let open = world.cluster.client.run(|| -> Result<Vec<_>> {
            let pairs = frontends
                .iter()
                .flat_map(|to| TRANSPORTS.map(|transport| (*to, transport)));
            pairs
                .map(|(to, transport)| Conversation::open(to, transport))
                .collect()
        })??;
        Ok(Self {
            world,
            _servers: servers,
            open,
        })
    }

    /// Asks once more everywhere; who answers whom.
    fn ask(&mut self) -> Result<Vec<Answer>> {
        let open = &mut self.open;
        let all = self.world.cluster.client.run(|| {
            open.iter_mut()
                .map(Conversation::ask)
                .collect::<Result<Vec<_>>>()
        })?;
        all.context("a conversation broke off")
    }
}

/// Outside it is the network that leads load balancer addresses to a node.
fn route_to_balancers(world: &World) -> Result<()> {
    for (family, vip) in Family::BOTH.into_iter().zip(VIPS) {
        let node = world.node_port(1, family, 0).ip();
        world
            .cluster
            .client
            .ip(&[format!("route add {vip} via {node}")])?;
    }
    Ok(())
}

fn balanced(service: &str) -> String {
    let [v4, v6] = VIPS;
    service.replace("type: NodePort", "type: LoadBalancer")
        + &format!("status: {{loadBalancer: {{ingress: [{{ip: {v4}}}, {{ip: '{v6}'}}]}}}}\n")
}

fn balancers() -> Result<Vec<SocketAddr>> {
    let vips = VIPS.iter();
    vips.map(|vip| Ok(SocketAddr::new(vip.parse()?, mirror::PORT)))
        .collect()
}

fn node_ports() -> Vec<SocketAddr> {
    let node = addresses::node(1);
    let ports = Family::BOTH.map(|family| SocketAddr::new(node.of(family), mirror::NODE_PORT));
    ports.into()
}

#[test]
fn load_balancer_addresses_answer_from_the_endpoints_node() -> Result<()> {
    let mut talk = Talk::start(balanced, &balancers()?)?;
    for _ in 0..3 {
        for answer in talk.ask()? {
            assert_eq!(answer.pod, "pod-2-1");
            let client = addresses::client();
            assert!([client.v4.into(), client.v6.into()].contains(&answer.peer));
        }
    }
    Ok(())
}

#[test]
fn when_the_endpoint_leaves_connections_stay_and_datagrams_move() -> Result<()> {
    let mut talk = Talk::start(str::to_owned, &node_ports())?;
    talk.ask()?;
    talk.world.scale(mirror::NAME, &[(2, 2)])?;
    for _ in 0..2 {
        let pods: Vec<_> = talk.ask()?.into_iter().map(|answer| answer.pod).collect();
        assert_eq!(pods, ["pod-2-1", "pod-2-2", "pod-2-1", "pod-2-2"]);
    }
    Ok(())
}

/// The answers to new connections come by node 1 then, which the client would not take; what
/// is open goes on as it was.
#[test]
fn a_service_can_change_its_way_while_connections_are_open() -> Result<()> {
    let with = |way: &str| {
        let annotations = format!("annotations: {{proxy-agent/forwarding: {way}}}");
        move |service: &str| {
            service.replace(
                "namespace: default}",
                &format!("namespace: default, {annotations}}}"),
            )
        }
    };
    let mut talk = Talk::start(with("dsr"), &node_ports())?;
    talk.ask()?;
    edit(&talk.world, |service| {
        service.replace("forwarding: dsr", "forwarding: snat")
    })?;
    talk.ask()?;
    nft(&talk.world.cluster.client, "delete table netdev strict")?;
    let client = addresses::client();
    let new = |talk: &Talk, transport| -> Result<bool> {
        let frontend = node_ports()[0];
        let asked = talk
            .world
            .cluster
            .client
            .run(|| mirror::ask(frontend, transport))?;
        Ok(asked?.peer == client.of(Family::V4))
    };
    for transport in TRANSPORTS {
        assert!(!new(&talk, transport)?, "{transport:?} by node 1");
    }
    // One that is opened now is answered by node 1 for good.
    let late = talk
        .world
        .cluster
        .client
        .run(|| TRANSPORTS.map(|transport| Conversation::open(node_ports()[1], transport)))?;
    for conversation in late {
        talk.open.push(conversation?);
    }
    talk.ask()?;
    edit(&talk.world, |service| {
        service.replace("forwarding: snat", "forwarding: dsr")
    })?;
    let peers: Vec<_> = talk.ask()?.into_iter().map(|answer| answer.peer).collect();
    let node = addresses::node(1).of(Family::V6);
    assert_eq!(peers[4..], [node, node]);
    for transport in TRANSPORTS {
        assert!(
            new(&talk, transport)?,
            "{transport:?} by the endpoint's node"
        );
    }
    Ok(())
}
