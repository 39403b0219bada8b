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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const NOW: u32 = 1000;

    fn end(last: u8) -> SocketAddr {
        ([192, 0, 2, last], 80).into()
    }

    fn record(key: [u8; 2], tuple: [u8; 2], flags: u32) -> FlowRecord {
        FlowRecord {
            protocol: 6,
            key: key.map(end),
            tuple: tuple.map(end),
            backend: 7,
            generation: 1,
            service: 0,
            packets: 1,
            flags: flags | flow_flags::TCP,
            last_seen: NOW,
        }
    }

    fn row(record: &FlowRecord, all: bool) -> Option<FlowRow> {
        let names = BTreeMap::from([(0, "default/web".into())]);
        let reader = Reader {
            names: Names::new(&names),
            timeouts: Timeouts::DEFAULT,
            now: NOW,
            all,
        };
        reader.row(record, &Filter::default())
    }

    const CLIENT: u8 = 1;
    const FRONTEND: u8 = 2;
    const ENDPOINT: u8 = 3;
    const NODE: u8 = 4;

    #[test]
    fn a_flow_is_the_record_of_its_replies() {
        let client = record([CLIENT, FRONTEND], [NODE, ENDPOINT], flow_flags::REDIRECT);
        assert_eq!(row(&client, true), None);
        let flags = flow_flags::REDIRECT | flow_flags::REPLY;
        let replies = record([ENDPOINT, NODE], [FRONTEND, CLIENT], flags);
        let found = row(&replies, false).unwrap();
        assert_eq!((found.kind, found.state), ("nat", "established"));
        assert_eq!((found.client, found.frontend), (end(CLIENT), end(FRONTEND)));
        assert_eq!(found.endpoint, Some(end(ENDPOINT)));
        assert_eq!(found.masqueraded_as, Some(end(NODE)));
        assert_eq!(found.service.unwrap().to_string(), "default/web");
    }

    #[test]
    fn what_is_over_and_what_nobody_translates_is_shown_if_asked_for() {
        let flags = flow_flags::REPLY | flow_flags::CLOSED;
        let over = record([ENDPOINT, CLIENT], [FRONTEND, CLIENT], flags);
        assert_eq!(row(&over, false), None);
        assert_eq!(row(&over, true).unwrap().state, "over");

        let flags = flow_flags::REPLY | flow_flags::PLAIN;
        let note = record([ENDPOINT, CLIENT], [ENDPOINT, CLIENT], flags);
        assert_eq!(row(&note, false), None);
        let found = row(&note, true).unwrap();
        assert_eq!((found.kind, found.client), ("none", end(CLIENT)));
    }

    #[test]
    fn flows_of_netfilter_and_in_tunnels_have_one_record() {
        let direct = record([CLIENT, FRONTEND], [NODE, ENDPOINT], flow_flags::DSR);
        let found = row(&direct, false).unwrap();
        assert_eq!((found.kind, found.endpoint), ("dsr", Some(end(ENDPOINT))));

        let flags = flow_flags::REPLY | flow_flags::NETFILTER;
        let mut left = record([CLIENT, FRONTEND], [CLIENT, FRONTEND], flags);
        left.service = u32::MAX;
        let found = row(&left, false).unwrap();
        assert_eq!((found.kind, found.endpoint), ("netfilter", None));
        assert_eq!((found.service, found.backend), (None, None));
    }
}
