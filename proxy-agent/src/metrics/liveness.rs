//! What is measured of endpoints that do not answer.

use prometheus::{IntCounter, IntGauge, Registry};

use super::register;

/// The metrics.
#[derive(Clone, Debug)]
pub(super) struct LivenessMetrics {
    pub(super) connections_retried: IntCounter,
    pub(super) connections_refused: IntCounter,
    pub(super) flows_unreachable: IntCounter,
    pub(super) endpoint_trials: IntCounter,
    pub(super) suspect_endpoints: IntGauge,
}

impl LivenessMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str| register(registry, IntCounter::new(name, help));
        let suspects = IntGauge::new(
            "proxy_agent_suspect_endpoints",
            "Endpoints, times Service ports, that new connections avoid since they do not answer",
        );
        Self {
            connections_retried: counter(
                "proxy_agent_connections_retried_total",
                "SYNs that were sent again because the endpoint did not answer, to another one",
            ),
            connections_refused: counter(
                "proxy_agent_connections_refused_total",
                "Connections that the endpoint refused by a reset, without those that were \
                     translated at their sockets",
            ),
            flows_unreachable: counter(
                "proxy_agent_flows_unreachable_total",
                "Flows of UDP without an answer of which an ICMP error said that the endpoint's \
                     host or network is unreachable",
            ),
            endpoint_trials: counter(
                "proxy_agent_endpoint_trials_total",
                "Connections by which it was tried whether a suspect endpoint answers again",
            ),
            suspect_endpoints: register(registry, suspects),
        }
    }
}
