//! The way back: flows of the programs as netfilter has connections, so that it can go on with them
//! when the programs go.

use std::net::IpAddr;

use proxy_ebpf::layout::{Edge, KeyParts, Timeouts, flow_flags, protocol, ticks};

use super::{FromIp, OpenNetfilterFlows, tuples};
use crate::host::{Connection, Entry, TcpState};
use crate::maps::FlowRecord;
use crate::maps::flow_table::OpenFlowTable;

/// A flow that netfilter can go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenFlow {
    /// Whom its packets are from and to, before and after these programs translate them.
    pub connection: Connection,
    /// Bits of [`flow_flags`], of the record of its replies.
    pub flags: u32,
    /// Seconds until it is over without packets.
    pub seconds_left: u32,
}

/// Why netfilter cannot go on with a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotGiven {
    /// Its endpoint answers the client itself, and netfilter has no tunnels.
    DirectReturn,
    /// Of SCTP netfilter needs the verification tags, which these programs do not look at.
    Sctp,
}

impl GivenFlow {
    /// The flow that a record stands for: of its two that of the replies, which knows how it is.
    /// `None` where it stands for none that these programs translate, or one that is over.
    pub fn of(
        record: &FlowRecord,
        timeouts: &Timeouts,
        now: u32,
    ) -> Option<Result<Self, NotGiven>> {
        const OTHERS: u32 = flow_flags::PLAIN | flow_flags::NETFILTER | flow_flags::RESET;
        let flags = record.flags;
        let idle = proxy_ebpf::flow_table::idle(record.last_seen, now);
        if flags & OTHERS != 0 || timeouts.is_over(flags, idle) {
            return None;
        }
        if flags & flow_flags::DSR != 0 {
            return Some(Err(NotGiven::DirectReturn));
        }
        if flags & flow_flags::REPLY == 0 {
            return None;
        }
        if flags & flow_flags::SCTP != 0 {
            return Some(Err(NotGiven::Sctp));
        }
        let [endpoint, source] = record.key;
        let [frontend, client] = record.tuple;
        Some(Ok(Self {
            connection: Connection {
                protocol: record.protocol,
                client,
                frontend,
                endpoint,
                source,
                is_established: flags & flow_flags::EMBRYONIC == 0,
            },
            flags,
            seconds_left: seconds(timeouts.left(flags, idle)).max(1),
        }))
    }

    /// Whether its packets, once translated, pass through the stack, where netfilter tracks them as a
    /// connection between client and endpoint.
    pub fn is_tracked(&self) -> bool {
        self.flags & flow_flags::REDIRECT == 0
    }

    /// Whether its packets leave the node where they are translated, with its address: netfilter has
    /// never seen one.
    pub fn leaves_at_once(&self) -> bool {
        const SEEN: u32 = flow_flags::HOST_CLIENT;
        self.flags & (flow_flags::REDIRECT | SEEN) == flow_flags::REDIRECT
    }

    /// The entry by which netfilter goes on with it. `tracked` is what it knows until then of the
    /// translated packets: it may have changed their source, behind these programs.
    pub fn entry(&self, tracked: Option<&Connection>) -> Entry {
        let source = tracked.map_or(self.connection.source, |tracked| tracked.source);
        Entry {
            connection: Connection {
                source,
                ..self.connection
            },
            has_seen_reply: self.flags & flow_flags::SEEN_REPLY != 0,
            tcp: (self.connection.protocol == protocol::TCP).then(|| tcp_state(self.flags)),
            timeout: self.seconds_left,
        }
    }
}

