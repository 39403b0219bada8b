//! The host's sockets, by `sock_diag(7)`.

use std::collections::BTreeSet;
use std::{io, net};

use futures::StreamExt as _;
use netlink_packet_sock_diag::constants::{
    AF_INET, AF_INET6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP,
};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_packet_sock_diag::message::{SockDiagDestroy, SockDiagMessage};
use proxy_ebpf::layout::SocketCookie;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::proto::{ConnectionHandle, new_connection};
use rtnetlink::sys::SocketAddr;
use rtnetlink::sys::protocols::NETLINK_SOCK_DIAG;

/// Local ports that somebody waits on: of listening TCP and SCTP sockets, and of all
/// UDP ones. An established connection's port does not count: where it matters, it is
/// a listener's, or an ephemeral one.
pub(super) async fn bound() -> io::Result<BTreeSet<u16>> {
    let (connection, handle, _) = new_connection(NETLINK_SOCK_DIAG)?;
    let connection = tokio::spawn(connection);
    let result = all_bound(&handle).await;
    connection.abort();
    result
}

/// A socket that is connected, or being connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectedSocket {
    /// To whom; never an IPv4 address in IPv6's clothes.
    pub peer: net::SocketAddr,
    /// The kernel's cookie for it, which is in the kernel's answer word by word, the lower
    /// one first.
    pub cookie: SocketCookie,
    family: u8,
    protocol: u8,
    id: SocketId,
}

impl ConnectedSocket {
    fn new(family: u8, protocol: u8, id: SocketId) -> Self {
        let words = id.cookie.as_chunks().0;
        let peer = (id.destination_address.to_canonical(), id.destination_port);
        Self {
            peer: peer.into(),
            cookie: SocketCookie([0, 1].map(|at| u32::from_ne_bytes(words[at]))),
            family,
            protocol,
            id,
        }
    }
}

/// The host's UDP sockets that are connected.
pub async fn connected_udp() -> io::Result<Vec<ConnectedSocket>> {
    connected(IPPROTO_UDP, StateFlags::ESTABLISHED).await
}

/// The host's TCP sockets that are connected or being connected, and not closed by the host.
pub async fn connected_tcp() -> io::Result<Vec<ConnectedSocket>> {
    let states = StateFlags::ESTABLISHED | StateFlags::SYN_SENT | StateFlags::CLOSE_WAIT;
    connected(IPPROTO_TCP, states).await
}

async fn connected(protocol: u8, states: StateFlags) -> io::Result<Vec<ConnectedSocket>> {
    let (connection, handle, _) = new_connection(NETLINK_SOCK_DIAG)?;
    let connection = tokio::spawn(connection);
    let result = all_connected(&handle, protocol, states).await;
    connection.abort();
    result
}

async fn all_connected(
    handle: &ConnectionHandle<SockDiagMessage>,
    protocol: u8,
    states: StateFlags,
) -> io::Result<Vec<ConnectedSocket>> {
    let mut sockets = Vec::new();
    for (family, any) in families() {
        let request = InetRequest {
            family,
            protocol,
            extensions: ExtensionFlags::empty(),
            states: states.clone(),
            socket_id: any,
        };
        list(handle, request, |id| {
            sockets.push(ConnectedSocket::new(family, protocol, id));
        })
        .await?;
    }
    Ok(sockets)
}

/// Ends a socket as an administrator may (`ss --kill`): whoever uses it gets
/// `ECONNABORTED`, and it is connected no more; TCP's peer gets a reset. Whether it was
/// still there.
pub async fn destroy(socket: ConnectedSocket) -> io::Result<bool> {
    let (connection, handle, _) = new_connection(NETLINK_SOCK_DIAG)?;
    let connection = tokio::spawn(connection);
    let request = InetRequest {
        family: socket.family,
        protocol: socket.protocol,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id: socket.id,
    };
    let request = SockDiagDestroy::new(SockDiagMessage::InetRequest(request));
    let mut message = NetlinkMessage::from(request);
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    let answers = handle.request(message, SocketAddr::new(0, 0));
    let answer = answers.map_err(io::Error::other)?.next().await;
    connection.abort();
    match answer.map(|answer| answer.payload) {
        Some(NetlinkPayload::Error(error)) if error.code.is_some() => match error.to_io() {
            gone if gone.kind() == io::ErrorKind::NotFound => Ok(false),
            error => Err(error),
        },
        _ => Ok(true),
    }
}

/// Both families, with what stands for any socket of each.
fn families() -> [(u8, SocketId); 2] {
    [
        (AF_INET, SocketId::new_v4()),
        (AF_INET6, SocketId::new_v6()),
    ]
}

async fn all_bound(handle: &ConnectionHandle<SockDiagMessage>) -> io::Result<BTreeSet<u16>> {
    let mut ports = BTreeSet::new();
    for (family, any) in families() {
        for (protocol, states) in [
            (IPPROTO_TCP, StateFlags::LISTEN),
            (IPPROTO_UDP, StateFlags::all()),
            (IPPROTO_SCTP, StateFlags::LISTEN),
        ] {
            let request = InetRequest {
                family,
                protocol,
                extensions: ExtensionFlags::empty(),
                states,
                socket_id: any.clone(),
            };
            let note = |id: SocketId| {
                ports.insert(id.source_port);
            };
            match list(handle, request, note).await {
                // A kernel without the protocol has no sockets of it.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                result => result?,
            }
        }
    }
    Ok(ports)
}

async fn list(
    handle: &ConnectionHandle<SockDiagMessage>,
    request: InetRequest,
    mut note: impl FnMut(SocketId),
) -> io::Result<()> {
    let mut message = NetlinkMessage::from(SockDiagMessage::InetRequest(request));
    message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut answers = handle
        .request(message, SocketAddr::new(0, 0))
        .map_err(io::Error::other)?;
    while let Some(answer) = answers.next().await {
        match answer.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(socket)) => {
                note(socket.header.socket_id);
            }
            NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
            _ => {}
        }
    }
    Ok(())
}
