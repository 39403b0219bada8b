//! The connections that netfilter tracks, by ctnetlink.

mod entries;

use std::io;
use std::net::{IpAddr, SocketAddr};

use futures::{Stream, StreamExt as _};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoInfo, ProtoInfoTCP, ProtoTuple,
    Protocol as Number, Status, Tuple,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use proxy_ebpf::layout::protocol;
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload, Nla as _};
use rtnetlink::proto::{ConnectionHandle, new_connection};
use rtnetlink::sys;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use tokio::task::JoinHandle;

pub use entries::{Entry, EntryWriter, TcpState};

/// A connection, of which netfilter may change both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Connection {
    /// The number of its protocol.
    pub protocol: u8,
    /// The client.
    pub client: SocketAddr,
    /// Whom the client speaks to, before netfilter has changed that.
    pub frontend: SocketAddr,
    /// Who answers: the same, where netfilter does not change it.
    pub endpoint: SocketAddr,
    /// Whom the endpoint answers: the client, or an address of this node where netfilter has
    /// masqueraded it.
    pub source: SocketAddr,
    /// Whether it is more than a first packet (`IPS_ASSURED`).
    pub is_established: bool,
}

impl Connection {
    /// Whether both have the same tuples.
    pub fn has_ends_of(&self, other: &Self) -> bool {
        let of = |it: &Self| Self {
            is_established: false,
            ..*it
        };
        of(self) == of(other)
    }
}

/// A connection in the entry that netfilter has of it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrackedConnection {
    /// The connection.
    pub connection: Connection,
    /// The entry's number, by which it differs from others that the same client makes later.
    id: [u8; 4],
}

/// Netfilter's connection tracking, asked by ctnetlink.
pub struct Conntrack {
    handle: ConnectionHandle<NetfilterMessage>,
    connection: JoinHandle<()>,
}

impl Conntrack {
    /// Opens a socket. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// The kernel has no netlink of netfilter.
    pub fn open() -> io::Result<Self> {
        let (connection, handle, _) = new_connection(NETLINK_NETFILTER)?;
        Ok(Self {
            handle,
            connection: tokio::spawn(connection),
        })
    }

    /// Connections whose destination netfilter changes: those that a proxy with its rules there has
    /// made. Of TCP not those that are over: netfilter remembers them for minutes, and a SYN makes
    /// another connection of each.
    ///
    /// # Errors
    ///
    /// The kernel has no connection tracking, or does not let it be listed.
    pub async fn translated(&self) -> io::Result<Vec<TrackedConnection>> {
        self.list(|entry| entry.status.contains(Status::DstNat) && !entry.is_over)
            .await
    }

    /// All connections, translated or not.
    ///
    /// # Errors
    ///
    /// As of [`Conntrack::translated`].
    pub async fn all(&self) -> io::Result<Vec<Connection>> {
        let all = self.list(|_| true).await?;
        Ok(all.into_iter().map(|it| it.connection).collect())
    }

    async fn list(
        &self,
        is_wanted: impl Fn(&ListedEntry) -> bool,
    ) -> io::Result<Vec<TrackedConnection>> {
        let mut found = Vec::new();
        for family in [NetfilterProtoFamily::IPv4, NetfilterProtoFamily::IPv6] {
            let mut answers = self.request(
                family,
                ConntrackMessage::Get(Vec::new()),
                NLM_F_REQUEST | NLM_F_DUMP,
            )?;
            while let Some(answer) = answers.next().await {
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => {
                        let entry = ListedEntry::of(&message).filter(&is_wanted);
                        found.extend(entry.map(|entry| entry.tracked));
                    }
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io());
                    }
                    _ => {}
                }
            }
        }
        Ok(found)
    }

    fn request(
        &self,
        family: NetfilterProtoFamily,
        request: ConntrackMessage,
        flags: u16,
    ) -> io::Result<impl Stream<Item = NetlinkMessage<NetfilterMessage>> + use<>> {
        self.handle
            .request(message(family, request, flags), sys::SocketAddr::new(0, 0))
            .map_err(io::Error::other)
    }
}

