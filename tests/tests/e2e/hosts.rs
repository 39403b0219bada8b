//! What leaves a host for Services, and no hook at its sockets has translated: the programs at
//! the uplinks do. The hosts take nothing that comes by another way than its answer would leave
//! (strict `rp_filter`), and the client is their default router.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use proxy_tests::lab::client::{self, Transport};
use proxy_tests::lab::{Cluster, Family, Namespace, Options, PodNetwork, addresses, mirror};

use crate::every_path::{from_hosts, start};
use crate::path_mtu::{learned, upload};
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
    let _server = mirror::start_on(host)?;
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
