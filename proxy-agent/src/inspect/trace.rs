//! Events of the data path, with names.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use k8s_openapi::jiff::Timestamp;
use proxy_ebpf::layout::{Counter, TraceKind, flow_flags};
use proxy_ebpf::pipeline::Client;
use serde::Serialize;

use super::{API_VERSION, Filter, ServiceRef, protocol_name};
use crate::maps::TraceRecord;

/// What became of a packet or a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TraceRow {
    /// [`API_VERSION`]
    pub api_version: &'static str,
    /// `TraceEvent`
    pub kind: &'static str,
    /// When, in UTC.
    pub time: Option<String>,
    /// `new`: a flow was made; `drop`; `answer`: by a reset or an ICMP error; at sockets `refuse`
    /// and `time-out`.
    pub event: &'static str,
    /// `pod`, `outside` or `host`.
    pub sender: &'static str,
    /// The device at which the packet was; none at a socket.
    pub device: Option<String>,
    /// Its protocol; none where the packet does not show it.
    pub protocol: Option<String>,
    /// Its source; none at a socket, where it is not known yet.
    pub source: Option<SocketAddr>,
    /// Its destination.
    pub destination: SocketAddr,
    /// The Service port.
    pub service: Option<ServiceRef>,
    /// Where it goes.
    pub endpoint: Option<SocketAddr>,
    /// The source that the endpoint sees, where it is not the client.
    pub masqueraded_as: Option<SocketAddr>,
    /// Whether it goes there in a tunnel (direct server return).
    pub dsr: bool,
    /// The data path's counter that says why; none of `new`.
    pub reason: Option<&'static str>,
}

/// Who knows names.
pub trait Lookup {
    /// The Service port of an id.
    fn service(&self, id: u32) -> ServiceRef;
    /// The id of the Service port that is reached at a destination.
    fn service_at(&self, destination: SocketAddr, protocol: u8) -> Option<u32>;
    /// The name of a device.
    fn device(&self, index: u32) -> String;
}

/// The two clocks at one moment: that of events, and people's.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// Since boot.
    pub since_boot: Duration,
    /// The same in UTC.
    pub utc: SystemTime,
}

impl Clocks {
    /// A time of an event, with milliseconds.
    fn utc(&self, nanoseconds: u64) -> Option<String> {
        let since = self
            .since_boot
            .saturating_sub(Duration::from_nanos(nanoseconds));
        let time = Timestamp::try_from(self.utc.checked_sub(since)?).ok()?;
        Some(format!("{time:.3}"))
    }
}

impl TraceRow {
    /// The row of an event.
    pub fn new(record: &TraceRecord, lookup: &impl Lookup, clocks: Clocks) -> Self {
        let [source, destination] = record.ends;
        let is_new = record.kind == TraceKind::NewFlow;
        let dsr = record.flags & flow_flags::DSR != 0;
        let [source_after, endpoint] = record.translated;
        let service = record.service.or_else(|| {
            let is_known = record.protocol != 0 && !is_new;
            is_known.then(|| lookup.service_at(destination, record.protocol))?
        });
        let source = record.device.map(|_| source);
        let is_masqueraded = is_new && !dsr && source.is_some();
        Self {
            api_version: API_VERSION,
            kind: "TraceEvent",
            time: clocks.utc(record.time),
            event: name(record.kind),
            sender: sender(record.client),
            device: record.device.map(|it| lookup.device(it)),
            protocol: Some(record.protocol)
                .filter(|it| *it != 0)
                .map(protocol_name),
            source,
            destination,
            service: service.map(|it| lookup.service(it)),
            endpoint: is_new.then_some(endpoint),
            masqueraded_as: Some(source_after).filter(|it| is_masqueraded && Some(*it) != source),
            dsr,
            reason: record.reason.map(Counter::name),
        }
    }

    /// Whether the row is wanted.
    pub fn is_wanted(&self, filter: &Filter) -> bool {
        filter.service.is_none()
            || self
                .service
                .as_ref()
                .is_some_and(|it| filter.has_service(it))
    }
}

fn name(kind: TraceKind) -> &'static str {
    match kind {
        TraceKind::NewFlow => "new",
        TraceKind::Drop => "drop",
        TraceKind::Answer => "answer",
        TraceKind::Refuse => "refuse",
        TraceKind::TimeOut => "time-out",
    }
}

fn sender(client: u8) -> &'static str {
    const HOST: u8 = Client::Host as u8;
    const POD: u8 = Client::Pod as u8;
    match client {
        HOST => "host",
        POD => "pod",
        _ => "outside",
    }
}
