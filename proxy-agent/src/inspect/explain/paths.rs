//! Where a packet can meet the programs, and what they make of it there.

use std::net::{IpAddr, SocketAddr};

use proxy_ebpf::flow_table::Record;
use proxy_ebpf::host::{Action, Frame, Hook, Link, Memory, run};
use proxy_ebpf::layout::{Counter, Edge, FlowKey, Port, SocketCookie, Tuple};
use proxy_ebpf::pipeline::{
    Client, Headers, SockAddr, Socket, SocketVerdict, Tables as _, on_connect, on_sendmsg, parse,
};
use serde::Serialize;

use super::packet::NETWORK;
use super::{Copies, Question, Version};
use crate::model::object::Protocol;

/// A place where packets or socket calls meet the programs.
pub(super) struct Path {
    name: &'static str,
    pub(super) client: Client,
    hook: PathHook,
}

enum PathHook {
    Packet(Hook),
    Socket,
}

/// Every path.
pub(super) const PATHS: [Path; 5] = [
    Path {
        name: "pod-packet",
        client: Client::Pod,
        hook: PathHook::Packet(Hook::Ingress(Client::Pod)),
    },
    Path {
        name: "pod-socket",
        client: Client::Pod,
        hook: PathHook::Socket,
    },
    Path {
        name: "outside-packet",
        client: Client::Outside,
        hook: PathHook::Packet(Hook::Xdp { can_send: true }),
    },
    Path {
        name: "host-packet",
        client: Client::Host,
        hook: PathHook::Packet(Hook::Egress(Client::Host)),
    },
    Path {
        name: "host-socket",
        client: Client::Host,
        hook: PathHook::Socket,
    },
];

/// What becomes of a packet on a path.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PathResult {
    /// Where it is met: `pod-packet` (it comes in from a Pod of this node), `pod-socket` (a Pod's
    /// process calls `connect` or `sendmsg`), `outside-packet` (it comes in by an uplink),
    /// `host-packet` (the host's own leaves by an uplink), `host-socket` (a process of the host
    /// calls).
    pub path: &'static str,
    /// `pass`, `translate`, `forward`, `encapsulate`, `deliver`, `answer`, `drop`, `refuse` or
    /// `time-out`.
    pub verdict: &'static str,
    /// The counters that say why, or what happened on the way.
    pub reasons: Vec<&'static str>,
    /// The source that the endpoint sees.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
    /// Whether XDP does it where an uplink has that; else TC.
    pub xdp_can: bool,
    /// The endpoints among which a new connection has its own.
    pub candidates: Vec<SocketAddr>,
}

impl Path {
    /// Runs the packet on this path.
    pub(super) fn run<A: Version>(&self, question: &Question, copies: &Copies) -> PathResult {
        let (verdict, tuple) = match self.hook {
            PathHook::Packet(hook) => run_packet::<A>(question, hook, copies),
            PathHook::Socket => run_socket::<A>(question, self.client, A::of_copies(copies)),
        };
        let [source, destination] = tuple.unwrap_or([question.source, question.destination]);
        let counted = counted(copies);
        let is_of_xdp = |it: &Counter| matches!(it, Counter::XdpPass | Counter::XdpTransmit);
        let is_reason = |it: &Counter| !is_of_xdp(it) && *it != Counter::FlowsCreated;
        PathResult {
            path: self.name,
            verdict,
            reasons: counted
                .iter()
                .filter(|(counter, _)| is_reason(counter))
                .map(|(_, name)| *name)
                .collect(),
            source,
            destination,
            xdp_can: counted.iter().any(|(counter, _)| is_of_xdp(counter)),
            candidates: Vec::new(),
        }
    }
}

/// What was counted.
fn counted(copies: &Copies) -> Vec<(Counter, &'static str)> {
    // Both IP versions have the same counters.
    let all = Counter::ALL.into_iter();
    all.filter(|(counter, _)| copies.0.counter(*counter) > 0)
        .collect()
}

