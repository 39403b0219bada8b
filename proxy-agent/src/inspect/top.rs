//! What was counted between two readings of the maps, by Service port and by endpoint.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use proxy_ebpf::layout::{Counter, Traffic};

use super::backends::{self, BackendRow};
use super::{Filter, Names, State};
use crate::model::object::{Family, Protocol};

/// How many rates of each Service are remembered.
pub const HISTORY: usize = 60;

/// What the maps held at one time.
#[derive(Debug, Default)]
pub struct Sample {
    /// When, on any clock.
    pub at: Duration,
    /// What an agent has written, and what was counted.
    pub state: State,
    /// The counters of the node.
    pub counters: Vec<(Counter, u64)>,
}

/// Rates a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// New connections, and flows of datagrams.
    pub connections: f64,
    /// Packets of both directions.
    pub packets: f64,
}

/// A Service port.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceRow {
    /// `namespace/name:port`
    pub name: String,
    /// Its protocol.
    pub protocol: Option<Protocol>,
    /// Endpoints that serve.
    pub endpoints: usize,
    /// Since the last sample.
    pub rates: Rates,
    /// Since it came.
    pub total: Traffic,
    /// The last rates of connections, the newest last.
    pub history: VecDeque<f64>,
}

/// An endpoint of a Service port.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointRow {
    /// The endpoint.
    pub endpoint: SocketAddr,
    /// As of [`BackendRow`].
    pub state: &'static str,
    /// Whether it is on this node.
    pub local: bool,
    /// Since the last sample.
    pub rates: Rates,
    /// Since it came.
    pub total: Traffic,
}

/// What is known after some samples.
#[derive(Debug, Default)]
pub struct Top {
    /// By the id of the Service port.
    pub services: BTreeMap<u32, ServiceRow>,
    /// Of each Service port.
    pub endpoints: BTreeMap<u32, Vec<EndpointRow>>,
    /// Flows that were made, a second.
    pub flows_created: f64,
    /// What the node has dropped or refused a second, by reason; the most first.
    pub drops: Vec<(&'static str, f64)>,
    last: Option<Last>,
}

/// What the last sample has counted.
#[derive(Debug)]
struct Last {
    at: Duration,
    services: BTreeMap<u32, Traffic>,
    /// By family, index and generation.
    endpoints: BTreeMap<(Family, u32, u32), Traffic>,
    counters: Vec<(Counter, u64)>,
}

impl Top {
    /// Takes a sample in.
    pub fn take(&mut self, sample: &Sample) {
        let last = self.last.take();
        let seconds = last
            .as_ref()
            .map_or(0.0, |last| sample.at.saturating_sub(last.at).as_secs_f64());
        let rows = backends::list(&sample.state, &Filter::default(), false);
        self.take_services(sample, &rows, last.as_ref(), seconds);
        let endpoints = self.take_endpoints(&rows, last.as_ref(), seconds);
        self.take_counters(&sample.counters, last.as_ref(), seconds);
        let services = self.services.iter();
        self.last = Some(Last {
            at: sample.at,
            services: services.map(|(id, row)| (*id, row.total)).collect(),
            endpoints,
            counters: sample.counters.clone(),
        });
    }

    fn take_services(
        &mut self,
        sample: &Sample,
        rows: &[BackendRow],
        last: Option<&Last>,
        seconds: f64,
    ) {
        let names = Names::new(&sample.state.content.service_names);
        let mut before = std::mem::take(&mut self.services);
        for (id, value) in &sample.state.content.frontends {
            let service = value.service;
            if self.services.contains_key(&service) {
                continue;
            }
            let name = names.of(service).to_string();
            // An id may be another Service's now.
            let known = before.remove(&service).filter(|row| row.name == name);
            let total = sample.state.of_service(service);
            let counted = last.filter(|_| known.is_some());
            let counted = counted.and_then(|last| last.services.get(&service));
            let rates = rates(counted.copied(), total, seconds);
            let mut history = known.map(|row| row.history).unwrap_or_default();
            if counted.is_some() {
                history.push_back(rates.connections);
                while history.len() > HISTORY {
                    history.pop_front();
                }
            }
            let is_its =
                |row: &&BackendRow| row.service.as_ref().is_some_and(|it| it.id == service);
            let serving = rows.iter().filter(is_its);
            let row = ServiceRow {
                name,
                protocol: Some(id.protocol),
                endpoints: serving.filter(|row| row.state == backends::SERVING).count(),
                rates,
                total,
                history,
            };
            self.services.insert(service, row);
        }
    }

    fn take_endpoints(
        &mut self,
        rows: &[BackendRow],
        last: Option<&Last>,
        seconds: f64,
    ) -> BTreeMap<(Family, u32, u32), Traffic> {
        let mut counted = BTreeMap::new();
        self.endpoints.clear();
        for row in rows {
            let Some(service) = &row.service else {
                continue;
            };
            let total = Traffic {
                connections: row.connections,
                packets: row.packets,
            };
            let key = (Family::of(row.endpoint.ip()), row.index, row.generation);
            let before = last.and_then(|last| last.endpoints.get(&key)).copied();
            counted.insert(key, total);
            let endpoint = EndpointRow {
                endpoint: row.endpoint,
                state: row.state,
                local: row.local,
                rates: rates(before, total, seconds),
                total,
            };
            self.endpoints.entry(service.id).or_default().push(endpoint);
        }
        counted
    }

    fn take_counters(&mut self, counters: &[(Counter, u64)], last: Option<&Last>, seconds: f64) {
        let before = |counter: Counter| {
            let counters = last.map(|last| last.counters.iter());
            counters.and_then(|mut it| it.find(|(known, _)| *known == counter))
        };
        let rate = |counter, value: u64| {
            let (_, before) = before(counter)?;
            (seconds > 0.0).then(|| per_second(*before, value, seconds))
        };
        self.flows_created = 0.0;
        self.drops.clear();
        for (counter, value) in counters {
            let Some(rate) = rate(*counter, *value) else {
                continue;
            };
            if *counter == Counter::FlowsCreated {
                self.flows_created = rate;
            } else if rate > 0.0 && counter.is_drop() {
                self.drops.push((counter.name(), rate));
            }
        }
        self.drops.sort_by(|a, b| b.1.total_cmp(&a.1));
    }
}

fn rates(before: Option<Traffic>, after: Traffic, seconds: f64) -> Rates {
    let Some(before) = before.filter(|_| seconds > 0.0) else {
        return Rates::default();
    };
    Rates {
        connections: per_second(before.connections, after.connections, seconds),
        packets: per_second(before.packets, after.packets, seconds),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "what is counted in some seconds is a small number"
)]
fn per_second(before: u64, after: u64, seconds: f64) -> f64 {
    after.saturating_sub(before) as f64 / seconds
}
