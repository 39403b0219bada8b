//! Entry points for packets and socket calls: one file per hook or stage.

mod decide;
mod egress;
mod fragment;
mod icmp_error;
mod ingress;
mod open;
mod open_direct;
mod socket;
mod tunnel;
mod tunnel_error;

pub use egress::egress;
pub use fragment::{egress_fragment, ingress_fragment};
pub use icmp_error::{egress_error, ingress_error};
pub use ingress::ingress;
pub use open::open;
pub use open_direct::open_direct;
pub use socket::{
    SockAddr, Socket, SocketTables, SocketVerdict, on_bind, on_connect, on_getpeername, on_recvmsg,
    on_release, on_release_udp, on_sendmsg,
};
pub use tunnel::{decapsulate, encapsulate, open_tunnelled};
pub use tunnel_error::tunnel_error;
