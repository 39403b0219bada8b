//! What leaves a host for Services, and no hook at its sockets has translated: the programs at
//! the uplinks do. The hosts take nothing that comes by another way than its answer would leave
//! (strict `rp_filter`), and the client is their default router.

use std::net::{Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::client::{self, Transport};
use proxy_tests::lab::{Cluster, Family, Namespace, Options, PodNetwork, addresses, mirror};

use crate::every_path::{from_hosts, start};
use crate::path_mtu::{learned, upload};
use crate::socket_path::python;
use crate::world::{World, cluster_ip};

/// What the narrow part of the way lets through.
const MTU: u32 = 1300;

/// Has nodes route what they do not know to the client, and be strict about what comes in.
pub(crate) fn be_strict(cluster: &Cluster) -> Result<()> {
    for node in &cluster.nodes {
        let client = addresses::client();
        node.namespace.ip(&[
            format!("route add default via {}", client.v4),
            format!("route add default via {}", client.v6),
        ])?;
        node.namespace.sysctl("net/ipv4/conf/all/rp_filter", "1")?;
    }
    Ok(())
}

#[test]
fn packets_of_hosts_are_translated_where_they_leave() -> Result<()> {
    let cluster = Cluster::new(Options {
        network: PodNetwork::Bridge,
        pods_per_node: 2,
    })?;
    be_strict(&cluster)?;
    let _servers = mirror::start([cluster.pod(1, 1), cluster.pod(2, 1)])?;
    let _agents = start(&cluster)?;
    for family in Family::BOTH {
        from_hosts(&cluster, family)?;
    }
    Ok(())
}

#[test]
fn hosts_learn_the_path_mtu_to_endpoints() -> Result<()> {
    let world = World::new(PodNetwork::Routed)?;
    be_strict(&world.cluster)?;
    let host = &world.cluster.nodes[0].namespace;
    world.scale("web", &[(2, 1)])?;
    let pod = world.cluster.pod(2, 1);
    for family in Family::BOTH {
        let web = SocketAddr::new(cluster_ip("web", family), 80);
        assert_eq!(client::http(host, web)?, pod.name);
        let address = pod.addresses.of(family);
        let via = world.cluster.nodes[1].addresses.of(family);
        let route = format!("route replace {address} via {via} dev eth0 mtu lock {MTU}");
        host.ip(&[route])?;
        upload(host, web)?;
        assert_eq!(learned(host, web.ip())?, Some(MTU), "{family}");
    }
    Ok(())
}

/// Where a Pod has the node's network, its Service leads from the host back to the host.
#[test]
fn hosts_reach_services_on_themselves() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    be_strict(&world.cluster)?;
    let host = &world.cluster.nodes[0];
    let _server = mirror::start_on(host, Ipv6Addr::UNSPECIFIED.into())?;
    world.after_programming(|| {
        mirror::add(&world.manifests)?;
        let pod = world.cluster.pod(1, 1);
        world.manifests.set_endpoints(mirror::NAME, &[pod])?;
        let name = format!("{}-endpoints", mirror::NAME);
        let mut slices = world.manifests.read(&name)?;
        for family in Family::BOTH {
            let [from, to] = [pod.addresses, host.addresses].map(|it| it.of(family).to_string());
            slices = slices.replace(&from, &to);
        }
        world.manifests.write(&name, &slices)
    })?;
    for family in Family::BOTH {
        for transport in [Transport::Udp, Transport::Tcp] {
            let to = mirror::cluster_ip(family);
            let answer = host.namespace.run(|| mirror::ask(to, transport))??;
            assert_eq!(answer.pod, host.name, "{family}, {transport:?}");
        }
    }
    Ok(())
}

/// The node-local DNS cache has the ClusterIP of the cluster's DNS on a device of its own.
#[test]
fn what_node_local_dns_has_is_answered_by_the_host() -> Result<()> {
    let world = World::with_arguments(PodNetwork::Bridge, &["--socket-path", "on"])?;
    let host = &world.cluster.nodes[0];
    let pod = world.cluster.pod(1, 2);
    let _servers = mirror::start([world.cluster.pod(2, 1)])?;
    world.after_programming(|| mirror::add(&world.manifests))?;
    world.scale(mirror::NAME, &[(2, 1)])?;
    let all_answer = |by: &str| -> Result<()> {
        for family in Family::BOTH {
            let to = mirror::cluster_ip(family);
            for transport in [Transport::Udp, Transport::Tcp] {
                let answer = pod.namespace.run(|| mirror::ask(to, transport))??;
                ensure!(answer.pod == by, "{to}, {transport:?}: {}", answer.pod);
            }
            // The host itself asks an endpoint.
            for (from, by) in [(&host.namespace, "pod-2-1"), (&pod.namespace, by)] {
                let answer = python(from, ASK, to, &[])
                    .with_context(|| format!("{to} from {}", from.name()))?;
                ensure!(answer == by, "{to} by {}'s sockets: {answer}", from.name());
            }
        }
        Ok(())
    };
    all_answer("pod-2-1")?;
    let [v4, v6] = Family::BOTH.map(|family| mirror::cluster_ip(family).ip());
    // Of a kind that each kernel has; the cache's is `dummy`.
    let add = [
        "link add nodelocaldns type bridge".to_owned(),
        "link set nodelocaldns up".to_owned(),
        format!("addr add {v4}/32 dev nodelocaldns"),
        format!("addr add {v6}/128 dev nodelocaldns nodad"),
    ];
    let mut cache = Vec::new();
    let remove = ["link delete nodelocaldns".to_owned()];
    for (commands, by) in [(&add[..], "node1"), (&remove[..], "pod-2-1")] {
        let mut mark = world.agents[0].mark();
        host.namespace.ip(commands)?;
        if by == host.name {
            cache.push(mirror::start_on(host, v4)?);
            cache.push(mirror::start_on(host, v6)?);
        }
        // Each address may be programmed by itself.
        while let Err(error) = all_answer(by) {
            world.agents[0]
                .wait_programmed_after(mark)
                .with_context(|| format!("{error:#}"))?;
            mark = world.agents[0].mark();
        }
    }
    Ok(())
}

/// Asks for a name by each transport.
const ASK: &str = r#"
def ask(kind):
    it = open_socket(address, kind)
    it.connect((address, port))
    it.send(b"who\n")
    return it.recv(100).decode().split()[0]

print(*{ask(TCP), ask(UDP)})
"#;

/// `ping` reports what it hears in place of an echo.
#[test]
fn who_pings_a_service_is_told() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    be_strict(&world.cluster)?;
    let host = &world.cluster.nodes[0].namespace;
    for from in [host, &world.cluster.pod(1, 1).namespace] {
        for family in Family::BOTH {
            let mut ping = from.command("ping");
            let to = cluster_ip("web", family).to_string();
            let output = ping.args(["-c", "1", "-W", "5", &to]).output()?;
            let told = String::from_utf8_lossy(&output.stdout).into_owned();
            let is_told = told.contains("Port Unreachable") || told.contains("Port unreachable");
            ensure!(is_told, "{to} from {}: {told}", from.name());
        }
    }
    Ok(())
}

/// Whether the Service `dns` answers, by this Pod.
pub(crate) fn is_answered(from: &Namespace, by: &str) -> Result<()> {
    for family in Family::BOTH {
        let dns = SocketAddr::new(cluster_ip("dns", family), 53);
        for transport in [Transport::Udp, Transport::Tcp] {
            let name = client::dns(from, dns, transport)?;
            ensure!(name == by, "{family}, {transport:?}: {name}");
        }
    }
    Ok(())
}
