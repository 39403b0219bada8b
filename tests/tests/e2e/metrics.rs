//! The metrics of a running agent.
#![expect(clippy::float_cmp, reason = "what is counted is whole")]

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use proxy_tests::lab::client::{self, Transport};
use proxy_tests::lab::{Family, Namespace, PodNetwork, addresses};
use proxy_tests::prometheus::Exposition;

use crate::telling::get;
use crate::world::{EDGE_NODE_PORT, World, cluster_ip};

/// What the agent of a node tells, read strictly.
pub(crate) fn metrics(node: &Namespace) -> Result<Exposition> {
    let (code, text) = get(node, "http://127.0.0.1:10249/metrics")?;
    assert_eq!(code, 200, "{text}");
    Exposition::parse(&text)
}

pub(crate) fn value(metrics: &Exposition, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
    let value = metrics.value(name, labels);
    value.with_context(|| format!("{name} {labels:?}"))
}

#[test]
fn what_happens_to_connections_is_counted_exactly() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    let node = &world.cluster.nodes[0].namespace;
    let pod = &world.cluster.pod(1, 3).namespace;
    let before = metrics(node)?;
    for _ in 0..5 {
        client::http(pod, SocketAddr::new(cluster_ip("web", Family::V4), 80))?;
    }
    // This node has no endpoint of `edge`.
    let edge = world.node_port(1, Family::V4, EDGE_NODE_PORT);
    assert!(client::http(&world.cluster.client, edge).is_err());
    world.scale("dns", &[])?;
    let dns = SocketAddr::new(cluster_ip("dns", Family::V4), 53);
    assert!(client::dns(pod, dns, Transport::Udp).is_err());
    let after = metrics(node)?;
    let grown = |name, labels: &[_]| -> Result<f64> {
        Ok(value(&after, name, labels)? - value(&before, name, labels)?)
    };
    assert_eq!(grown("proxy_agent_flows_created_total", &[])?, 5.0);
    let drops = |reason| grown("proxy_agent_drops_total", &[("reason", reason)]);
    assert!(drops("no_local_endpoints")? >= 1.0);
    assert!(drops("no_endpoints")? >= 1.0);
    assert_eq!(drops("flow_table_full")?, 0.0);
    let refused = [("reason", "ports_exhausted")];
    assert_eq!(grown("proxy_agent_flows_failed_total", &refused)?, 0.0);
    let pass = [("ip_family", "IPv6")];
    let partial = "kubeproxy_sync_partial_proxy_rules_duration_seconds_count";
    assert!(grown(partial, &pass)? >= 1.0);
    assert!(grown("kubeproxy_sync_proxy_rules_endpoint_changes_total", &[])? >= 2.0);
    Ok(())
}

#[test]
fn traffic_is_counted_by_service_and_by_endpoint() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    world.scale("web", &[(1, 1), (2, 1)])?;
    let node = &world.cluster.nodes[0].namespace;
    let pod = &world.cluster.pod(1, 3).namespace;
    let web = SocketAddr::new(cluster_ip("web", Family::V6), 80);
    for _ in 0..20 {
        client::http(pod, web)?;
    }
    let service = [
        ("namespace", "default"),
        ("service", "web"),
        ("port", "http"),
        ("protocol", "TCP"),
        ("ip_family", "IPv6"),
    ];
    let metrics = metrics(node)?;
    let connections = value(&metrics, "proxy_agent_service_connections_total", &service)?;
    assert_eq!(connections, 20.0);
    let packets = value(&metrics, "proxy_agent_service_packets_total", &service)?;
    // SYN, its answer, an ACK, a question, an answer, and the end, at least.
    assert!(packets >= 7.0 * connections, "{packets}");
    for (name, total) in [("connections", connections), ("packets", packets)] {
        let name = format!("proxy_agent_backend_{name}_total");
        let of_endpoints = [(1, 1), (2, 1)].map(|(node, pod)| {
            let address = world.cluster.pod(node, pod).addresses.of(Family::V6);
            let endpoint = SocketAddr::new(address, 8080).to_string();
            let labels = [&service[..], &[("endpoint", &endpoint)]].concat();
            value(&metrics, &name, &labels)
        });
        let [first, second] = of_endpoints;
        assert_eq!(first? + second?, total, "{name}");
    }
    let others = &metrics.families["proxy_agent_service_packets_total"].samples;
    assert_eq!(others.len(), 1, "a Service without traffic is not told of");
    Ok(())
}

#[test]
fn maps_and_devices_are_counted_exactly() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    let node = &world.cluster.nodes[0].namespace;
    let metrics = metrics(node)?;
    assert_eq!(value(&metrics, "proxy_agent_devices", &[])?, 4.0);
    assert_eq!(value(&metrics, "proxy_agent_service_ports", &[])?, 8.0);
    // web, dns (UDP and TCP) and edge: one ClusterIP each, three NodePorts more
    // and one load balancer address.
    let map = [("map", "FRONTENDS_V4")];
    let entries = value(&metrics, "proxy_agent_map_entries", &map)?;
    assert_eq!(entries, 9.0);
    let capacity = value(&metrics, "proxy_agent_map_capacity", &map)?;
    let pressure = value(&metrics, "proxy_agent_map_pressure", &map)?;
    assert!((pressure - entries / capacity).abs() < 1e-9, "{pressure}");
    let build = &metrics.families["proxy_agent_build_info"].samples[0];
    assert_eq!(build.2, 1.0);
    assert!(build.1.contains_key("version"), "{build:?}");
    Ok(())
}

#[test]
fn answers_to_probes_are_counted_by_status() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    let node = &world.cluster.nodes[0].namespace;
    for path in ["healthz", "healthz", "livez"] {
        get(node, &format!("http://127.0.0.1:10256/{path}"))?;
    }
    let metrics = metrics(node)?;
    let count = |name, code| value(&metrics, name, &[("code", code)]);
    assert_eq!(count("kubeproxy_proxy_healthz_total", "200")?, 2.0);
    assert_eq!(count("kubeproxy_proxy_healthz_total", "503")?, 0.0);
    assert_eq!(count("kubeproxy_proxy_livez_total", "200")?, 1.0);
    Ok(())
}

#[test]
fn metrics_are_for_the_machine_itself() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    let node = &world.cluster.nodes[0].namespace;
    let proxy = get(node, "http://127.0.0.1:10249/proxyMode")?;
    assert_eq!(proxy, (200, "ebpf".to_owned()));
    let healthz = get(node, "http://127.0.0.1:10249/healthz")?;
    assert_eq!(healthz, (200, "ok".to_owned()));
    let from_outside = format!("http://{}:10249/metrics", addresses::node(1).of(Family::V4));
    assert_eq!(get(&world.cluster.client, &from_outside)?.0, 0, "no answer");
    Ok(())
}
