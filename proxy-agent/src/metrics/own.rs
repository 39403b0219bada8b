//! This proxy's own metrics.

use std::time::Duration;

use prometheus::{
    GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};
use proxy_ebpf::layout::{self, Counter};

use super::liveness::LivenessMetrics;
use super::register;
use super::traffic::TrafficMetrics;
use crate::status::{CounterValue, Report};

/// From a change of one frontend to the first state of a large cluster.
const PROGRAMMING_BUCKETS: [f64; 16] = [
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
    10.0,
];

/// The metrics.
#[derive(Clone, Debug)]
pub struct ProxyMetrics {
    programming: Histogram,
    refusals: IntCounterVec,
    devices: IntGauge,
    xdp_devices: IntGauge,
    xdp_packets: IntCounterVec,
    tunnel_packets: IntCounterVec,
    service_ports: IntGauge,
    map_entries: IntGaugeVec,
    map_capacity: IntGaugeVec,
    map_pressure: GaugeVec,
    flows_created: IntCounter,
    flows_failed: IntCounterVec,
    records_evicted: IntCounter,
    claim_conflicts: IntCounter,
    liveness: LivenessMetrics,
    drops: IntCounterVec,
    passed_unmodified: IntCounterVec,
    reconciled_elements: IntCounter,
    trace_events_lost: IntCounter,
    traffic: TrafficMetrics,
}

