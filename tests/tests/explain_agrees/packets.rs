//! Real packets, and what becomes of them in the kernel.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, bail, ensure};
use proxy_agent::inspect::explain::Question;
use proxy_agent::maps::ProgramName;
use proxy_agent::model::object::{Family, Protocol};
use proxy_tests::packets::{LINK_ADDRESS, NEIGHBOUR, Packet, Transport, chunks, tcp_flags};

use crate::node::TestNode;
use crate::objects::{PODS, address};

/// What `BPF_PROG_TEST_RUN` returns: `TCX_NEXT`, `TC_ACT_SHOT`, `TC_ACT_REDIRECT`.
const NEXT: i32 = -1;
const SHOT: i32 = 2;
const REDIRECT: i32 = 7;

/// What XDP returns: `XDP_DROP`, `XDP_PASS`, `XDP_TX`, `XDP_REDIRECT`.
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;

/// What the kernel takes for a test run at least is a little less.
const SHORTEST: usize = 60;

/// Where packets meet the programs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum PacketPath {
    Pod,
    /// By TC alone.
    Outside,
    /// By XDP, and by TC where that leaves it.
    OutsideByXdp,
    Host,
}

impl PacketPath {
    pub(crate) const ALL: [Self; 4] = [Self::Pod, Self::Outside, Self::OutsideByXdp, Self::Host];

    /// What `explain` calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pod => "pod-packet",
            Self::Outside | Self::OutsideByXdp => "outside-packet",
            Self::Host => "host-packet",
        }
    }

    fn program(self) -> ProgramName {
        match self {
            Self::Pod => ProgramName::IngressPod,
            Self::Outside | Self::OutsideByXdp => ProgramName::IngressOutside,
            Self::Host => ProgramName::EgressOutside,
        }
    }
}

/// What became of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It goes on as it is.
    Passed,
    /// It goes on from here, changed.
    Translated,
    /// It is sent on, changed.
    SentOn,
    /// It is sent on in a tunnel.
    InTunnel,
    /// Another one goes back.
    Answered,
    Dropped,
}

impl Fate {
    /// What `explain` may call it: a test run does not tell where a packet was sent.
    pub(crate) fn verdicts(self) -> &'static [&'static str] {
        match self {
            Self::Passed => &["pass"],
            Self::Translated => &["translate", "deliver"],
            Self::SentOn => &["forward", "deliver"],
            Self::InTunnel => &["encapsulate"],
            Self::Answered => &["answer"],
            Self::Dropped => &["drop"],
        }
    }
}

/// What became of a packet, and what it is then: its outermost source and destination.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) fate: Fate,
    pub(crate) ends: [SocketAddr; 2],
    pub(crate) by_xdp: bool,
}

/// Sends the packet that `explain` was asked about.
pub(crate) fn send(node: &mut TestNode, path: PacketPath, question: &Question) -> Result<Seen> {
    let mut bytes = question.first_packet();
    bytes[..6].copy_from_slice(&LINK_ADDRESS);
    bytes[6..12].copy_from_slice(&NEIGHBOUR);
    bytes.resize(bytes.len().max(SHORTEST), 0);
    if path == PacketPath::OutsideByXdp
        && let Some(seen) = send_to_xdp(node, question, &bytes)?
    {
        return Ok(seen);
    }
    let (action, out) = node.run_tc(path.program(), &bytes)?;
    let (is_redirected, unchanged) = match action {
        SHOT => return Ok(Seen::unchanged(Fate::Dropped, question, false)),
        NEXT => (false, out == bytes),
        REDIRECT => (true, false),
        other => bail!("an unknown verdict: {other}"),
    };
    if unchanged {
        return Ok(Seen::unchanged(Fate::Passed, question, false));
    }
    seen(question, &out, is_redirected, false)
}

