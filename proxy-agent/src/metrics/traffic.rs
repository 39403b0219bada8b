//! What was translated, by Service and by endpoint.

use prometheus::{IntCounterVec, Opts, Registry};

use super::{ip_family, register};
use crate::status::PortTraffic;

/// What identifies a Service port.
const LABELS: [&str; 5] = ["namespace", "service", "port", "protocol", "ip_family"];

/// The metrics. Only what had any traffic on this node is exported: mostly a small part of
/// a large cluster.
#[derive(Clone, Debug)]
pub(super) struct TrafficMetrics {
    service_connections: IntCounterVec,
    service_packets: IntCounterVec,
    backend_connections: IntCounterVec,
    backend_packets: IntCounterVec,
}

impl TrafficMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let family = |name: &str, help: &str, more: &[&str]| {
            let labels = [&LABELS, more].concat();
            register(registry, IntCounterVec::new(Opts::new(name, help), &labels))
        };
        Self {
            service_connections: family(
                "proxy_agent_service_connections_total",
                "Connections, and flows of datagrams, that were translated for a Service",
                &[],
            ),
            service_packets: family(
                "proxy_agent_service_packets_total",
                "Packets that were translated for a Service, in both directions",
                &[],
            ),
            backend_connections: family(
                "proxy_agent_backend_connections_total",
                "Connections, and flows of datagrams, that an endpoint got",
                &["endpoint"],
            ),
            backend_packets: family(
                "proxy_agent_backend_packets_total",
                "Packets that were translated to and from an endpoint",
                &["endpoint"],
            ),
        }
    }

    /// Takes over what was translated. What is not reported any more is gone.
    pub(super) fn take(&self, ports: &[PortTraffic]) {
        let families = [
            &self.service_connections,
            &self.service_packets,
            &self.backend_connections,
            &self.backend_packets,
        ];
        families.into_iter().for_each(IntCounterVec::reset);
        for port in ports {
            self.take_port(port);
        }
    }

    fn take_port(&self, traffic: &PortTraffic) {
        let PortTraffic {
            port,
            total,
            endpoints,
        } = traffic;
        let protocol = port.protocol.to_string();
        let labels = [
            &*port.service.namespace,
            &*port.service.name,
            &*port.port,
            &protocol,
            ip_family(port.family),
        ];
        let add = |family: &IntCounterVec, labels: &[&str], value| {
            family.with_label_values(labels).inc_by(value);
        };
        add(&self.service_connections, &labels, total.connections);
        add(&self.service_packets, &labels, total.packets);
        for (endpoint, traffic) in endpoints {
            let endpoint = endpoint.to_string();
            let labels = [&labels[..], &[&endpoint]].concat();
            add(&self.backend_connections, &labels, traffic.connections);
            add(&self.backend_packets, &labels, traffic.packets);
        }
    }
}
