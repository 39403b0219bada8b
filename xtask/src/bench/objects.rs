//! A cluster's objects as an API server has them, with all that the agent does not
//! need: who wrote which field, owners, pods.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

const SERVICE_PORT: u16 = 80;
/// The port of all endpoints.
pub(super) const ENDPOINT_PORT: u16 = 8080;
/// For ClusterIPs.
pub(super) const SERVICE_RANGE: &str = "10.64.0.0/10";
/// Its first address.
const SERVICES: u32 = 0x0a40_0000;
const MOST_SERVICES: u32 = 1 << 22;
/// 10.128.0.0/9, for endpoints; addresses of endpoints that were replaced come again
/// once all others had their turn.
const ENDPOINTS: u32 = 0x0a80_0000;
const MOST_ENDPOINTS: u32 = 1 << 23;

/// The objects, and what they are next.
pub(super) struct Objects {
    dual_stack: bool,
    /// The endpoints of each Service, by number.
    endpoints: Vec<Vec<u32>>,
    /// The number of the next new endpoint.
    next: u32,
    random: u64,
}

/// The replacement of one endpoint.
#[derive(Clone, Copy)]
pub(super) struct Change {
    /// The Service's number.
    pub(super) service: u32,
    /// The Service's ClusterIP.
    pub(super) frontend: SocketAddrV4,
    /// The new endpoint.
    pub(super) endpoint: SocketAddrV4,
}

impl Objects {
    pub(super) fn new(services: u32, endpoints: u32, dual_stack: bool) -> Result<Self> {
        let total = services.checked_mul(endpoints);
        let fits = total.is_some_and(|total| (1..MOST_ENDPOINTS / 2).contains(&total));
        ensure!(
            fits && services < MOST_SERVICES,
            "there is nothing to measure, or no address for each of so many endpoints"
        );
        let of = |service| (service * endpoints..(service + 1) * endpoints).collect();
        Ok(Self {
            dual_stack,
            endpoints: (0..services).map(of).collect(),
            next: services * endpoints,
            random: 1,
        })
    }

    /// All Services and their slices.
    pub(super) fn all(&self) -> impl Iterator<Item = Value> {
        let services = (0..).zip(&self.endpoints);
        services.flat_map(|(service, _)| self.of_service(service))
    }

    /// A Service and its slices, by its number.
    pub(super) fn of_service(&self, service: u32) -> Vec<Value> {
        let endpoints = &self.endpoints[service as usize];
        let mut objects = vec![
            self.service(service),
            slice(service, endpoints, "IPv4", endpoint_v4),
        ];
        if self.dual_stack {
            objects.push(slice(service, endpoints, "IPv6", endpoint_v6));
        }
        objects
    }

    /// Replaces an endpoint of a Service, both chosen at random; the new slice, and
    /// what is new in it.
    pub(super) fn change(&mut self) -> (Value, Change) {
        let chosen = self.random_below(self.endpoints.len());
        let position = self.random_below(self.endpoints[chosen].len());
        let new = self.next;
        self.next = (self.next + 1) % MOST_ENDPOINTS;
        let endpoints = &mut self.endpoints[chosen];
        endpoints[position] = new;
        let service = u32::try_from(chosen).unwrap_or_default();
        let change = Change {
            service,
            frontend: frontend(service),
            endpoint: SocketAddrV4::new(address_v4(new), ENDPOINT_PORT),
        };
        (slice(service, endpoints, "IPv4", endpoint_v4), change)
    }

