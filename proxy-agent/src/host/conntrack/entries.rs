//! Entries of netfilter's connection tracking that are made: of flows that were translated elsewhere
//! until now, with the very translation that they have.

use std::io;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, ProtoInfo, ProtoInfoTCP, Status,
};
use rtnetlink::packet_core::{
    DefaultNla, Emitable as _, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{Socket, SocketAddr as Peer};

use super::{CTA_ID, Connection, TrackedConnection, family, message, tuple};

/// `enum ctattr_type` of `linux/netfilter/nfnetlink_conntrack.h`.
const CTA_NAT_SRC: u16 = 6;
const CTA_NAT_DST: u16 = 13;
/// `enum ctattr_nat`: of an address that is the first and the last of its range.
const CTA_NAT_V4_MINIP: u16 = 1;
const CTA_NAT_PROTO: u16 = 3;
const CTA_NAT_V6_MINIP: u16 = 4;
/// `enum ctattr_protonat`.
const CTA_PROTONAT_PORT_MIN: u16 = 1;
const CTA_PROTONAT_PORT_MAX: u16 = 2;
/// `enum ctattr_protoinfo_tcp`.
const CTA_PROTOINFO_TCP_FLAGS: [u16; 2] = [4, 5];
/// `IP_CT_TCP_FLAG_BE_LIBERAL` of `linux/netfilter/nf_conntrack_tcp.h`: netfilter has not seen the
/// windows of a connection that it gets in the middle, and believes all segments of it.
const BE_LIBERAL: u8 = 8;

/// How often an entry is tried that packets make at the same time.
const ATTEMPTS: u32 = 10;

/// A state of a TCP connection: `enum tcp_conntrack` of `linux/netfilter/nf_conntrack_tcp.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TcpState {
    /// A SYN was seen.
    SynSent = 1,
    /// And an answer.
    SynReceived = 2,
    /// The handshake is over.
    Established = 3,
    /// One side has sent a FIN.
    FinWait = 4,
    /// The other side has acknowledged that.
    CloseWait = 5,
    /// Both sides have sent a FIN.
    LastAck = 6,
}

/// An entry that is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its tuples.
    pub connection: Connection,
    /// Whether the endpoint has answered.
    pub has_seen_reply: bool,
    /// Its state, if it is one of TCP.
    pub tcp: Option<TcpState>,
    /// How long it lasts without packets, in seconds.
    pub timeout: u32,
}

/// Netfilter's connection tracking, to which entries are written one after the other, without
/// anything in between.
pub struct EntryWriter {
    socket: Socket,
    sequence: u32,
}

