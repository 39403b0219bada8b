//! What is measured: a path of the pipeline at a hook.

use proxy_tests::lab::Family;
use proxy_tests::packets::{Packet, Protocol, tcp_flags};

use crate::Fill;
use crate::node::{Node, client, local, plain, remote, remote_endpoint, without_endpoints};
use crate::program::{self, Kind, Runs};

/// A hook, by its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Ingress,
    Egress,
    Xdp,
}

impl Hook {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress_outside",
            Self::Egress => "egress_outside",
            Self::Xdp => "xdp_outside",
        }
    }
}

/// What a packet is to the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    /// No Service's, of UDP or TCP, or one that opens a connection.
    PlainUdp,
    PlainTcp,
    PlainSyn,
    /// Of UDP, straight to an endpoint.
    PlainEndpoint,
    /// Of a flow to an endpoint on this node, or on another one, and back.
    HitLocal,
    ReplyLocal,
    HitRemote,
    ReplyRemote,
    /// Opens a flow.
    NewLocal,
    NewRemote,
    /// To a Service without endpoints.
    Refused,
}

/// What is measured once a round.
pub(crate) struct Case {
    pub(crate) hook: Hook,
    pub(crate) family: Family,
    pub(crate) path: &'static str,
    pub(crate) runs: Runs,
    /// What the program is to return.
    pub(crate) expected: i32,
    kind: Path,
    /// Flows among which a packet's is chosen, the next one at each round.
    flows: usize,
    first: usize,
}

/// Runs that the kernel repeats; of those that are a call each; of such that open a flow, of which
/// the table takes only so many; and of such that are answered, of which a CPU makes no more than
/// some in a second.
const REPEATED: Runs = Runs::Repeated(20_000);
const SINGLE: Runs = Runs::Single(2000);
const OPENING: Runs = Runs::Single(1000);
const SEEN_REPLY: Runs = Runs::Single(50);

/// `TCX_NEXT`, `TC_ACT_SHOT` and `TC_ACT_REDIRECT`.
const NEXT: i32 = -1;
const REDIRECTED: i32 = 7;
/// `XDP_PASS` and `XDP_REDIRECT`.
const XDP_PASS: i32 = 2;
const XDP_REDIRECT: i32 = 4;

/// All cases. Repeated runs take what they need from the processor's caches, which says
/// nothing about full tables; and the kernel keeps a packet's mark from one run to the next, so that
/// ingress would translate it once only.
pub(crate) fn cases(fill: Fill) -> Vec<Case> {
    use Hook::{Egress, Ingress, Xdp};
    let table = [
        (Ingress, Path::PlainUdp, "plain UDP", REPEATED, NEXT),
        (Ingress, Path::PlainTcp, "plain TCP", REPEATED, NEXT),
        (Ingress, Path::PlainSyn, "plain SYN", REPEATED, NEXT),
        (
            Ingress,
            Path::PlainEndpoint,
            "plain UDP to an endpoint",
            REPEATED,
            NEXT,
        ),
        (Egress, Path::PlainUdp, "plain UDP", REPEATED, NEXT),
        (Egress, Path::PlainTcp, "plain TCP", REPEATED, NEXT),
        (Xdp, Path::PlainUdp, "plain UDP", REPEATED, XDP_PASS),
        (Xdp, Path::PlainTcp, "plain TCP", REPEATED, XDP_PASS),
        (Ingress, Path::PlainUdp, "plain UDP", SINGLE, NEXT),
        (Egress, Path::PlainUdp, "plain UDP", SINGLE, NEXT),
        (Xdp, Path::PlainUdp, "plain UDP", SINGLE, XDP_PASS),
        (
            Egress,
            Path::ReplyLocal,
            "reply, local endpoint",
            REPEATED,
            NEXT,
        ),
        (Ingress, Path::HitLocal, "hit, local endpoint", SINGLE, NEXT),
        (
            Egress,
            Path::ReplyLocal,
            "reply, local endpoint",
            SINGLE,
            NEXT,
        ),
        (Xdp, Path::HitLocal, "hit, local endpoint", SINGLE, XDP_PASS),
        (
            Ingress,
            Path::HitRemote,
            "hit, remote endpoint",
            SINGLE,
            REDIRECTED,
        ),
        (
            Ingress,
            Path::ReplyRemote,
            "reply, remote endpoint",
            SINGLE,
            REDIRECTED,
        ),
        (
            Xdp,
            Path::HitRemote,
            "hit, remote endpoint",
            SINGLE,
            XDP_REDIRECT,
        ),
        (
            Xdp,
            Path::ReplyRemote,
            "reply, remote endpoint",
            SINGLE,
            XDP_REDIRECT,
        ),
        (
            Ingress,
            Path::NewLocal,
            "new flow, local endpoint",
            OPENING,
            NEXT,
        ),
        (
            Ingress,
            Path::NewRemote,
            "new flow, remote endpoint",
            OPENING,
            REDIRECTED,
        ),
        (
            Ingress,
            Path::Refused,
            "refused by a reset",
            SEEN_REPLY,
            REDIRECTED,
        ),
    ];
    let is_of_use = |runs: Runs| fill.flows == 1 || matches!(runs, Runs::Single(_));
    let both = Family::BOTH.into_iter().flat_map(|family| {
        let used = table.iter().filter(|(.., runs, _)| is_of_use(*runs));
        used.map(move |(hook, kind, path, runs, expected)| Case {
            hook: *hook,
            family,
            path,
            runs: *runs,
            expected: *expected,
            kind: *kind,
            flows: fill.flows,
            first: 0,
        })
    });
    both.collect()
}

