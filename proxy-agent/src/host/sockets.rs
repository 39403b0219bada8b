//! The host's sockets, by `sock_diag(7)`.

use std::collections::BTreeSet;
use std::io;

use futures::StreamExt as _;
use netlink_packet_sock_diag::constants::{
    AF_INET, AF_INET6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP,
};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_packet_sock_diag::message::SockDiagMessage;
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::proto::{ConnectionHandle, new_connection};
use rtnetlink::sys::SocketAddr;
use rtnetlink::sys::protocols::NETLINK_SOCK_DIAG;

/// Local ports that somebody waits on: of listening TCP and SCTP sockets, and of all
/// UDP ones. An established connection's port does not count: where it matters, it is
/// a listener's, or an ephemeral one.
pub(super) async fn bound() -> io::Result<BTreeSet<u16>> {
    let (connection, handle, _) = new_connection(NETLINK_SOCK_DIAG)?;
    let connection = tokio::spawn(connection);
    let result = all(&handle).await;
    connection.abort();
    result
}

async fn all(handle: &ConnectionHandle<SockDiagMessage>) -> io::Result<BTreeSet<u16>> {
    let mut ports = BTreeSet::new();
    for (family, any) in [
        (AF_INET, SocketId::new_v4()),
        (AF_INET6, SocketId::new_v6()),
    ] {
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
            match list(handle, request, &mut ports).await {
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
    ports: &mut BTreeSet<u16>,
) -> io::Result<()> {
    let mut message = NetlinkMessage::from(SockDiagMessage::InetRequest(request));
    message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut answers = handle
        .request(message, SocketAddr::new(0, 0))
        .map_err(io::Error::other)?;
    while let Some(answer) = answers.next().await {
        match answer.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(socket)) => {
                ports.insert(socket.header.socket_id.source_port);
            }
            NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
            _ => {}
        }
    }
    Ok(())
}