fn run_packet<A: Version>(
    question: &Question,
    hook: Hook,
    copies: &Copies,
) -> (&'static str, Option<[SocketAddr; 2]>) {
    let before = question.first_packet();
    let mut frame = Frame(before.clone());
    let action = run(&mut frame, hook, Link::Ethernet, &copies.0, &copies.1);
    let parsed = parse::<A, _>(&frame, NETWORK).ok();
    let tuple = parsed.as_ref().map(|it| ends(&it.tuple));
    let is_answer = parsed.is_none_or(|it| is_answer(question, &it));
    let verdict = match action {
        Action::Pass if frame.0 == before => "pass",
        Action::Pass => "translate",
        Action::Forward if tuple.is_none() => "encapsulate",
        Action::Deliver => "deliver",
        Action::Bounce if is_answer => "answer",
        Action::Forward | Action::Bounce => "forward",
        Action::Reinject => "pass",
        Action::Drop => "drop",
    };
    let is_on_its_way = ["translate", "forward", "deliver"].contains(&verdict);
    let tuple = match verdict {
        // The flow says where the tunnel ends.
        "encapsulate" => {
            let record = record_of(question, A::of_copies(copies));
            record.map(|record| [question.source, ends(&record.tuple)[1]])
        }
        _ => tuple.filter(|_| is_on_its_way),
    };
    (verdict, tuple)
}

/// Whether a packet that goes back is another one, a reset or an ICMP error: not so that of a Pod
/// whose endpoint is itself.
fn is_answer<A: Version>(question: &Question, headers: &Headers<A>) -> bool {
    headers.protocol != question.protocol.number()
        || ends(&headers.tuple) == [question.destination, question.source]
}

fn run_socket<A: Version>(
    question: &Question,
    client: Client,
    memory: &Memory<A>,
) -> (&'static str, Option<[SocketAddr; 2]>) {
    let Some(address) = A::of(question.destination.ip()) else {
        return ("pass", None);
    };
    let socket = Socket {
        // No socket has it: the kernel counts from 1 (`__sock_gen_cookie`).
        cookie: SocketCookie::from(0),
        protocol: question.protocol.number(),
        client,
    };
    let to = SockAddr {
        address,
        port: Port::new(question.destination.port()),
    };
    let verdict = match question.protocol {
        Protocol::Udp => on_sendmsg(&socket, None, to, memory),
        Protocol::Tcp | Protocol::Sctp => on_connect(&socket, to, memory),
    };
    match verdict {
        SocketVerdict::Unchanged => ("pass", None),
        SocketVerdict::Refused => ("refuse", None),
        SocketVerdict::TimedOut => ("time-out", None),
        SocketVerdict::Endpoint(SockAddr { address, port }) => {
            let endpoint = SocketAddr::new(address.into(), port.number());
            ("translate", Some([question.source, endpoint]))
        }
    }
}

fn ends<A: Copy + Into<IpAddr>>(tuple: &Tuple<A>) -> [SocketAddr; 2] {
    [
        SocketAddr::new(tuple.source.into(), tuple.source_port.number()),
        SocketAddr::new(tuple.destination.into(), tuple.destination_port.number()),
    ]
}

/// The record of a packet's flow.
pub(super) fn record_of<'a, A: Version>(
    question: &Question,
    memory: &'a Memory<A>,
) -> Option<Record<'a, A>> {
    let tuple = Tuple {
        source: A::of(question.source.ip())?,
        destination: A::of(question.destination.ip())?,
        source_port: Port::new(question.source.port()),
        destination_port: Port::new(question.destination.port()),
    };
    let key = FlowKey::new(tuple, question.protocol.number(), Edge::Ingress);
    memory.find(&key.by_parts())
}

/// The record of the replies of a flow, by that of its client's packets.
pub(super) fn reply_record_of<'a, A: Version>(
    record: &Record<'_, A>,
    memory: &'a Memory<A>,
) -> Option<Record<'a, A>> {
    let replies = record.tuple.reversed();
    [Edge::Ingress, Edge::Egress].into_iter().find_map(|edge| {
        let key = FlowKey::new(replies, record.key.protocol, edge);
        let found = memory.find(&key.by_parts())?;
        (found.tuple == record.key.tuple.reversed()).then_some(found)
    })
}
