//! kube-proxy's metrics (`pkg/proxy/metrics/metrics.go`), as far as they mean
//! something here: names, types, labels and buckets are the same.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, exponential_buckets,
};

use super::{ip_family, register};
use crate::model::object::Family;

/// How much a round of programming looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncExtent {
    /// Everything: the first round.
    Full,
    /// What had changed.
    Partial,
}

/// Which traffic a policy is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyKind {
    /// `internalTrafficPolicy`
    Internal,
    /// `externalTrafficPolicy`
    External,
}

/// Changes of one kind of object.
#[derive(Clone, Debug)]
pub struct Changes {
    pending: IntGauge,
    total: IntCounter,
}

/// The metrics.
#[derive(Clone, Debug)]
pub struct KubeProxyMetrics {
    sync: HistogramVec,
    full_sync: HistogramVec,
    partial_sync: HistogramVec,
    last_sync: GaugeVec,
    last_queued: GaugeVec,
    network_programming: HistogramVec,
    /// Changes of EndpointSlices.
    pub endpoint_changes: Changes,
    /// Changes of Services.
    pub service_changes: Changes,
    no_local_endpoints: IntGaugeVec,
    healthz: IntCounterVec,
    livez: IntCounterVec,
}

const FAMILY: &[&str] = &["ip_family"];

impl KubeProxyMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let sync = |name: &str, of: &str| {
            let help = format!("Time that a round of programming the maps took{of}");
            let buckets = exponential_buckets(0.001, 2.0, 15).unwrap_or_default();
            let options = HistogramOpts::new(name, help).buckets(buckets);
            register(registry, HistogramVec::new(options, FAMILY))
        };
        let time = |name: &str, help: &str| {
            register(registry, GaugeVec::new(Opts::new(name, help), FAMILY))
        };
        let codes = |name: &str, help: &str| {
            let options = Opts::new(name, help);
            register(registry, IntCounterVec::new(options, &["code"]))
        };
        let this = Self {
            sync: sync("kubeproxy_sync_proxy_rules_duration_seconds", ""),
            full_sync: sync(
                "kubeproxy_sync_full_proxy_rules_duration_seconds",
                " that began with empty maps",
            ),
            partial_sync: sync(
                "kubeproxy_sync_partial_proxy_rules_duration_seconds",
                " that wrote what had changed",
            ),
            last_sync: time(
                "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
                "When the maps were last brought up to date",
            ),
            last_queued: time(
                "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
                "When a change was last taken in",
            ),
            network_programming: register(
                registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "kubeproxy_network_programming_duration_seconds",
                        "Time from the change that an EndpointSlice reports until the maps had it",
                    )
                    .buckets(network_programming_buckets()),
                    FAMILY,
                ),
            ),
            endpoint_changes: Changes::new(registry, "endpoint", "EndpointSlices"),
            service_changes: Changes::new(registry, "service", "Services"),
            no_local_endpoints: register(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
                        "Service ports with the traffic policy Local and endpoints, none of them here",
                    ),
                    &["ip_family", "traffic_policy"],
                ),
            ),
            healthz: codes(
                "kubeproxy_proxy_healthz_total",
                "Answers to /healthz by status",
            ),
            livez: codes("kubeproxy_proxy_livez_total", "Answers to /livez by status"),
        };
        this.show_zeros();
        this
    }

    /// Has each label's value from the start, so that a rate over the first event is
    /// right.
    fn show_zeros(&self) {
        for family in Family::ALL {
            let label = &[ip_family(family)];
            for histogram in [
                &self.sync,
                &self.full_sync,
                &self.partial_sync,
                &self.network_programming,
            ] {
                histogram.with_label_values(label);
            }
            self.last_sync.with_label_values(label);
            self.last_queued.with_label_values(label);
            for policy_kind in [PolicyKind::Internal, PolicyKind::External] {
                self.no_local_endpoints(family, policy_kind);
            }
        }
        for code in ["200", "503"] {
            self.healthz.with_label_values(&[code]);
            self.livez.with_label_values(&[code]);
        }
    }

    /// A round of programming took so long. Both families are programmed in one round.
    pub fn programmed(&self, extent: SyncExtent, took: Duration) {
        let by_extent = match extent {
            SyncExtent::Full => &self.full_sync,
            SyncExtent::Partial => &self.partial_sync,
        };
        for family in Family::ALL {
            let label = &[ip_family(family)];
            let seconds = took.as_secs_f64();
            self.sync.with_label_values(label).observe(seconds);
            by_extent.with_label_values(label).observe(seconds);
        }
    }

    /// The maps are up to date now.
    pub fn up_to_date(&self, now: SystemTime) {
        set_time(&self.last_sync, now);
    }

    /// Changes are taken in now.
    pub fn queued(&self, now: SystemTime) {
        set_time(&self.last_queued, now);
    }

    /// A change of endpoints was so old when the maps had it.
    pub fn endpoints_programmed(&self, family: Family, age: Duration) {
        let histogram = &self.network_programming;
        histogram
            .with_label_values(&[ip_family(family)])
            .observe(age.as_secs_f64());
    }

    /// The number of Service ports with a policy Local and endpoints, none of them here.
    pub fn no_local_endpoints(&self, family: Family, policy_kind: PolicyKind) -> IntGauge {
        let policy_kind = match policy_kind {
            PolicyKind::Internal => "internal",
            PolicyKind::External => "external",
        };
        let labels = &[ip_family(family), policy_kind];
        self.no_local_endpoints.with_label_values(labels)
    }

    /// `/healthz` was answered with this status.
    pub fn answered_healthz(&self, code: u16) {
        self.healthz.with_label_values(&[code.to_string()]).inc();
    }

    /// `/livez` was answered with this status.
    pub fn answered_livez(&self, code: u16) {
        self.livez.with_label_values(&[code.to_string()]).inc();
    }
}

impl Changes {
    fn new(registry: &Registry, kind: &str, objects: &str) -> Self {
        let name = |what: &str| format!("kubeproxy_sync_proxy_rules_{kind}_changes_{what}");
        let pending = format!("Changes of {objects} that are not in the maps yet");
        let total = format!("Changes of {objects} that were taken in");
        Self {
            pending: register(registry, IntGauge::new(name("pending"), pending)),
            total: register(registry, IntCounter::new(name("total"), total)),
        }
    }

    /// A change was taken in, of which kube-proxy has so many trackers.
    pub fn add(&self, trackers: usize) {
        self.pending.inc();
        self.total.inc_by(trackers as u64);
    }

    /// All of them are in the maps.
    pub fn mark_synced(&self) {
        self.pending.set(0);
    }
}

fn set_time(gauge: &GaugeVec, time: SystemTime) {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    for family in Family::ALL {
        let gauge: Gauge = gauge.with_label_values(&[ip_family(family)]);
        gauge.set(seconds.as_secs_f64());
    }
}

/// 0.25 s and 0.5 s, every second to 59, every five to 115, every thirty to 300.
fn network_programming_buckets() -> Vec<f64> {
    let seconds = (1..60)
        .chain((60..120).step_by(5))
        .chain((120..=300).step_by(30));
    [0.25, 0.5]
        .into_iter()
        .chain(seconds.map(f64::from))
        .collect()
}
