//! Flows, one row of each.

use std::net::SocketAddr;

use proxy_ebpf::flow_table::idle;
use proxy_ebpf::layout::{Timeouts, flow_flags};
use serde::Serialize;

use super::time::seconds;
use super::{Filter, Names, ServiceRef, protocol_name};
use crate::maps::FlowRecord;

/// A flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowRow {
    /// Who translates it: `nat`, these programs; `dsr`, these programs by a tunnel, and answers do
    /// not pass here; `netfilter`, which began it; `none`, a connection to an endpoint's own
    /// address, of which the tuple is noted.
    pub kind: &'static str,
    /// The Service port; none where nobody knows it.
    pub service: Option<ServiceRef>,
    /// Its protocol.
    pub protocol: String,
    /// The client.
    pub client: SocketAddr,
    /// Where the client sends to.
    pub frontend: SocketAddr,
    /// Where that goes; none where netfilter knows it.
    pub endpoint: Option<SocketAddr>,
    /// The source that the endpoint sees, where it is not the client.
    pub masqueraded_as: Option<SocketAddr>,
    /// `unestablished`, `established`, `half-closed`, `closed`, `reset` or `over`.
    pub state: &'static str,
    /// Whether the endpoint has answered.
    pub seen_reply: bool,
    /// Seconds since a packet last used it.
    pub idle_seconds: u64,
    /// Seconds until it is over without packets.
    pub expires_in_seconds: u64,
    /// Packets that the record has translated: the answers, of `dsr` the client's.
    pub packets: u32,
    /// The backend's index in the maps.
    pub backend: Option<u32>,
}

/// What flows are read with.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// The names of Service ports.
    pub names: Names<'a>,
    /// How long flows are remembered.
    pub timeouts: Timeouts,
    /// The time, in [`proxy_ebpf::layout::ticks`].
    pub now: u32,
    /// Whether flows that are over, and notes of what nobody translates, are wanted as well.
    pub all: bool,
}

impl Reader<'_> {
    /// The flow that a record stands for, if it is wanted: of a flow's two records it is the one
    /// of the replies, which knows how the flow is.
    pub fn row(&self, record: &FlowRecord, filter: &Filter) -> Option<FlowRow> {
        let kind = kind(record.flags)?;
        let idle = idle(record.last_seen, self.now);
        let is_over = self.timeouts.is_over(record.flags, idle);
        if !self.all && (is_over || kind == "none") {
            return None;
        }
        let ends = Ends::of(record, kind);
        let is_known = record.service != u32::MAX;
        let service = is_known.then(|| self.names.of(record.service));
        let row = FlowRow {
            kind,
            service,
            protocol: protocol_name(record.protocol),
            client: ends.client,
            frontend: ends.frontend,
            endpoint: ends.endpoint,
            masqueraded_as: ends.source.filter(|source| *source != ends.client),
            state: if is_over { "over" } else { state(record.flags) },
            seen_reply: record.flags & flow_flags::SEEN_REPLY != 0,
            idle_seconds: seconds(idle),
            expires_in_seconds: seconds(self.timeouts.left(record.flags, idle)),
            packets: record.packets,
            backend: is_known.then_some(record.backend),
        };
        is_wanted(&row, record.protocol, filter).then_some(row)
    }
}

fn is_wanted(row: &FlowRow, protocol: u8, filter: &Filter) -> bool {
    let ends = [Some(row.client), Some(row.frontend), row.endpoint];
    filter.has_protocol(protocol)
        && filter.has_any(ends.into_iter().flatten())
        && match &row.service {
            Some(service) => filter.has_service(service),
            None => filter.service.is_none(),
        }
}

/// Who translates the flow of a record; `None` for one whose flow another record stands for.
fn kind(flags: u32) -> Option<&'static str> {
    if flags & flow_flags::REPLY == 0 {
        return (flags & flow_flags::DSR != 0).then_some("dsr");
    }
    Some(if flags & flow_flags::PLAIN != 0 {
        "none"
    } else if flags & flow_flags::NETFILTER != 0 {
        "netfilter"
    } else {
        "nat"
    })
}

fn state(flags: u32) -> &'static str {
    const ACKNOWLEDGED: u32 = flow_flags::FIN_ACKNOWLEDGED | flow_flags::CLIENT_FIN_ACKNOWLEDGED;
    if flags & flow_flags::CLOSED != 0 {
        "closed"
    } else if flags & flow_flags::RESET != 0 {
        "reset"
    } else if flags & flow_flags::EMBRYONIC != 0 {
        "unestablished"
    } else if flags & ACKNOWLEDGED != 0 {
        "half-closed"
    } else {
        "established"
    }
}

struct Ends {
    client: SocketAddr,
    frontend: SocketAddr,
    endpoint: Option<SocketAddr>,
    /// The source that the endpoint sees.
    source: Option<SocketAddr>,
}

impl Ends {
    fn of(record: &FlowRecord, kind: &str) -> Self {
        let [key_source, key_destination] = record.key;
        let [source, destination] = record.tuple;
        match kind {
            // By the client's packets; they become the tunnel's.
            "dsr" => Self {
                client: key_source,
                frontend: key_destination,
                endpoint: Some(destination),
                source: None,
            },
            // By the tuple of the answers, which stay as they are.
            "none" => Self {
                client: key_destination,
                frontend: key_source,
                endpoint: Some(key_source),
                source: None,
            },
            // By the client's packets, where the endpoint is not known.
            _ if record.key == record.tuple => Self {
                client: key_source,
                frontend: key_destination,
                endpoint: None,
                source: None,
            },
            // By the answers.
            _ => Self {
                client: destination,
                frontend: source,
                endpoint: Some(key_source),
                source: Some(key_destination),
            },
        }
    }
}
