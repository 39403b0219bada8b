//! The Services of a lab: many whose endpoints are nowhere, and a few that are called.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::Result;
use proxy_tests::lab::addresses;
use serde_json::{Value, json};

use super::super::{
    objects::{self, ENDPOINT_PORT, Objects},
    report::Position,
    rules,
};

/// Endpoints of each Service that is not called.
pub(super) const ENDPOINTS: u32 = 10;
/// The port of the Pods for datagrams.
pub(super) const UDP_PORT: u16 = 8053;
/// The NodePort whose endpoint is in node1, where the client sends to.
pub(super) const LOCAL_NODE_PORT: u16 = 30_053;
/// The NodePort whose endpoint is in node2.
pub(super) const REMOTE_NODE_PORT: u16 = 30_054;

/// What the API server has.
pub(super) struct Load {
    pub(super) services: u32,
    pub(super) objects: Vec<Value>,
    /// The ClusterIPs that are called: first, middle and last of all.
    pub(super) probes: Vec<(Position, SocketAddrV4)>,
}

impl Load {
    /// So many Services with ten endpoints each, but those that are called have one, the
    /// Pod of node2 (`Cluster::pod(2, 1)`).
    pub(super) fn new(services: u32) -> Result<Self> {
        let made = Objects::new(services, ENDPOINTS, false)?;
        let mut objects: Vec<_> = made.all().collect();
        let mut probes = Vec::new();
        let places = [
            (Position::First, 0),
            (Position::Middle, services / 2),
            (Position::Last, services - 1),
        ];
        for (position, service) in places {
            let address = objects::frontend(service);
            if probes.iter().any(|(_, probed)| *probed == address) {
                continue;
            }
            // A Service, its slice, the next Service.
            let slice = &mut objects[2 * service as usize + 1];
            slice["endpoints"] = json!([endpoint(2)]);
            probes.push((position, address));
        }
        Ok(Self {
            services,
            objects,
            probes,
        })
    }

    /// Adds two Services for datagrams from outside by NodePorts, one with an endpoint in
    /// node1 and one with an endpoint in node2.
    pub(super) fn with_node_ports(mut self) -> Self {
        for (node, port) in [(1, LOCAL_NODE_PORT), (2, REMOTE_NODE_PORT)] {
            let name = format!("datagrams-{node}");
            // Behind the others, whose addresses count from 10.64.0.0.
            let address = Ipv4Addr::new(10, 127, 0, node).to_string();
            self.objects.push(json!({
                "kind": "Service", "apiVersion": "v1",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {
                    "type": "NodePort", "clusterIP": address, "clusterIPs": [address],
                    "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
                    "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Cluster",
                    "sessionAffinity": "None",
                    "ports": [{"name": "udp", "protocol": "UDP", "port": UDP_PORT,
                        "targetPort": UDP_PORT, "nodePort": port}],
                },
                "status": {"loadBalancer": {}},
            }));
            self.objects.push(json!({
                "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
                "metadata": {"name": name, "namespace": "default",
                    "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4",
                "ports": [{"name": "udp", "protocol": "UDP", "port": UDP_PORT}],
                "endpoints": [endpoint(node)],
            }));
        }
        self
    }

    /// The rules that kube-proxy would write on a node.
    pub(super) fn rules(&self, node: u8) -> Result<rules::Rules> {
        rules::Rules::of(&rules_node(node)?, &self.objects)
    }
}

/// A node of the lab as kube-proxy knows it.
pub(in super::super) fn rules_node(number: u8) -> Result<rules::Node> {
    Ok(rules::Node {
        name: format!("node{number}"),
        address: addresses::node(number).v4,
        pods: "10.244.0.0/16".parse()?,
        services: objects::SERVICE_RANGE.parse()?,
    })
}

/// The first Pod of a node, as an endpoint.
fn endpoint(node: u8) -> Value {
    json!({
        "addresses": [addresses::pod(node, 1).v4.to_string()],
        "conditions": {"ready": true, "serving": true, "terminating": false},
        "nodeName": format!("node{node}"),
    })
}

/// The Pod of node2 without a Service, by TCP.
pub(super) fn direct() -> SocketAddrV4 {
    SocketAddrV4::new(addresses::pod(2, 1).v4, ENDPOINT_PORT)
}

/// The Pod of a node without a Service, for datagrams.
pub(super) fn direct_datagrams(node: u8) -> SocketAddrV4 {
    SocketAddrV4::new(addresses::pod(node, 1).v4, UDP_PORT)
}

/// A NodePort of node1.
pub(super) fn node_port(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(addresses::node(1).v4, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn called_services_have_one_endpoint_and_are_first_middle_and_last() {
        let load = Load::new(5).unwrap();
        let slices = load.objects.iter().skip(1).step_by(2);
        let counts = slices.map(|slice| slice["endpoints"].as_array().unwrap().len());
        assert_eq!(counts.collect::<Vec<_>>(), [1, 10, 1, 10, 1]);
        let places: Vec<_> = load.probes.iter().map(|(position, _)| *position).collect();
        assert_eq!(places, [Position::First, Position::Middle, Position::Last]);
        assert_eq!(load.probes[2].1, "10.64.0.4:80".parse().unwrap());
        assert_eq!(Load::new(1).unwrap().probes.len(), 1);
    }
}