impl Drop for Conntrack {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// A request.
fn message(
    family: NetfilterProtoFamily,
    request: ConntrackMessage,
    flags: u16,
) -> NetlinkMessage<NetfilterMessage> {
    let header = NetfilterHeader::new(family, 0, 0);
    let mut message = NetlinkMessage::from(NetfilterMessage::new(header, request));
    message.header.flags = flags;
    message
}

fn family(of: SocketAddr) -> NetfilterProtoFamily {
    match of {
        SocketAddr::V4(_) => NetfilterProtoFamily::IPv4,
        SocketAddr::V6(_) => NetfilterProtoFamily::IPv6,
    }
}

/// `enum ctattr_type` of `linux/netfilter/nfnetlink_conntrack.h`.
const CTA_ID: u16 = 12;

/// An entry of a list.
struct ListedEntry {
    tracked: TrackedConnection,
    status: Status,
    /// One of TCP that has ended.
    is_over: bool,
}

impl ListedEntry {
    fn of(message: &NetfilterMessage) -> Option<Self> {
        let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = &message.inner
        else {
            return None;
        };
        let mut original = None;
        let mut reply = None;
        let mut status = Status::empty();
        let mut is_over = false;
        let mut id = [0; 4];
        for attribute in attributes {
            match attribute {
                ConntrackAttribute::CtaTupleOrig(tuple) => original = ends(tuple),
                ConntrackAttribute::CtaTupleReply(tuple) => reply = ends(tuple),
                ConntrackAttribute::CtaStatus(it) => status = *it,
                ConntrackAttribute::CtaProtoInfo(info) => is_over = info.iter().any(says_over),
                ConntrackAttribute::Other(other)
                    if other.kind() == CTA_ID && other.value_len() == id.len() =>
                {
                    other.emit_value(&mut id);
                }
                _ => {}
            }
        }
        let (protocol, client, frontend) = original?;
        let (_, endpoint, source) = reply?;
        let connection = Connection {
            protocol,
            client,
            frontend,
            endpoint,
            source,
            is_established: status.contains(Status::Assured),
        };
        Some(Self {
            tracked: TrackedConnection { connection, id },
            status,
            is_over,
        })
    }
}

/// Whether this is of a TCP connection that has ended: both sides have sent a FIN, or one a RST.
fn says_over(info: &ProtoInfo) -> bool {
    /// `enum tcp_conntrack` of `linux/netfilter/nf_conntrack_tcp.h`.
    const TIME_WAIT: u8 = 7;
    const CLOSE: u8 = 8;
    let ProtoInfo::TCP(parts) = info else {
        return false;
    };
    parts
        .iter()
        .any(|part| matches!(part, ProtoInfoTCP::State(TIME_WAIT | CLOSE)))
}

/// The tuple of packets of a protocol.
fn tuple(protocol: u8, source: SocketAddr, destination: SocketAddr) -> Vec<Tuple> {
    let number = match protocol {
        protocol::TCP => Number::Tcp,
        protocol::UDP => Number::Udp,
        _ => Number::Sctp,
    };
    vec![
        Tuple::Ip(vec![
            IPTuple::SourceAddress(source.ip()),
            IPTuple::DestinationAddress(destination.ip()),
        ]),
        Tuple::Proto(vec![
            ProtoTuple::Protocol(number),
            ProtoTuple::SourcePort(source.port()),
            ProtoTuple::DestinationPort(destination.port()),
        ]),
    ]
}

/// Protocol, source and destination of a tuple.
fn ends(tuple: &[Tuple]) -> Option<(u8, SocketAddr, SocketAddr)> {
    let mut addresses: [Option<IpAddr>; 2] = [None; 2];
    let mut ports: [Option<u16>; 2] = [None; 2];
    let mut number = None;
    for part in tuple {
        match part {
            Tuple::Ip(fields) => {
                for field in fields {
                    match field {
                        IPTuple::SourceAddress(address) => addresses[0] = Some(*address),
                        IPTuple::DestinationAddress(address) => addresses[1] = Some(*address),
                        _ => {}
                    }
                }
            }
            Tuple::Proto(fields) => {
                for field in fields {
                    match field {
                        ProtoTuple::Protocol(Number::Tcp) => number = Some(protocol::TCP),
                        ProtoTuple::Protocol(Number::Udp) => number = Some(protocol::UDP),
                        ProtoTuple::Protocol(Number::Sctp) => number = Some(protocol::SCTP),
                        ProtoTuple::SourcePort(port) => ports[0] = Some(*port),
                        ProtoTuple::DestinationPort(port) => ports[1] = Some(*port),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let [source, destination] = addresses;
    let [source_port, destination_port] = ports;
    Some((
        number?,
        SocketAddr::new(source?, source_port?),
        SocketAddr::new(destination?, destination_port?),
    ))
}
