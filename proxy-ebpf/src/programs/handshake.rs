//! A TCP socket connects: whether the endpoint answers to which its destination was translated.
//!
//! The program is called at some events of every TCP socket below the cgroup, and at others only
//! where it has asked for them (`bpf_sock_ops_cb_flags_set`), of sockets that were translated. The
//! kernel tells of a timeout before it sends the SYN again (Linux 4.16).

use core::ptr::addr_of;

use aya_ebpf::bindings::{
    BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_RTO_CB, BPF_SOCK_OPS_RTO_CB_FLAG,
    BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_TCP_CLOSE,
    BPF_TCP_SYN_SENT, bpf_sock_ops,
};
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_sock_ops_cb_flags_set};
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use proxy_ebpf::layout::{Port, V4, V6};
use proxy_ebpf::pipeline::{Handshake, SockAddr, Syn, Watch, on_handshake};

use crate::call::{V6Peer, classify_v6};
use crate::maps::Maps;

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// The kernel goes on; it asks for nothing where we are called.
const DONE: u32 = 1;

#[sock_ops]
pub(crate) fn handshake(ctx: SockOpsContext) -> u32 {
    let event = Event { raw: ctx.ops };
    if let Some(what) = event.what() {
        event.tell(what);
    }
    DONE
}

/// An event of a TCP socket.
struct Event {
    raw: *mut bpf_sock_ops,
}

/// Reads a field of the context.
macro_rules! field {
    ($event:expr, $($field:tt)+) => {
        // SAFETY: a field of the context.
        unsafe { addr_of!((*$event.raw).$($field)+).read_volatile() }
    };
}

impl Event {
    /// What it is in the handshake of a socket that connects, if it is that. A socket that has
    /// not asked for timeouts is none of ours.
    #[inline(always)]
    fn what(&self) -> Option<Handshake> {
        match field!(self, op) {
            BPF_SOCK_OPS_TCP_CONNECT_CB => Some(Handshake::Begins),
            BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => {
                let is_ours = field!(self, bpf_sock_ops_cb_flags) & BPF_SOCK_OPS_RTO_CB_FLAG != 0;
                is_ours.then(|| self.answer())
            }
            BPF_SOCK_OPS_RTO_CB => {
                let is_first = self.argument(0) == 0;
                let is_syn = field!(self, state) == BPF_TCP_SYN_SENT;
                (is_first && is_syn && !self.has_heard()).then_some(Handshake::TimesOut)
            }
            BPF_SOCK_OPS_STATE_CB => {
                let is_end =
                    self.argument(0) == BPF_TCP_SYN_SENT && self.argument(1) == BPF_TCP_CLOSE;
                (is_end && self.has_heard()).then(|| self.answer())
            }
            _ => None,
        }
    }

    #[inline(always)]
    fn argument(&self, number: usize) -> u32 {
        field!(self, __bindgen_anon_1.args[number])
    }

    /// An answer, to the first SYN or to a later one.
    #[inline(always)]
    fn answer(&self) -> Handshake {
        if field!(self, total_retrans) == 0 {
            Handshake::IsAnswered
        } else {
            Handshake::IsAnsweredLate
        }
    }

    /// Whether any segment has come.
    #[inline(always)]
    fn has_heard(&self) -> bool {
        field!(self, segs_in) != 0
    }

    /// Tells the pipeline, and asks for what it wants to know of the socket.
    #[inline(always)]
    fn tell(&self, what: Handshake) {
        // SAFETY: a helper.
        let cookie = unsafe { bpf_get_socket_cookie(self.raw.cast()) }.into();
        let watch = match field!(self, family) {
            AF_INET => {
                let peer = SockAddr {
                    address: V4([field!(self, remote_ip4)]),
                    port: self.peer_port(),
                };
                on_handshake(what, cookie, peer, || self.syn_v4(), &Maps)
            }
            AF_INET6 => match classify_v6(self.peer_v6(), self.peer_port()) {
                V6Peer::Mapped(peer) => {
                    on_handshake(what, cookie, peer, || self.syn_mapped(), &Maps)
                }
                V6Peer::V6(peer) => on_handshake(what, cookie, peer, || self.syn_v6(), &Maps),
            },
            _ => Watch::Nothing,
        };
        self.ask_for(watch);
    }

    #[inline(always)]
    fn ask_for(&self, watch: Watch) {
        let wanted = match watch {
            Watch::Nothing => return,
            Watch::Timeouts => BPF_SOCK_OPS_RTO_CB_FLAG,
            Watch::Refusals => BPF_SOCK_OPS_RTO_CB_FLAG | BPF_SOCK_OPS_STATE_CB_FLAG,
        };
        // What programs of others have asked for stays.
        let flags = field!(self, bpf_sock_ops_cb_flags);
        if flags & wanted != wanted {
            // SAFETY: a helper.
            unsafe { bpf_sock_ops_cb_flags_set(self.raw, (flags | wanted).cast_signed()) };
        }
    }

    #[inline(always)]
    fn syn_v4(&self) -> Syn<V4> {
        self.syn(V4([field!(self, local_ip4)]))
    }

    /// Of a socket for IPv6 with an IPv4 peer.
    #[inline(always)]
    fn syn_mapped(&self) -> Syn<V4> {
        self.syn(V4([field!(self, local_ip6[3])]))
    }

    #[inline(always)]
    fn syn_v6(&self) -> Syn<V6> {
        self.syn(V6([0, 1, 2, 3].map(|at| field!(self, local_ip6[at]))))
    }

    /// The SYN that nobody has acknowledged.
    #[inline(always)]
    fn syn<A>(&self, address: A) -> Syn<A> {
        // This one is in the machine's order.
        let port = Port::new(field!(self, local_port) as u16);
        Syn {
            from: SockAddr { address, port },
            sequence: field!(self, snd_una),
        }
    }

    #[inline(always)]
    fn peer_v6(&self) -> V6 {
        V6([0, 1, 2, 3].map(|at| field!(self, remote_ip6[at])))
    }

    #[inline(always)]
    fn peer_port(&self) -> Port {
        // 16 bits in the order of the network, in the first two of four bytes, which are
        // in that order, too.
        Port::new(u32::from_be(field!(self, remote_port)) as u16)
    }
}
