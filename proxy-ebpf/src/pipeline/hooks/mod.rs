//! Entry points for packets and socket calls: one file per hook or stage.

mod claim;
mod decide;
mod egress;
mod fragment;
mod handshake;
mod icmp_error;
mod ingress;
mod open;
mod open_direct;
mod plain;
mod reopen;
mod socket;
mod socket_trace;
mod tunnel;
mod tunnel_error;

pub use handshake::{Handshake, Syn, Watch, on_handshake};
pub use socket::{
    SockAddr, Socket, SocketTables, SocketVerdict, on_bind, on_connect, on_getpeername, on_recvmsg,
    on_release, on_release_udp, on_sendmsg,
};