/// The same by XDP; `None` where that leaves the packet as it came.
fn send_to_xdp(node: &mut TestNode, question: &Question, bytes: &[u8]) -> Result<Option<Seen>> {
    let (action, mut out) = node.run_xdp(bytes)?;
    let is_redirected = match action {
        XDP_DROP => return Ok(Some(Seen::unchanged(Fate::Dropped, question, false))),
        XDP_PASS if out.len() == bytes.len() => {
            ensure!(out == bytes, "XDP has changed what it leaves to TC");
            return Ok(None);
        }
        XDP_PASS => {
            // The mark for TC is in front.
            out.drain(..size_of::<u32>());
            false
        }
        XDP_TX | XDP_REDIRECT => true,
        other => bail!("an unknown verdict of XDP: {other}"),
    };
    seen(question, &out, is_redirected, true).map(Some)
}

fn seen(question: &Question, out: &[u8], is_redirected: bool, by_xdp: bool) -> Result<Seen> {
    let (protocol, ends) = parse(out).context("no packet")?;
    let back = [question.destination, question.source];
    let fate = match (is_redirected, protocol) {
        (false, _) => Fate::Translated,
        (true, 4 | 41) => Fate::InTunnel,
        (true, 1 | 58) => Fate::Answered,
        _ if ends == back => Fate::Answered,
        _ => Fate::SentOn,
    };
    Ok(Seen { fate, ends, by_xdp })
}

impl Seen {
    fn unchanged(fate: Fate, question: &Question, by_xdp: bool) -> Self {
        let ends = [question.source, question.destination];
        Self { fate, ends, by_xdp }
    }
}

/// The protocol of a frame without tags, options and extension headers, and its ends.
fn parse(frame: &[u8]) -> Option<(u8, [SocketAddr; 2])> {
    let port = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
    let (protocol, addresses, transport): (_, [IpAddr; 2], _) = if frame.get(12..14)? == [8, 0] {
        let address = |at: usize| <[u8; 4]>::try_from(frame.get(at..at + 4)?).ok();
        let addresses = [address(26)?.into(), address(30)?.into()];
        (*frame.get(23)?, addresses, 34)
    } else {
        let address = |at: usize| <[u8; 16]>::try_from(frame.get(at..at + 16)?).ok();
        let addresses = [address(22)?.into(), address(38)?.into()];
        (*frame.get(20)?, addresses, 54)
    };
    let [source, destination] = addresses;
    let ends = [
        SocketAddr::new(source, port(transport)?),
        SocketAddr::new(destination, port(transport + 2)?),
    ];
    Some((protocol, ends))
}

/// What comes after the first packet of a flow.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Next {
    /// The endpoint accepts.
    Answer,
    /// The endpoint wants nothing of it, or has no more to say.
    Reset,
}

/// Sends what the endpoint has to say to a packet that has reached it, which has these ends there.
pub(crate) fn send_back(
    node: &mut TestNode,
    protocol: Protocol,
    [client, endpoint]: [SocketAddr; 2],
    next: Next,
) -> Result<()> {
    let family = Family::of(endpoint.ip());
    let mut pods = (0..=u8::MAX).map(|host| address(family, PODS, host));
    let is_local = pods.any(|pod| pod == endpoint.ip());
    let mut packet = match (protocol, next) {
        (Protocol::Tcp, Next::Answer) => {
            Packet::tcp(endpoint, client, tcp_flags::SYN | tcp_flags::ACK)
        }
        (Protocol::Tcp, Next::Reset) => {
            Packet::tcp(endpoint, client, tcp_flags::RST | tcp_flags::ACK)
        }
        (Protocol::Udp, _) => Packet::udp(endpoint, client),
        (Protocol::Sctp, Next::Answer) => Packet::sctp(endpoint, client, chunks::INIT_ACK),
        (Protocol::Sctp, Next::Reset) => Packet::sctp(endpoint, client, chunks::ABORT),
    };
    if let Transport::Tcp { numbers, .. } = &mut packet.transport {
        // The first segment of `explain` has the number 1.
        *numbers = [7000, 2];
    }
    let program = if is_local {
        ProgramName::EgressPod
    } else {
        ProgramName::IngressOutside
    };
    let mut bytes = packet.build();
    bytes.resize(bytes.len().max(SHORTEST), 0);
    node.run_tc(program, &bytes)?;
    Ok(())
}
