//! `/metrics` in the format of `OpenMetrics`, and what kube-proxy has beside it.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::{Asker, Report};

/// The media type of [`text::encode`]'s output.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn router(asker: Asker) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok"))
        .route("/proxyMode", get(async || "ebpf"))
        .with_state(asker)
}

async fn metrics(State(asker): State<Asker>) -> Response {
    match asker.ask().await {
        Ok(report) => match encode(report) {
            Ok(body) => ([(header::CONTENT_TYPE, OPEN_METRICS)], body).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        },
        Err(late) => late,
    }
}

fn encode(report: Report) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("proxy_agent");
    registry.register_collector(Box::new(report));
    let mut body = String::new();
    text::encode(&mut body, &registry)?;
    Ok(body)
}

impl Collector for Report {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: u64| {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)
        };
        gauge(
            "devices",
            "Edge devices that are served",
            count(self.devices),
        )?;
        gauge(
            "service_ports",
            "Service ports in the kernel",
            count(self.ports),
        )?;
        self.encode_maps(&mut encoder)?;
        self.encode_counters(&mut encoder)
    }
}

impl Report {
    /// Each map's elements in use, and how many there are.
    fn encode_maps(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        type Value = fn(&super::MapUsage) -> u64;
        let families: [(&str, &str, Value); 2] = [
            ("map_entries", "Elements in use", |map| map.used),
            ("map_capacity", "Elements that there are", |map| {
                map.capacity
            }),
        ];
        for (name, help, value) in families {
            let kind = ConstGauge::new(0u64).metric_type();
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for map in &self.maps {
                let label = [("map", map.map)];
                ConstGauge::new(value(map)).encode(family.encode_family(&label)?)?;
            }
        }
        Ok(())
    }

    /// What the data path has counted.
    fn encode_counters(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let kind = ConstCounter::new(0u64).metric_type();
        let help = "What happened to packets that are not just passed on";
        let mut family = encoder.encode_descriptor("packets", help, None, kind)?;
        for (event, value) in &self.counters {
            let label = [("event", *event)];
            ConstCounter::new(*value).encode(family.encode_family(&label)?)?;
        }
        Ok(())
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::MapUsage;
    use super::*;

    #[test]
    fn every_number_of_a_report_is_there() {
        let report = Report {
            families: Vec::new(),
            node_eligible: true,
            devices: 4,
            ports: 8,
            maps: vec![MapUsage {
                map: "SLOTS",
                used: 3,
                capacity: 100,
            }],
            counters: vec![("flows_made", 7)],
        };
        let text = encode(report).unwrap();
        for line in [
            "proxy_agent_devices 4",
            "proxy_agent_service_ports 8",
            "proxy_agent_map_entries{map=\"SLOTS\"} 3",
            "proxy_agent_map_capacity{map=\"SLOTS\"} 100",
            "proxy_agent_packets_total{event=\"flows_made\"} 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
        }
    }
}
