//! The connections that netfilter translates, by ctnetlink.

use std::io;
use std::net::{IpAddr, SocketAddr};

use futures::StreamExt as _;
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol as Number, Status, Tuple,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use proxy_ebpf::layout::protocol;
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::proto::{ConnectionHandle, new_connection};
use rtnetlink::sys;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;

/// A connection as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The number of its protocol.
    pub protocol: u8,
    /// The client.
    pub source: SocketAddr,
    /// Whom the client speaks to, before netfilter has translated that.
    pub destination: SocketAddr,
}

/// Connections whose destination netfilter has changed: those that a proxy with its rules
/// there has made.
///
/// # Errors
///
/// The kernel has no connection tracking, or does not let it be listed.
pub async fn translated_by_netfilter() -> io::Result<Vec<Connection>> {
    let (connection, handle, _) = new_connection(NETLINK_NETFILTER)?;
    let connection = tokio::spawn(connection);
    let result = all(&handle).await;
    connection.abort();
    result
}

async fn all(handle: &ConnectionHandle<NetfilterMessage>) -> io::Result<Vec<Connection>> {
    let mut found = Vec::new();
    for family in [NetfilterProtoFamily::IPv4, NetfilterProtoFamily::IPv6] {
        let request = NetfilterMessage::new(
            NetfilterHeader::new(family, 0, 0),
            ConntrackMessage::Get(Vec::new()),
        );
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut answers = handle
            .request(message, sys::SocketAddr::new(0, 0))
            .map_err(io::Error::other)?;
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => found.extend(translated(&message)),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                _ => {}
            }
        }
    }
    Ok(found)
}

/// The connection of an entry whose destination was changed.
fn translated(message: &NetfilterMessage) -> Option<Connection> {
    let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = &message.inner else {
        return None;
    };
    let mut original = None;
    let mut is_translated = false;
    for attribute in attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(tuple) => original = connection(tuple),
            ConntrackAttribute::CtaStatus(status) => {
                is_translated = status.contains(Status::DstNat);
            }
            _ => {}
        }
    }
    original.filter(|_| is_translated)
}

fn connection(tuple: &[Tuple]) -> Option<Connection> {
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
    Some(Connection {
        protocol: number?,
        source: SocketAddr::new(addresses[0]?, ports[0]?),
        destination: SocketAddr::new(addresses[1]?, ports[1]?),
    })
}