impl ProxyMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let programming = HistogramOpts::new(
            "proxy_agent_programming_duration_seconds",
            "Time from when a change was taken in until the maps had it",
        );
        let gauge = |name: &str, help: &str| register(registry, IntGauge::new(name, help));
        let counter = |name: &str, help: &str| register(registry, IntCounter::new(name, help));
        let by_map = |name: &str, help: &str| {
            register(registry, IntGaugeVec::new(Opts::new(name, help), &["map"]))
        };
        let counted_by = |label: &str, name: &str, help: &str| {
            let options = Opts::new(name, help);
            register(registry, IntCounterVec::new(options, &[label]))
        };
        let by_reason = |name: &str, help: &str| counted_by("reason", name, help);
        let build = IntGaugeVec::new(
            Opts::new(
                "proxy_agent_build_info",
                "Always 1; the labels say which build runs",
            ),
            &["version", "layout"],
        );
        let layout = layout::VERSION.to_string();
        register(registry, build)
            .with_label_values(&[env!("CARGO_PKG_VERSION"), &layout])
            .set(1);
        Self {
            programming: register(
                registry,
                Histogram::with_opts(programming.buckets(PROGRAMMING_BUCKETS.to_vec())),
            ),
            refusals: by_reason(
                "proxy_agent_service_warnings_total",
                "Parts of Services that are not accepted, by the reason of their Event",
            ),
            devices: gauge("proxy_agent_devices", "Edge devices that are served"),
            xdp_devices: gauge(
                "proxy_agent_xdp_devices",
                "Edge devices that have XDP in front of TC",
            ),
            tunnel_packets: counted_by(
                "direction",
                "proxy_agent_tunnel_packets_total",
                "Packets put into tunnels to endpoints of other nodes, and taken out",
            ),
            xdp_packets: counted_by(
                "verdict",
                "proxy_agent_xdp_packets_total",
                "Packets that XDP has translated, by where they went",
            ),
            service_ports: gauge("proxy_agent_service_ports", "Service ports in the maps"),
            map_entries: by_map("proxy_agent_map_entries", "Elements in use"),
            map_capacity: by_map("proxy_agent_map_capacity", "Elements that there are"),
            map_pressure: register(
                registry,
                GaugeVec::new(
                    Opts::new(
                        "proxy_agent_map_pressure",
                        "Elements in use, as a part of all",
                    ),
                    &["map"],
                ),
            ),
            flows_created: counter("proxy_agent_flows_created_total", "Flows created"),
            records_evicted: counter(
                "proxy_agent_flow_records_evicted_total",
                "Flow records (two for each flow) that were not over and had to make way for new ones",
            ),
            claim_conflicts: counter(
                "proxy_agent_flow_claim_conflicts_total",
                "Packets whose flow record another CPU did not finish in time; datagrams are \
                     translated without it, others dropped",
            ),
            liveness: LivenessMetrics::new(registry),
            flows_failed: by_reason(
                "proxy_agent_flows_failed_total",
                "Flows that could not be made; their packets are dropped",
            ),
            drops: by_reason(
                "proxy_agent_drops_total",
                "Packets that were not passed on, those that were answered by a reset too",
            ),
            passed_unmodified: by_reason(
                "proxy_agent_passed_unmodified_total",
                "Packets that were passed unmodified although they may be a Service's",
            ),
            traffic: TrafficMetrics::new(registry),
            trace_events_lost: counter(
                "proxy_agent_trace_events_lost_total",
                "Events for a `proxy-agent trace` that came faster than it read",
            ),
            reconciled_elements: counter(
                "proxy_agent_reconciled_elements_total",
                "Map elements that an audit found changed and wrote again",
            ),
        }
    }

    /// A change was in the maps after this time.
    pub fn programmed(&self, after: Duration) {
        self.programming.observe(after.as_secs_f64());
    }

    /// A part of a Service was not accepted, and an Event said so.
    pub fn warned(&self, reason: &str) {
        self.refusals.with_label_values(&[reason]).inc();
    }

    /// So many elements of maps did not hold what was written to them.
    pub fn reconciled_elements(&self, elements: usize) {
        self.reconciled_elements.inc_by(elements as u64);
    }

    /// So many endpoints are suspect.
    pub fn suspect_endpoints(&self, endpoints: usize) {
        self.liveness
            .suspect_endpoints
            .set(i64::try_from(endpoints).unwrap_or(i64::MAX));
    }

    /// Takes over what a report knows.
    pub fn take(&self, report: &Report) {
        self.devices.set(gauge_value(report.devices.served));
        self.xdp_devices.set(gauge_value(report.devices.with_xdp));
        self.service_ports.set(gauge_value(report.ports));
        let maps = report.maps.iter().map(|it| (it.map, it.used, it.capacity));
        for (map, used, capacity) in maps.chain(report.records.tables.iter().copied()) {
            let label = &[map];
            self.map_entries
                .with_label_values(label)
                .set(gauge_value(used));
            self.map_capacity
                .with_label_values(label)
                .set(gauge_value(capacity));
            #[expect(clippy::cast_precision_loss, reason = "maps have far fewer elements")]
            let pressure = used as f64 / capacity.max(1) as f64;
            self.map_pressure.with_label_values(label).set(pressure);
        }
        for counter in &report.counters {
            self.take_counter(*counter);
        }
        self.traffic.take(&report.traffic);
    }

    /// Takes over a counter of the data path.
    fn take_counter(&self, counter: CounterValue) {
        let CounterValue {
            counter,
            name,
            value,
        } = counter;
        let reason = |family: &IntCounterVec| {
            set_counter(&family.with_label_values(&[name]), value);
        };
        match counter {
            Counter::FlowsCreated => set_counter(&self.flows_created, value),
            Counter::FlowTableFull | Counter::PortsExhausted => {
                reason(&self.flows_failed);
                reason(&self.drops);
            }
            Counter::NoEndpoints
            | Counter::NoLocalEndpoints
            | Counter::SourceNotAllowed
            | Counter::NoSuchPort
            | Counter::NoSuchService
            | Counter::EndpointGone
            | Counter::NoConnection
            | Counter::MartianSource
            | Counter::Fragments
            | Counter::RateLimited
            | Counter::TooBig
            | Counter::Unroutable
            | Counter::RewriteFailed => reason(&self.drops),
            Counter::Malformed => reason(&self.passed_unmodified),
            Counter::ClaimConflict => set_counter(&self.claim_conflicts, value),
            Counter::ConnectionRetried => set_counter(&self.liveness.connections_retried, value),
            Counter::ConnectionRefused => set_counter(&self.liveness.connections_refused, value),
            Counter::FlowUnreachable => set_counter(&self.liveness.flows_unreachable, value),
            Counter::EndpointTried => set_counter(&self.liveness.endpoint_trials, value),
            Counter::EventsLost => set_counter(&self.trace_events_lost, value),
            Counter::RecordsEvicted => set_counter(&self.records_evicted, value),
            Counter::Encapsulated | Counter::Decapsulated => {
                set_counter(&self.tunnel_packets.with_label_values(&[name]), value);
            }
            Counter::XdpPass | Counter::XdpTransmit => {
                let verdict = name.trim_start_matches("xdp_");
                set_counter(&self.xdp_packets.with_label_values(&[verdict]), value);
            }
        }
    }
}

fn gauge_value(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// The kernel counts; here is a copy.
fn set_counter(counter: &IntCounter, value: u64) {
    counter.reset();
    counter.inc_by(value);
}