    /// A linear congruential generator (Knuth, MMIX), so that each run does the same.
    fn random_below(&mut self, limit: usize) -> usize {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.random >> 33).unwrap_or_default() % limit
    }

    fn service(&self, service: u32) -> Value {
        let v4 = cluster_ip_v4(service).to_string();
        let v6 = cluster_ip_v6(service).to_string();
        let (ips, families) = if self.dual_stack {
            (json!([v4, v6]), json!(["IPv4", "IPv6"]))
        } else {
            (json!([v4]), json!(["IPv4"]))
        };
        let name = name(service);
        json!({
            "kind": "Service", "apiVersion": "v1",
            "metadata": {
                "name": name, "namespace": namespace(service),
                "labels": {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "bench"},
                "managedFields": [{
                    "apiVersion": "v1", "fieldsType": "FieldsV1", "manager": "kubectl",
                    "operation": "Update", "time": "2024-01-01T00:00:00Z",
                    "fieldsV1": {"f:metadata": {"f:labels": {".": {},
                        "f:app.kubernetes.io/name": {}, "f:app.kubernetes.io/part-of": {}}},
                        "f:spec": {"f:internalTrafficPolicy": {}, "f:ports": {".": {},
                        "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:name": {},
                        "f:port": {}, "f:protocol": {}, "f:targetPort": {}}},
                        "f:selector": {}, "f:sessionAffinity": {}, "f:type": {}}},
                }],
            },
            "spec": {
                "type": "ClusterIP", "clusterIP": v4, "clusterIPs": ips,
                "ipFamilies": families, "ipFamilyPolicy": "PreferDualStack",
                "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
                "selector": {"app.kubernetes.io/name": name},
                "ports": [{
                    "name": "http", "port": SERVICE_PORT, "protocol": "TCP",
                    "targetPort": "http",
                }],
            },
            "status": {"loadBalancer": {}},
        })
    }
}

/// A Service's ClusterIP and port, by its number.
pub(super) fn frontend(service: u32) -> SocketAddrV4 {
    SocketAddrV4::new(cluster_ip_v4(service), SERVICE_PORT)
}

/// A Node that an agent runs on.
pub(super) fn node(name: &str, address: Ipv4Addr) -> Value {
    json!({
        "kind": "Node", "apiVersion": "v1", "metadata": {"name": name},
        "status": {"addresses": [{"type": "InternalIP", "address": address.to_string()}]},
    })
}

fn name(service: u32) -> String {
    format!("service-{service:06}")
}

/// A hundred Services each.
fn namespace(service: u32) -> String {
    format!("team-{}", service / 100)
}

fn slice(service: u32, endpoints: &[u32], family: &str, endpoint: fn(u32) -> Value) -> Value {
    let name = name(service);
    let suffix = family.trim_start_matches("IP");
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "name": format!("{name}-{suffix}"), "namespace": namespace(service),
            "generateName": format!("{name}-"), "generation": 7,
            "annotations": {
                "endpoints.kubernetes.io/last-change-trigger-time": "2024-01-01T00:00:00Z",
            },
            "labels": {
                "app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "bench",
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": name,
            },
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Service", "name": name, "controller": true,
                "blockOwnerDeletion": true, "uid": "00000000-0000-4000-8000-000000000000",
            }],
            "managedFields": [{
                "apiVersion": "discovery.k8s.io/v1", "fieldsType": "FieldsV1",
                "manager": "kube-controller-manager", "operation": "Update",
                "time": "2024-01-01T00:00:00Z",
                "fieldsV1": {"f:addressType": {}, "f:endpoints": {}, "f:metadata": {
                    "f:annotations": {".": {},
                        "f:endpoints.kubernetes.io/last-change-trigger-time": {}},
                    "f:generateName": {}, "f:labels": {".": {},
                        "f:endpointslice.kubernetes.io/managed-by": {},
                        "f:kubernetes.io/service-name": {}},
                    "f:ownerReferences": {".": {}}}, "f:ports": {}},
            }],
        },
        "addressType": family,
        "ports": [{"name": "http", "port": ENDPOINT_PORT, "protocol": "TCP"}],
        "endpoints": endpoints.iter().map(|number| endpoint(*number)).collect::<Vec<_>>(),
    })
}

fn endpoint_v4(number: u32) -> Value {
    endpoint(number, address_v4(number).into())
}

fn endpoint_v6(number: u32) -> Value {
    endpoint(number, address_v6(number).into())
}

fn endpoint(number: u32, address: IpAddr) -> Value {
    json!({
        "addresses": [address.to_string()],
        "conditions": {"ready": true, "serving": true, "terminating": false},
        "nodeName": format!("node-{}", number % 1000),
        "zone": format!("zone-{}", number % 3),
        "targetRef": {
            "kind": "Pod", "namespace": "default", "name": format!("pod-{number}"),
            "uid": "00000000-0000-4000-8000-000000000000",
        },
    })
}

fn cluster_ip_v4(service: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(SERVICES + service)
}

fn cluster_ip_v6(service: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(0xfd00_0010_0096 << 80 | u128::from(service + 1))
}

fn address_v4(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(ENDPOINTS + number)
}

fn address_v6(number: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(0xfd00_0010_0244 << 80 | u128::from(number + 1))
}
