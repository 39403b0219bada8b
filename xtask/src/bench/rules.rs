//! The rules that kube-proxy 1.36 writes, so that they can be measured beside the proxy
//! where no kube-proxy runs: generated from the same Services and `EndpointSlices`, in
//! the form in which kube-proxy hands them to `iptables-restore` and `nft`.
//!
//! Sources: pkg/proxy/iptables/proxier.go, pkg/proxy/nftables/proxier.go and
//! pkg/proxy/topology.go of Kubernetes, and what kube-proxy was seen to write, which is
//! in `rules/fixtures` and which the tests compare with. The rules are those of a full
//! sync, for IPv4, `detectLocalMode: ClusterCIDR`, and NodePorts at the Node's primary
//! address (`nodePortAddresses: [primary]`).
//!
//! What is not as in kube-proxy:
//!
//! - `KUBE-FORWARD` drops packets of invalid state without counting them by nfacct. The
//!   counter is an object of the kernel that kube-proxy makes by netlink before, and
//!   where it cannot, it writes the rule as it is here.
//! - kube-proxy handles Services in the random order of a Go map. Here they come in the
//!   order in which they are given.
//! - kube-proxy makes the jumps from built-in chains and its canaries by calls of
//!   `iptables`. Here they are a part of the input of `iptables-restore`, which is thus
//!   for a network namespace where no rules of kube-proxy are.
//! - Endpoints are not chosen by topology (hints), which are off unless a Service asks.

mod iptables;
mod names;
mod nftables;
#[cfg(test)]
mod tests;

use std::{borrow::Borrow, collections::HashMap, net::Ipv4Addr};

use anyhow::{Context as _, Result};
use ipnet::Ipv4Net;
use serde::Deserialize;
use serde_json::Value;

/// The bit of packets' marks by which kube-proxy tells what is to be masqueraded
/// (`masqueradeBit: 14`).
const MASQUERADE_MARK: &str = "0x4000";

/// The Node on which kube-proxy would run, and the addresses of its cluster.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) name: String,
    /// Its primary address, for NodePorts.
    pub(super) address: Ipv4Addr,
    /// `clusterCIDR`, the addresses of Pods.
    pub(super) pods: Ipv4Net,
    /// The `ServiceCIDR`, the addresses of Services.
    pub(super) services: Ipv4Net,
}

/// What kube-proxy knows when it writes rules.
#[derive(Debug)]
pub(super) struct Rules {
    node: Node,
    ports: Vec<ServicePort>,
}

impl Rules {
    /// Takes Services and `EndpointSlices` as the API has them, in any order; ignores
    /// objects of other kinds.
    pub(super) fn of<T: Borrow<Value>>(
        node: &Node,
        objects: impl IntoIterator<Item = T>,
    ) -> Result<Self> {
        let mut ports = Vec::new();
        let mut endpoints = HashMap::new();
        for object in objects {
            let object = object.borrow();
            match object["kind"].as_str() {
                Some("Service") => read_service(object, &mut ports)?,
                Some("EndpointSlice") => read_slice(node, object, &mut endpoints)?,
                _ => {}
            }
        }
        for port in &mut ports {
            let key = (port.title.clone(), port.protocol);
            port.endpoints = in_order(endpoints.remove(&key).unwrap_or_default());
        }
        let node = node.clone();
        Ok(Self { node, ports })
    }

    /// The input of `iptables-restore --noflush`, for a network namespace where no rules
    /// of kube-proxy are.
    pub(super) fn iptables(&self) -> String {
        iptables::write(self)
    }

    /// The input of `nft -f -`. Rules that were loaded before are replaced; chains and
    /// elements of sets of affinity that are not needed any more stay.
    pub(super) fn nftables(&self) -> String {
        nftables::write(self)
    }
}

/// A port of a Service, which is what kube-proxy writes rules for.
#[derive(Debug)]
struct ServicePort {
    /// `namespace/service:port`, as comments of rules name it.
    title: String,
    /// `namespace/service/protocol/port`, as chains of nftables mode are called.
    path: String,
    protocol: &'static str,
    cluster_ip: Ipv4Addr,
    port: u16,
    node_port: Option<u16>,
    health_check_node_port: Option<u16>,
    external_ips: Vec<Ipv4Addr>,
    load_balancer_ips: Vec<Ipv4Addr>,
    source_ranges: Vec<Ipv4Net>,
    internal_local: bool,
    external_local: bool,
    /// How many seconds a client stays with an endpoint.
    affinity: Option<u32>,
    endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug)]
struct Endpoint {
    /// `address:port`
    text: String,
    address: Ipv4Addr,
    port: u16,
    local: bool,
    ready: bool,
    /// Still serves while it ends.
    ending: bool,
}

/// The endpoints that a Service port's rules lead to.
struct Usable<'a> {
    /// For traffic policy Cluster.
    cluster: Vec<&'a Endpoint>,
    /// For traffic policy Local.
    local: Vec<&'a Endpoint>,
    /// For one or the other.
    reachable: Vec<&'a Endpoint>,
    /// There are endpoints in the cluster.
    any: bool,
    /// There are endpoints for traffic to the ClusterIP.
    internal: bool,
    /// There are endpoints for traffic to NodePorts, load balancers and external IPs.
    external: bool,
}

