//! What the agent counts and measures, for Prometheus.
//!
//! [`KubeProxyMetrics`] has kube-proxy's names, so that its dashboards and alerts work;
//! [`ProxyMetrics`] has what this proxy measures beside. Those of any component of Kubernetes
//! and of any process are there too.

mod kube_proxy;
mod kubernetes;
mod liveness;
mod own;
mod traffic;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Registry, TextEncoder};

pub use kube_proxy::{KubeProxyMetrics, PolicyKind, SyncExtent};
pub use own::ProxyMetrics;

use crate::model::object::Family;
use crate::source::kube::RequestMetrics;

/// All metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// With kube-proxy's names.
    pub kube_proxy: KubeProxyMetrics,
    /// This proxy's own.
    pub own: ProxyMetrics,
    /// Of requests to the API server.
    pub requests: RequestMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        kubernetes::export_constants(&registry);
        let requests = RequestMetrics::default();
        let process: Box<dyn Collector> = Box::new(ProcessCollector::for_self());
        for collector in requests.collectors().into_iter().chain([process]) {
            registry
                .register(collector)
                .expect("each name is registered once");
        }
        Self {
            kube_proxy: KubeProxyMetrics::new(&registry),
            own: ProxyMetrics::new(&registry),
            requests,
            registry,
        }
    }
}

impl Metrics {
    /// Prometheus' text format, version 0.0.4.
    ///
    /// # Errors
    ///
    /// A metric is not as the format wants it.
    pub fn text(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// Takes a metric into the registry. Names, labels and buckets are constants.
fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<C>,
) -> C {
    let metric = metric.expect("a metric whose name and labels are well formed");
    registry
        .register(Box::new(metric.clone()))
        .expect("each name is registered once");
    metric
}

/// The value of the label `ip_family`.
fn ip_family(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}