impl EntryWriter {
    /// Opens a socket.
    ///
    /// # Errors
    ///
    /// The kernel has no netlink of netfilter.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Has netfilter forget a connection. False if it did not know it any more, or knows another one
    /// of the same client.
    ///
    /// # Errors
    ///
    /// The kernel refuses it.
    pub fn forget(&mut self, tracked: &TrackedConnection) -> io::Result<bool> {
        let Connection {
            protocol,
            client,
            frontend,
            ..
        } = tracked.connection;
        let original = ConntrackAttribute::CtaTupleOrig(tuple(protocol, client, frontend));
        let id = ConntrackAttribute::Other(DefaultNla::new(CTA_ID, tracked.id.to_vec()));
        let request = ConntrackMessage::Delete(vec![original, id]);
        let mut datagram = Vec::new();
        self.add(&mut datagram, client, request, NLM_F_ACK);
        match self.exchange(&datagram) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// Makes an entry in the place of those that have one of its tuples: the untranslated one, between
    /// whoever has translated until now and the endpoint.
    ///
    /// # Errors
    ///
    /// The kernel refuses it, as where it has no NAT.
    pub fn replace(&mut self, entry: &Entry) -> io::Result<()> {
        for _ in 0..ATTEMPTS {
            match self.try_replace(entry) {
                // A packet has come in between.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => return result,
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// In one datagram: the kernel goes from one request to the next in microseconds.
    fn try_replace(&mut self, entry: &Entry) -> io::Result<()> {
        let number = entry.connection.protocol;
        let Connection {
            client,
            frontend,
            endpoint,
            source,
            ..
        } = entry.connection;
        let mut datagram = Vec::new();
        for (from, to) in [(endpoint, source), (client, frontend)] {
            let stale = ConntrackAttribute::CtaTupleOrig(tuple(number, from, to));
            let request = ConntrackMessage::Delete(vec![stale]);
            self.add(&mut datagram, client, request, 0);
        }
        let request = creation(entry);
        self.add(&mut datagram, client, request, NLM_F_CREATE | NLM_F_EXCL);
        self.exchange(&datagram)
    }

    /// Sends requests, and waits for the answer to the last one.
    fn exchange(&self, datagram: &[u8]) -> io::Result<()> {
        self.socket.send_to(datagram, &Peer::new(0, 0), 0)?;
        let last = self.sequence;
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            let answer = NetlinkMessage::<NetfilterMessage>::deserialize(&datagram);
            let answer = answer.map_err(io::Error::other)?;
            // What was to be deleted may not be there.
            if answer.header.sequence_number != last {
                continue;
            }
            return match answer.payload {
                NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
                _ => Ok(()),
            };
        }
    }

    fn add(
        &mut self,
        datagram: &mut Vec<u8>,
        client: SocketAddr,
        request: ConntrackMessage,
        flags: u16,
    ) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = message(family(client), request, NLM_F_REQUEST | NLM_F_ACK | flags);
        message.header.sequence_number = self.sequence;
        message.finalize();
        let start = datagram.len();
        let end = start + message.buffer_len();
        datagram.resize(end, 0);
        message.serialize(&mut datagram[start..end]);
    }
}

/// The request that makes an entry: the tuples as they would be without translation, and what they
/// are translated to.
fn creation(entry: &Entry) -> ConntrackMessage {
    let Entry {
        connection,
        has_seen_reply,
        tcp,
        timeout,
    } = entry;
    let Connection {
        protocol,
        client,
        frontend,
        endpoint,
        source,
        is_established,
    } = *connection;
    let mut status = Status::Confirmed;
    status.set(Status::SeenReply, *has_seen_reply);
    status.set(Status::Assured, is_established);
    let mut attributes = vec![
        ConntrackAttribute::CtaTupleOrig(tuple(protocol, client, frontend)),
        ConntrackAttribute::CtaTupleReply(tuple(protocol, frontend, client)),
        // Both, also where only one changes: the kernel would choose the other one's port.
        ConntrackAttribute::Other(nested(CTA_NAT_SRC, &range(source))),
        ConntrackAttribute::Other(nested(CTA_NAT_DST, &range(endpoint))),
        ConntrackAttribute::CtaStatus(status),
        ConntrackAttribute::CtaTimeout(*timeout),
    ];
    attributes.extend(tcp.map(|state| {
        let flags = |kind| ProtoInfoTCP::Other(DefaultNla::new(kind, vec![BE_LIBERAL; 2]));
        let [original, reply] = CTA_PROTOINFO_TCP_FLAGS.map(flags);
        let state = ProtoInfoTCP::State(state as u8);
        ConntrackAttribute::CtaProtoInfo(vec![ProtoInfo::TCP(vec![state, original, reply])])
    }));
    ConntrackMessage::New(attributes)
}

/// A range of one address and one port.
fn range(of: SocketAddr) -> Vec<DefaultNla> {
    let address = match of.ip() {
        IpAddr::V4(address) => DefaultNla::new(CTA_NAT_V4_MINIP, address.octets().to_vec()),
        IpAddr::V6(address) => DefaultNla::new(CTA_NAT_V6_MINIP, address.octets().to_vec()),
    };
    let port = |kind| DefaultNla::new(kind, of.port().to_be_bytes().to_vec());
    let ports = [CTA_PROTONAT_PORT_MIN, CTA_PROTONAT_PORT_MAX].map(port);
    vec![address, nested(CTA_NAT_PROTO, &ports)]
}

fn nested(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    DefaultNla::new(kind, bytes)
}

#[cfg(test)]
mod tests {
    use netlink_packet_netfilter::NetfilterMessageInner;
    use proxy_ebpf::layout::protocol;

    use super::*;

    fn entry() -> Entry {
        let address = |text: &str| text.parse().unwrap();
        Entry {
            connection: Connection {
                protocol: protocol::TCP,
                client: address("192.0.2.1:40000"),
                frontend: address("10.96.0.10:80"),
                endpoint: address("10.244.1.10:8080"),
                source: address("172.31.0.11:2000"),
                is_established: true,
            },
            has_seen_reply: true,
            tcp: Some(TcpState::CloseWait),
            timeout: 3600,
        }
    }

    #[test]
    fn an_entry_has_its_tuples_and_what_they_become() {
        let ConntrackMessage::New(attributes) = creation(&entry()) else {
            panic!("not a new one");
        };
        let has = |wanted: ConntrackAttribute| assert!(attributes.contains(&wanted), "{wanted:?}");
        let Connection {
            client, frontend, ..
        } = entry().connection;
        has(ConntrackAttribute::CtaTupleOrig(tuple(6, client, frontend)));
        has(ConntrackAttribute::CtaTupleReply(tuple(
            6, frontend, client,
        )));
        let status = Status::Confirmed | Status::SeenReply | Status::Assured;
        has(ConntrackAttribute::CtaStatus(status));
        has(ConntrackAttribute::CtaTimeout(3600));
        // Length and kind of each attribute, in the host's order; addresses and ports in the
        // network's.
        let expected = [
            [8_u16.to_ne_bytes(), 1_u16.to_ne_bytes()].concat(),
            vec![10, 244, 1, 10],
            [20_u16.to_ne_bytes(), 3_u16.to_ne_bytes()].concat(),
            [6_u16.to_ne_bytes(), 1_u16.to_ne_bytes()].concat(),
            vec![0x1f, 0x90, 0, 0],
            [6_u16.to_ne_bytes(), 2_u16.to_ne_bytes()].concat(),
            vec![0x1f, 0x90, 0, 0],
        ];
        has(ConntrackAttribute::Other(DefaultNla::new(
            CTA_NAT_DST,
            expected.concat(),
        )));
    }

    #[test]
    fn what_is_sent_is_understood_as_it_was_meant() {
        let request = creation(&entry());
        let mut sent = message(family(entry().connection.client), request.clone(), 0);
        sent.finalize();
        let mut bytes = vec![0; sent.buffer_len()];
        sent.serialize(&mut bytes);
        let read = NetlinkMessage::<NetfilterMessage>::deserialize(&bytes).unwrap();
        let NetlinkPayload::InnerMessage(read) = read.payload else {
            panic!("{read:?}");
        };
        let NetfilterMessageInner::Conntrack(ConntrackMessage::New(read)) = read.inner else {
            panic!("{read:?}");
        };
        let ConntrackMessage::New(attributes) = request else {
            panic!("not a new one");
        };
        assert_eq!(read.len(), attributes.len());
        assert_eq!(read[..6], attributes[..6]);
    }
}
