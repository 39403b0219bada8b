//! The Services, one for each way to choose an endpoint, and their endpoints.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use proxy_tests::lab::{Cluster, Family, Pod, addresses};
use serde_json::{Value, json};

/// The Services' port, and their endpoints'.
pub(super) const PORT: u16 = 7777;
/// The NodePort of the first Service.
const NODE_PORT: u16 = 30_077;

/// The endpoints (node, Pod): the last one is on the node that goes dark.
const ENDPOINTS: [(u8, u8); 3] = [(1, 1), (1, 2), (2, 1)];

/// How a Service's endpoint is chosen for a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Random,
    /// `sessionAffinity: ClientIP`
    Affinity,
    /// Consistent hashing, where the agent has it.
    Maglev,
}

impl Choice {
    pub(super) const ALL: [Self; 3] = [Self::Random, Self::Affinity, Self::Maglev];

    pub(super) fn cluster_ip(self, family: Family) -> SocketAddr {
        let number = self as u8;
        match family {
            Family::V4 => (Ipv4Addr::new(10, 96, 0, 77 + number), PORT).into(),
            Family::V6 => {
                let last = 0x77 + u16::from(number);
                (Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, last), PORT).into()
            }
        }
    }

    pub(super) fn node_port(self, family: Family) -> SocketAddr {
        let port = NODE_PORT + self as u16;
        SocketAddr::new(addresses::node(1).of(family), port)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Affinity => "affinity",
            Self::Maglev => "maglev",
        }
    }

    fn service(self) -> Value {
        let cluster_ips = Family::BOTH.map(|it| self.cluster_ip(it).ip().to_string());
        let mut service = json!({
            "kind": "Service", "apiVersion": "v1",
            "metadata": {"name": self.name(), "namespace": "default"},
            "spec": {
                "type": "NodePort", "clusterIP": cluster_ips[0], "clusterIPs": cluster_ips,
                "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack",
                "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Cluster",
                "sessionAffinity": "None",
                "ports": [{"name": "tcp", "protocol": "TCP", "port": PORT,
                    "targetPort": PORT, "nodePort": NODE_PORT + self as u16}],
            },
            "status": {"loadBalancer": {}},
        });
        match self {
            Self::Random => {}
            Self::Affinity => {
                service["spec"]["sessionAffinity"] = json!("ClientIP");
                service["spec"]["sessionAffinityConfig"] =
                    json!({"clientIP": {"timeoutSeconds": 10_800}});
            }
            Self::Maglev => {
                service["metadata"]["annotations"] = json!({"proxy-agent/lb-algorithm": "maglev"});
            }
        }
        service
    }

    fn slice(self, family: Family) -> Value {
        let endpoints = ENDPOINTS.map(|(node, pod)| {
            json!({
                "addresses": [addresses::pod(node, pod).of(family).to_string()],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": format!("node{node}"),
            })
        });
        let (name, family) = (self.name(), family.to_string());
        json!({
            "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
            "metadata": {"name": format!("{name}-{}", family.to_lowercase()),
                "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
            "addressType": family,
            "ports": [{"name": "tcp", "protocol": "TCP", "port": PORT}],
            "endpoints": endpoints,
        })
    }
}

/// The Services and their endpoints, as an API server has them.
pub(super) fn objects() -> Vec<Value> {
    let of = |choice: Choice| {
        let slices = Family::BOTH.map(|family| choice.slice(family));
        std::iter::once(choice.service()).chain(slices)
    };
    Choice::ALL.into_iter().flat_map(of).collect()
}

/// The Pods that are endpoints.
pub(super) fn endpoints(cluster: &Cluster) -> impl Iterator<Item = &Pod> {
    ENDPOINTS
        .map(|(node, pod)| cluster.pod(node.into(), pod.into()))
        .into_iter()
}

/// The name of the Pod on the node that goes dark.
pub(super) fn dark_endpoint() -> String {
    let (node, pod) = ENDPOINTS[2];
    format!("pod-{node}-{pod}")
}