fn seconds(count: u32) -> u32 {
    let seconds = (u64::from(count) << ticks::SHIFT) / 1_000_000_000;
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// The state of a connection with these flags.
fn tcp_state(flags: u32) -> TcpState {
    const FINS: u32 = flow_flags::FIN | flow_flags::CLIENT_FIN;
    const ACKNOWLEDGED: u32 = flow_flags::FIN_ACKNOWLEDGED | flow_flags::CLIENT_FIN_ACKNOWLEDGED;
    if flags & flow_flags::EMBRYONIC != 0 {
        return if flags & flow_flags::SEEN_REPLY == 0 {
            TcpState::SynSent
        } else {
            TcpState::SynReceived
        };
    }
    match flags & FINS {
        0 => TcpState::Established,
        FINS => TcpState::LastAck,
        _ if flags & ACKNOWLEDGED != 0 => TcpState::CloseWait,
        _ => TcpState::FinWait,
    }
}

impl OpenNetfilterFlows {
    /// Has the programs send the packets of a flow on by themselves, in both directions: past the
    /// stack, where netfilter would track them. False if there is no room for a record.
    #[must_use]
    pub fn bypass_stack(&self, flow: &GivenFlow) -> bool {
        let done = match flow.connection.client.ip() {
            IpAddr::V4(_) => bypass_stack(&self.v4, flow),
            IpAddr::V6(_) => bypass_stack(&self.v6, flow),
        };
        done.is_some()
    }

    /// Lets packets of a flow pass untouched from now on: netfilter has an entry.
    pub fn give(&self, flow: &GivenFlow) {
        match flow.connection.client.ip() {
            IpAddr::V4(_) => give(&self.v4, flow),
            IpAddr::V6(_) => give(&self.v6, flow),
        }
    }
}

/// Of a flow whose replies are seen where they leave a record is made by which they are where they
/// come in; then the client's packets can be sent on as well.
fn bypass_stack<A: FromIp>(table: &OpenFlowTable<A>, flow: &GivenFlow) -> Option<()> {
    let [client, wire] = tuples::<A>(&flow.connection)?;
    let number = flow.connection.protocol;
    let client = table.find(&KeyParts::of(&client, number, Edge::Ingress))?;
    let reply = table.find(&KeyParts::of_answers(&wire, number, Edge::Egress))?;
    let at_ingress = KeyParts::of_answers(&wire, number, Edge::Ingress);
    let flags = reply.flags() | flow_flags::REDIRECT;
    let is_made = table.copy_under(&reply, &at_ingress, flags);
    is_made.then(|| client.mark(flow_flags::REDIRECT))
}

fn give<A: FromIp>(table: &OpenFlowTable<A>, flow: &GivenFlow) {
    let Some([client, wire]) = tuples::<A>(&flow.connection) else {
        return;
    };
    let number = flow.connection.protocol;
    for key in [
        KeyParts::of(&client, number, Edge::Ingress),
        KeyParts::of_answers(&wire, number, Edge::Ingress),
        KeyParts::of_answers(&wire, number, Edge::Egress),
    ] {
        if let Some(record) = table.find(&key) {
            record.mark(flow_flags::NETFILTER);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;
    use proxy_ebpf::flow_table::NewRecord;
    use proxy_ebpf::layout::{Address, V4, V6};

    use super::super::{client_record, reply_record};
    use super::*;
    use crate::plan::BackendId;

    const NOW: u32 = 100_000;
    const BACKEND: BackendId = BackendId {
        index: 3,
        generation: 5,
        service: 1,
    };

    /// A record as it is read, that was made in the table just now.
    fn read<A: Address + Into<IpAddr>>(record: &NewRecord<'_, A>) -> FlowRecord {
        let ends = |key: &KeyParts<'_, A>| {
            [
                SocketAddr::new((*key.source).into(), key.ports[0].number()),
                SocketAddr::new((*key.destination).into(), key.ports[1].number()),
            ]
        };
        FlowRecord {
            protocol: record.key.protocol,
            key: ends(&record.key),
            tuple: ends(&record.tuple),
            backend: record.backend,
            generation: record.generation,
            service: record.service,
            packets: record.packets,
            flags: record.flags,
            last_seen: record.now,
        }
    }

    /// The records that a connection of netfilter's becomes at the takeover: the client's, and that
    /// of the replies.
    fn taken_over(connection: &Connection) -> [FlowRecord; 2] {
        fn of<A: FromIp + Into<IpAddr>>(connection: &Connection) -> [FlowRecord; 2] {
            let tuples = tuples::<A>(connection).unwrap();
            [
                read(&client_record(&tuples, connection, BACKEND, NOW)),
                read(&reply_record(&tuples, connection, BACKEND, NOW)),
            ]
        }
        let mut records = match connection.client.ip() {
            IpAddr::V4(_) => of::<V4>(connection),
            IpAddr::V6(_) => of::<V6>(connection),
        };
        for record in &mut records {
            record.flags &= !flow_flags::NETFILTER;
        }
        records
    }

    fn given(record: &FlowRecord) -> Option<Result<GivenFlow, NotGiven>> {
        GivenFlow::of(record, &Timeouts::DEFAULT, NOW)
    }

    fn connection() -> impl Strategy<Value = Connection> {
        let port = || 1_u16..;
        let v4 = || (any::<[u8; 4]>(), port()).prop_map(SocketAddr::from);
        let v6 = || (any::<[u16; 8]>(), port()).prop_map(SocketAddr::from);
        let ends = prop_oneof![[v4(), v4(), v4(), v4()], [v6(), v6(), v6(), v6()]];
        let protocols = prop_oneof![Just(protocol::TCP), Just(protocol::UDP)];
        (ends, protocols, any::<[bool; 3]>()).prop_map(|(ends, protocol, [keeps, hairpin, is])| {
            let [client, frontend, endpoint, node] = ends;
            // Only who is masqueraded may be its own endpoint.
            let endpoint = if hairpin && !keeps {
                SocketAddr::new(client.ip(), endpoint.port())
            } else {
                endpoint
            };
            Connection {
                protocol,
                client,
                frontend,
                endpoint,
                source: if keeps { client } else { node },
                is_established: is,
            }
        })
    }

    proptest! {
        #[test]
        fn what_is_taken_over_is_given_back_as_it_was(connection in connection()) {
            let [client, reply] = taken_over(&connection);
            prop_assert_eq!(given(&client), None);
            let flow = given(&reply).unwrap().unwrap();
            prop_assert_eq!(flow.connection, connection);
            prop_assert_eq!(flow.entry(None).connection, connection);
        }

        #[test]
        fn what_is_given_is_taken_over_as_it_was(
            connection in connection(),
            others in any::<u32>(),
        ) {
            const KEPT: u32 = flow_flags::REDIRECT
                | flow_flags::HAIRPIN
                | flow_flags::REPLY
                | flow_flags::EMBRYONIC
                | flow_flags::TCP;
            const STATE: u32 = flow_flags::FIN
                | flow_flags::CLIENT_FIN
                | flow_flags::FIN_ACKNOWLEDGED
                | flow_flags::CLIENT_FIN_ACKNOWLEDGED;
            let [_, mut record] = taken_over(&connection);
            record.flags |= others & STATE;
            let flow = given(&record).unwrap().unwrap();
            let [client, again] = taken_over(&flow.entry(None).connection);
            prop_assert_eq!((again.key, again.tuple), (record.key, record.tuple));
            prop_assert_eq!(again.protocol, record.protocol);
            prop_assert_eq!(again.flags & KEPT, record.flags & KEPT);
            prop_assert_eq!(client.key, [connection.client, connection.frontend]);
            prop_assert_eq!(client.tuple, [connection.source, connection.endpoint]);
        }
    }

    fn replies(flags: u32) -> FlowRecord {
        let address = |text: &str| text.parse().unwrap();
        let connection = Connection {
            protocol: protocol::TCP,
            client: address("192.0.2.1:40000"),
            frontend: address("10.96.0.10:80"),
            endpoint: address("10.244.1.10:8080"),
            source: address("192.0.2.1:40000"),
            is_established: true,
        };
        let [_, mut record] = taken_over(&connection);
        record.flags = flow_flags::REPLY | flow_flags::TCP | flags;
        record
    }

    #[test]
    fn states_of_connections_are_netfilters() {
        use flow_flags::{
            CLIENT_FIN, CLIENT_FIN_ACKNOWLEDGED, EMBRYONIC, FIN, FIN_ACKNOWLEDGED, SEEN_REPLY,
        };
        for (flags, state) in [
            (EMBRYONIC, TcpState::SynSent),
            (EMBRYONIC | SEEN_REPLY, TcpState::SynReceived),
            (SEEN_REPLY, TcpState::Established),
            (SEEN_REPLY | FIN, TcpState::FinWait),
            (SEEN_REPLY | FIN | FIN_ACKNOWLEDGED, TcpState::CloseWait),
            (CLIENT_FIN | CLIENT_FIN_ACKNOWLEDGED, TcpState::CloseWait),
            (FIN | FIN_ACKNOWLEDGED | CLIENT_FIN, TcpState::LastAck),
        ] {
            let flow = given(&replies(flags)).unwrap().unwrap();
            let entry = flow.entry(None);
            assert_eq!(entry.tcp, Some(state), "{flags:#x}");
            assert_eq!(entry.has_seen_reply, flags & SEEN_REPLY != 0);
            assert_eq!(entry.connection.is_established, flags & EMBRYONIC == 0);
        }
    }

    #[test]
    fn what_netfilter_cannot_have_is_told() {
        assert_eq!(
            given(&replies(flow_flags::DSR)),
            Some(Err(NotGiven::DirectReturn))
        );
        let mut sctp = replies(flow_flags::SCTP);
        sctp.protocol = protocol::SCTP;
        assert_eq!(given(&sctp), Some(Err(NotGiven::Sctp)));
    }

    #[test]
    fn what_is_over_or_nobodys_is_left_out() {
        for flags in [
            flow_flags::CLOSED,
            flow_flags::RESET,
            flow_flags::PLAIN,
            flow_flags::NETFILTER,
        ] {
            assert_eq!(given(&replies(flags)), None, "{flags:#x}");
        }
        let mut silent = replies(0);
        silent.last_seen = NOW - Timeouts::DEFAULT.tcp_established - 2;
        assert_eq!(given(&silent), None);
        silent.last_seen = NOW - ticks::from_seconds(3600);
        let flow = given(&silent).unwrap().unwrap();
        assert!((82_700..=82_801).contains(&flow.seconds_left), "{flow:?}");
    }

    /// A Pod's packets to an address outside of the cluster, as an API server's, leave with the
    /// node's address.
    #[test]
    fn the_source_that_netfilter_has_given_to_translated_packets_stays() {
        let flow = given(&replies(0)).unwrap().unwrap();
        let tracked = Connection {
            frontend: flow.connection.endpoint,
            source: "172.31.0.11:40000".parse().unwrap(),
            ..flow.connection
        };
        let entry = flow.entry(Some(&tracked));
        assert_eq!(entry.connection.source, tracked.source);
        assert_eq!(entry.connection.frontend, flow.connection.frontend);
    }
}
