//! Rules about who may go where: session affinity, source ranges of load balancer
//! addresses, and ClusterIPs that lead nowhere.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use proxy_tests::lab::client::Transport;
use proxy_tests::lab::mirror::{self, Answer};
use proxy_tests::lab::{Family, Namespace, PodNetwork, Process};

use crate::world::{World, cluster_ip};

const TRANSPORTS: [Transport; 2] = [Transport::Tcp, Transport::Udp];
const REQUESTS: usize = 12;
const VIP: &str = "203.0.113.1";
const PATIENCE: Duration = Duration::from_secs(2);

/// A world where all pods are endpoints of the mirror's Service, which is changed by
/// `change`.
pub(crate) fn mirrors(change: impl Fn(&str) -> String) -> Result<(World, Vec<Process>)> {
    let world = World::new(PodNetwork::Bridge)?;
    let servers = mirror::start(world.cluster.pods())?;
    let pods = [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)];
    add(&world, &pods, change)?;
    Ok((world, servers))
}

/// Adds the mirror's Service, changed by `change` (which may leave it as it is), with these
/// endpoints, which are some.
pub(crate) fn add(
    world: &World,
    pods: &[(usize, usize)],
    change: impl Fn(&str) -> String,
) -> Result<()> {
    world.after_programming(|| {
        mirror::add(&world.manifests)?;
        rewrite(world, change)
    })?;
    // Once these are programmed, so is all that was written before.
    world.scale(mirror::NAME, pods)
}

/// Changes the mirror's Service.
pub(crate) fn edit(world: &World, change: impl Fn(&str) -> String) -> Result<()> {
    world.after_programming(|| rewrite(world, change))
}

fn rewrite(world: &World, change: impl Fn(&str) -> String) -> Result<()> {
    let service = change(&world.manifests.read(mirror::NAME)?);
    world.manifests.write(mirror::NAME, &service)
}

/// The pods that answer, each time on a new socket.
fn who_answers(from: &Namespace, to: SocketAddr, transport: Transport) -> Result<BTreeSet<String>> {
    from.run(|| {
        (0..REQUESTS)
            .map(|_| mirror::ask(to, transport).map(|Answer { pod, .. }| pod))
            .collect()
    })?
}

fn with_affinity(service: &str) -> String {
    service.replace("  ports:", "  sessionAffinity: ClientIP\n  ports:")
}

#[test]
fn a_client_stays_with_an_endpoint_by_any_frontend() -> Result<()> {
    let (world, _servers) = mirrors(with_affinity)?;
    let pod = &world.cluster.pod(1, 2).namespace;
    let mut spread = BTreeSet::new();
    for family in Family::BOTH {
        for transport in TRANSPORTS {
            let node_port = world.node_port(1, family, mirror::NODE_PORT);
            let outside = who_answers(&world.cluster.client, node_port, transport)?;
            ensure!(outside.len() == 1, "{family} {transport:?}: {outside:?}");
            let inside = who_answers(pod, mirror::cluster_ip(family), transport)?;
            ensure!(inside.len() == 1, "{family} {transport:?}: {inside:?}");
            let by_node_port = who_answers(pod, node_port, transport)?;
            ensure!(by_node_port == inside, "{by_node_port:?} is not {inside:?}");
            spread.extend(outside);
            spread.extend(inside);
        }
    }
    ensure!(spread.len() > 1, "all clients share {spread:?}");
    Ok(())
}

#[test]
fn affinity_ends_with_its_endpoint_and_with_its_setting() -> Result<()> {
    let (world, _servers) = mirrors(with_affinity)?;
    let to = world.node_port(1, Family::V4, mirror::NODE_PORT);
    let client = &world.cluster.client;
    let first = who_answers(client, to, Transport::Tcp)?;
    let others: Vec<_> = [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]
        .into_iter()
        .filter(|(node, pod)| !first.contains(&world.cluster.pod(*node, *pod).name))
        .collect();
    world.scale(mirror::NAME, &others)?;
    let second = who_answers(client, to, Transport::Tcp)?;
    ensure!(
        second.len() == 1 && second.is_disjoint(&first),
        "{second:?}"
    );

    edit(&world, |service| service.replace("ClientIP", "None"))?;
    let all = who_answers(client, to, Transport::Tcp)?;
    ensure!(all.len() > 1, "without affinity: {all:?}");
    Ok(())
}

