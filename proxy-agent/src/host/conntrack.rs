//! The connections that netfilter tracks, by ctnetlink.

mod entries;

use std::io;
use std::net::{IpAddr, SocketAddr};

use futures::{Stream, StreamExt as _};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol as Number, Status, Tuple,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use proxy_ebpf::layout::protocol;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
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

    /// Connections whose destination netfilter has changed: those that a proxy with its rules
    /// there has made.
    ///
    /// # Errors
    ///
    /// The kernel has no connection tracking, or does not let it be listed.
    pub async fn translated(&self) -> io::Result<Vec<Connection>> {
        self.list(|status| status.contains(Status::DstNat)).await
    }

    /// All connections, translated or not.
    ///
    /// # Errors
    ///
    /// As of [`Conntrack::translated`].
    pub async fn all(&self) -> io::Result<Vec<Connection>> {
        self.list(|_| true).await
    }

    async fn list(&self, is_wanted: impl Fn(Status) -> bool) -> io::Result<Vec<Connection>> {
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
                        let entry = entry(&message).filter(|(_, status)| is_wanted(*status));
                        found.extend(entry.map(|(connection, _)| connection));
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

    /// Has netfilter forget a connection. False if it did not know it any more.
    ///
    /// # Errors
    ///
    /// The kernel refuses it.
    pub async fn forget(&self, connection: &Connection) -> io::Result<bool> {
        let Connection {
            protocol,
            client,
            frontend,
            ..
        } = *connection;
        let original = ConntrackAttribute::CtaTupleOrig(tuple(protocol, client, frontend));
        let message = ConntrackMessage::Delete(vec![original]);
        let mut answers = self.request(family(client), message, NLM_F_REQUEST | NLM_F_ACK)?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload
                && error.code.is_some()
            {
                let error = error.to_io();
                return match error.kind() {
                    io::ErrorKind::NotFound => Ok(false),
                    _ => Err(error),
                };
            }
        }
        Ok(true)
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

/// The connection of an entry, and its status.
fn entry(message: &NetfilterMessage) -> Option<(Connection, Status)> {
    let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = &message.inner else {
        return None;
    };
    let mut original = None;
    let mut reply = None;
    let mut status = Status::empty();
    for attribute in attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(tuple) => original = ends(tuple),
            ConntrackAttribute::CtaTupleReply(tuple) => reply = ends(tuple),
            ConntrackAttribute::CtaStatus(it) => status = *it,
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
    Some((connection, status))
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