impl ServicePort {
    /// Whether there is more than a ClusterIP.
    fn is_external(&self) -> bool {
        let addresses = self.external_ips.len() + self.load_balancer_ips.len();
        self.node_port.is_some() || addresses > 0
    }

    /// Also with external policy Local, for traffic from this Node and its Pods.
    fn uses_cluster_endpoints(&self) -> bool {
        !self.internal_local || self.is_external()
    }

    fn uses_local_endpoints(&self) -> bool {
        self.internal_local || (self.external_local && self.is_external())
    }

    /// Whether a load balancer's address is for some clients only.
    fn has_source_ranges(&self) -> bool {
        !self.load_balancer_ips.is_empty() && !self.source_ranges.is_empty()
    }

    /// The source ranges; and if this Node is in one, the load balancer's addresses: they
    /// are the source of the Node's own connections where they are addresses of the Node.
    fn allowed_sources(&self, node: &Node) -> Vec<Ipv4Net> {
        let mut sources = self.source_ranges.clone();
        if sources.iter().any(|range| range.contains(&node.address)) {
            sources.extend(self.load_balancer_ips.iter().copied().map(Ipv4Net::from));
        }
        sources
    }

    /// Endpoints by policy, as `CategorizeEndpoints` in pkg/proxy/topology.go has it: those
    /// that are ready, and if none is, those that still serve.
    fn usable(&self) -> Usable<'_> {
        let all = usable_of(&self.endpoints, |_| true);
        let local = usable_of(&self.endpoints, |it| it.local);
        let any = !all.is_empty();
        let cluster = if self.uses_cluster_endpoints() {
            all
        } else {
            Vec::new()
        };
        let local = if self.uses_local_endpoints() {
            local
        } else {
            Vec::new()
        };
        let mut reachable = cluster.clone();
        // All of `cluster` are ready, or none is, and then all of `local` are among them.
        let missing = |it: &&Endpoint| match cluster.first() {
            Some(first) => first.ready && !it.ready,
            None => true,
        };
        reachable.extend(local.iter().copied().filter(missing));
        Usable {
            any,
            internal: any && !(self.internal_local && local.is_empty()),
            external: any && !(self.external_local && local.is_empty()),
            cluster,
            local,
            reachable,
        }
    }
}

fn usable_of(endpoints: &[Endpoint], wanted: impl Fn(&Endpoint) -> bool) -> Vec<&Endpoint> {
    let ready = |it: &&Endpoint| wanted(it) && it.ready;
    let ready: Vec<_> = endpoints.iter().filter(ready).collect();
    if !ready.is_empty() {
        return ready;
    }
    let ending = |it: &&Endpoint| wanted(it) && it.ending;
    endpoints.iter().filter(ending).collect()
}

/// Each endpoint once, by the text of its address and port.
fn in_order(mut endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    endpoints.sort_by(|one, other| (&one.text, !one.local).cmp(&(&other.text, !other.local)));
    endpoints.dedup_by(|one, other| one.text == other.text);
    endpoints
}