#[test]
fn a_load_balancer_address_is_open_to_its_source_ranges_only() -> Result<()> {
    let service = |service: &str| {
        let ranges = "[10.244.1.11/32, 172.31.0.0/16]";
        service
            .replace("type: NodePort", "type: LoadBalancer")
            .replace(
                "  ports:",
                &format!("  loadBalancerSourceRanges: {ranges}\n  ports:"),
            )
            + &format!("status: {{loadBalancer: {{ingress: [{{ip: {VIP}}}]}}}}\n")
    };
    let (world, _servers) = mirrors(service)?;
    let vip = SocketAddr::new(VIP.parse::<IpAddr>()?, mirror::PORT);
    let (listed, other) = (world.cluster.pod(1, 2), world.cluster.pod(1, 3));
    assert_eq!(listed.addresses.of(Family::V4).to_string(), "10.244.1.11");
    // Outside it is the network that leads the address to a node.
    let node = world.node_port(1, Family::V4, 0).ip();
    let route = format!("route add {VIP}/32 via {node}");
    world.cluster.client.ip(&[route])?;
    for transport in TRANSPORTS {
        who_answers(&listed.namespace, vip, transport)?;
        who_answers(&world.cluster.client, vip, transport)?;
        let refused = other.namespace.run(|| mirror::ask(vip, transport))?;
        ensure!(refused.is_err(), "{transport:?}: {refused:?}");
        // The ranges are the load balancer's alone.
        who_answers(&other.namespace, mirror::cluster_ip(Family::V4), transport)?;
    }
    edit(&world, |service| {
        service.replace("10.244.1.11", "10.244.1.12")
    })?;
    who_answers(&other.namespace, vip, Transport::Tcp)?;
    let refused = listed.namespace.run(|| mirror::ask(vip, Transport::Tcp))?;
    ensure!(refused.is_err(), "after a change: {refused:?}");
    Ok(())
}

/// What is sent to ClusterIPs never leaves the node for want of a Service.
#[test]
fn cluster_ips_without_a_service_or_a_port_are_dead_ends() -> Result<()> {
    let world = World::new(PodNetwork::Routed)?;
    let ranges = "\
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: [10.96.0.0/16, 'fd00:10:96::/112']}
";
    world.after_setting(|| world.manifests.write("service-cidr", ranges))?;
    let pod = world.cluster.pod(1, 1);
    for family in Family::BOTH {
        let known = SocketAddr::new(cluster_ip("web", family), 81);
        let refused = pod
            .namespace
            .run(|| TcpStream::connect_timeout(&known, PATIENCE))?;
        let kind = refused.map(drop).map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::ConnectionRefused), "{known}");

        let unknown = match family {
            Family::V4 => "10.96.200.1:80",
            Family::V6 => "[fd00:10:96::c801]:80",
        };
        let unknown: SocketAddr = unknown.parse()?;
        let lost = pod
            .namespace
            .run(|| TcpStream::connect_timeout(&unknown, PATIENCE))?;
        let kind = lost.map(drop).map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::TimedOut), "{unknown}");
    }
    let mut curl = world.cluster.nodes[0].namespace.command("curl");
    curl.args(["-sS", "http://127.0.0.1:10249/metrics"]);
    let metrics = String::from_utf8(curl.output()?.stdout)?;
    for reason in ["no_such_port", "no_such_service"] {
        let metric = format!("proxy_agent_drops_total{{reason=\"{reason}\"}} ");
        let line = metrics.lines().find(|line| line.starts_with(&metric));
        let count = line.and_then(|line| line.rsplit(' ').next()?.parse::<u32>().ok());
        ensure!(count >= Some(2), "{reason}: {line:?}");
    }
    Ok(())
}
