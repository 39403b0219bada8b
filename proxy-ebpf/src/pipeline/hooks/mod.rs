//! Entry points for packets and socket calls: one file per hook or stage.

mod claim;
mod decide;
mod egress;
mod fragment;
mod icmp_error;
mod ingress;
mod open;
mod open_direct;
mod plain;
mod socket;
mod socket_trace;
mod tunnel;
mod tunnel_error;

pub use socket::{
    SockAddr, Socket, SocketTables, SocketVerdict, on_bind, on_connect, on_getpeername, on_recvmsg,
    on_release, on_release_udp, on_sendmsg,
};