impl Case {
    pub(crate) fn kind(&self) -> Kind {
        match self.hook {
            Hook::Ingress | Hook::Egress => Kind::Tc,
            Hook::Xdp => Kind::Xdp,
        }
    }

    /// The packets of the next round, one after the other.
    pub(crate) fn packets(&mut self, node: &mut Node) -> Vec<Vec<u8>> {
        let wanted = match (self.runs, self.kind) {
            (Runs::Single(times), Path::NewLocal | Path::NewRemote) => times,
            (Runs::Single(times), _) => times.min(self.flows),
            (Runs::Repeated(_), _) => 1,
        };
        (0..wanted)
            .map(|_| program::frame(&self.packet(node)))
            .collect()
    }

    fn packet(&mut self, node: &mut Node) -> Packet {
        let family = self.family;
        // A stride that is prime to the number of flows, and far: neighbours in time are none
        // in memory.
        self.first = (self.first + 7919) % self.flows;
        let (number, to_node) = node.established(family, self.first);
        let from = client(family, number);
        match self.kind {
            Path::PlainUdp => Packet::opening(Protocol::Udp, from, plain(family)),
            Path::PlainTcp => Packet::tcp(from, plain(family), tcp_flags::ACK),
            Path::PlainSyn => Packet::tcp(from, plain(family), tcp_flags::SYN),
            Path::PlainEndpoint => {
                Packet::opening(Protocol::Udp, from, remote_endpoint(family, number))
            }
            Path::HitLocal => Packet::tcp(from, local(family), tcp_flags::ACK),
            Path::ReplyLocal => Packet::tcp(local(family), from, tcp_flags::ACK),
            Path::HitRemote => Packet::tcp(from, remote(family, number), tcp_flags::ACK),
            Path::ReplyRemote => {
                Packet::tcp(remote_endpoint(family, number), to_node, tcp_flags::ACK)
            }
            Path::NewLocal => {
                let from = client(family, node.new_client());
                Packet::tcp(from, local(family), tcp_flags::SYN)
            }
            Path::NewRemote => {
                let number = node.new_client();
                let to = remote(family, number);
                Packet::tcp(client(family, number), to, tcp_flags::SYN)
            }
            Path::Refused => {
                let from = client(family, node.new_client());
                Packet::tcp(from, without_endpoints(family), tcp_flags::SYN)
            }
        }
    }
}