/// Endpoints by the title and the protocol of their Service port.
type Endpoints = HashMap<(String, &'static str), Vec<Endpoint>>;

/// The fields of a Service that kube-proxy reads, and below of an `EndpointSlice`.
#[derive(Deserialize)]
struct Service {
    metadata: Metadata,
    spec: ServiceSpec,
    #[serde(default)]
    status: ServiceStatus,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    namespace: String,
    #[serde(default)]
    labels: HashMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceSpec {
    #[serde(default)]
    r#type: String,
    #[serde(default, rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    #[serde(default)]
    ports: Vec<ServicePortSpec>,
    #[serde(default, rename = "externalIPs")]
    external_ips: Vec<String>,
    #[serde(default)]
    load_balancer_source_ranges: Vec<String>,
    #[serde(default)]
    internal_traffic_policy: String,
    #[serde(default)]
    external_traffic_policy: String,
    #[serde(default)]
    session_affinity: String,
    session_affinity_config: Option<SessionAffinityConfig>,
    health_check_node_port: Option<u16>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServicePortSpec {
    #[serde(default)]
    name: String,
    protocol: Option<String>,
    port: u16,
    node_port: Option<u16>,
}

#[derive(Deserialize)]
struct SessionAffinityConfig {
    #[serde(rename = "clientIP")]
    client_ip: Option<ClientIp>,
}

#[derive(Deserialize)]
struct ClientIp {
    #[serde(rename = "timeoutSeconds")]
    timeout: Option<u32>,
}

#[derive(Default, Deserialize)]
struct ServiceStatus {
    #[serde(default, rename = "loadBalancer")]
    load_balancer: LoadBalancer,
}

#[derive(Default, Deserialize)]
struct LoadBalancer {
    #[serde(default)]
    ingress: Vec<Ingress>,
}

#[derive(Deserialize)]
struct Ingress {
    #[serde(default)]
    ip: String,
    #[serde(rename = "ipMode")]
    mode: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Slice {
    metadata: Metadata,
    address_type: String,
    #[serde(default)]
    ports: Vec<SlicePort>,
    #[serde(default)]
    endpoints: Vec<SliceEndpoint>,
}

#[derive(Deserialize)]
struct SlicePort {
    #[serde(default)]
    name: String,
    protocol: Option<String>,
    port: Option<u16>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SliceEndpoint {
    addresses: Vec<String>,
    #[serde(default)]
    conditions: Conditions,
    node_name: Option<String>,
}

#[derive(Default, Deserialize)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

/// Adds the ports of a Service, unless it is one that kube-proxy has no rules for.
fn read_service(object: &Value, ports: &mut Vec<ServicePort>) -> Result<()> {
    let service = Service::deserialize(object).context("not a Service")?;
    let Service { metadata, spec, .. } = &service;
    let cluster_ip = addresses(&spec.cluster_ips).first().copied();
    let other_proxy = "service.kubernetes.io/service-proxy-name";
    let Some(cluster_ip) = cluster_ip.filter(|_| !metadata.labels.contains_key(other_proxy)) else {
        return Ok(());
    };
    let is_vip = |it: &&Ingress| it.mode.as_deref().is_none_or(|mode| mode == "VIP");
    let ingress = service.status.load_balancer.ingress.iter().filter(is_vip);
    let load_balancer_ips = addresses(ingress.map(|it| &it.ip));
    let ranges = spec.load_balancer_source_ranges.iter();
    let ranges = ranges.filter_map(|range| range.trim().parse().ok());
    let source_ranges: Vec<_> = ranges.map(|range: Ipv4Net| range.trunc()).collect();
    let external_local = spec.external_traffic_policy == "Local";
    let health_check = external_local && spec.r#type == "LoadBalancer";
    for port in &spec.ports {
        let protocol = protocol(port.protocol.as_deref())?;
        let Metadata {
            namespace, name, ..
        } = metadata;
        ports.push(ServicePort {
            title: title(metadata, name, &port.name),
            path: format!("{namespace}/{name}/{protocol}/{}", port.name),
            protocol,
            cluster_ip,
            port: port.port,
            node_port: port.node_port.filter(|&number| number != 0),
            health_check_node_port: spec.health_check_node_port.filter(|_| health_check),
            external_ips: addresses(&spec.external_ips),
            load_balancer_ips: load_balancer_ips.clone(),
            source_ranges: source_ranges.clone(),
            internal_local: spec.internal_traffic_policy == "Local",
            external_local,
            affinity: (spec.session_affinity == "ClientIP").then(|| spec.affinity_timeout()),
            endpoints: Vec::new(),
        });
    }
    Ok(())
}

impl ServiceSpec {
    /// The API server sets it; the default is the API's.
    fn affinity_timeout(&self) -> u32 {
        let config = self.session_affinity_config.as_ref();
        let client_ip = config.and_then(|config| config.client_ip.as_ref());
        client_ip.and_then(|it| it.timeout).unwrap_or(10_800)
    }
}

/// Adds the endpoints of a slice.
fn read_slice(node: &Node, object: &Value, endpoints: &mut Endpoints) -> Result<()> {
    let slice = Slice::deserialize(object).context("not an EndpointSlice")?;
    let service = slice.metadata.labels.get("kubernetes.io/service-name");
    let Some(service) = service.filter(|_| slice.address_type == "IPv4") else {
        return Ok(());
    };
    for port in &slice.ports {
        let Some(number) = port.port else { continue };
        let title = title(&slice.metadata, service, &port.name);
        let key = (title, protocol(port.protocol.as_deref())?);
        let known = endpoints.entry(key).or_default();
        for endpoint in &slice.endpoints {
            let Some(address) = addresses(&endpoint.addresses).first().copied() else {
                continue;
            };
            let ready = endpoint.conditions.ready.unwrap_or(true);
            let serving = endpoint.conditions.serving.unwrap_or(ready);
            known.push(Endpoint {
                text: format!("{address}:{number}"),
                address,
                port: number,
                local: endpoint.node_name.as_ref() == Some(&node.name),
                ready,
                ending: serving && endpoint.conditions.terminating.unwrap_or(false),
            });
        }
    }
    Ok(())
}

/// What kube-proxy calls a Service port.
fn title(metadata: &Metadata, service: &str, port: &str) -> String {
    let namespace = &metadata.namespace;
    if port.is_empty() {
        format!("{namespace}/{service}")
    } else {
        format!("{namespace}/{service}:{port}")
    }
}

/// The IPv4 addresses of some texts; those of IPv6 and `None` are left out.
fn addresses<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<Ipv4Addr> {
    let parsed = texts.into_iter().filter_map(|text| text.parse().ok());
    parsed.collect()
}

fn protocol(name: Option<&str>) -> Result<&'static str> {
    match name {
        None | Some("TCP") => Ok("tcp"),
        Some("UDP") => Ok("udp"),
        Some("SCTP") => Ok("sctp"),
        Some(other) => anyhow::bail!("{other}: not a protocol of Services"),
    }
}
