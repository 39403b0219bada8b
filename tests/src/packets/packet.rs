//! A packet's description.

use std::net::{IpAddr, SocketAddr};

use super::Protocol;

/// What a packet is. Build it to get its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// The Ethernet header, on devices that have one.
    pub link: Option<Ethernet>,
    /// The tunnel that it is in.
    pub tunnel: Option<Tunnel>,
    /// Where it comes from.
    pub source: SocketAddr,
    /// Where it goes; of the same family.
    pub destination: SocketAddr,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// What else the IP header says.
    pub network: Network,
    /// The transport header.
    pub transport: Transport,
    /// What follows the transport header.
    pub payload: Vec<u8>,
    /// What follows the IP packet in the frame.
    pub trailer: Vec<u8>,
}

/// A tunnel to an endpoint's node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tunnel {
    /// The node that has put the packet into it.
    pub source: IpAddr,
    /// The endpoint that the node has chosen.
    pub endpoint: SocketAddr,
}

impl Tunnel {
    /// How long its header is.
    pub fn header(&self) -> usize {
        if self.source.is_ipv4() { 20 } else { 40 }
    }
}

/// An Ethernet header.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ethernet {
    /// Destination address.
    pub destination: [u8; 6],
    /// Source address.
    pub source: [u8; 6],
    /// VLAN tags, the outer first.
    pub tags: Vec<Tag>,
}

/// A VLAN tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag {
    /// Its EtherType.
    pub kind: u16,
    /// Priority and identifier.
    pub control: u16,
}

/// What an IP header says besides addresses and time to live.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Network {
    /// Type of service, or traffic class.
    pub service: u8,
    /// IPv4's identification, or the lower part of IPv6's flow label.
    pub identification: u16,
    /// IPv4's flag.
    pub dont_fragment: bool,
    /// Options of IPv4; a multiple of 4 bytes, at most 40.
    pub options: Vec<u8>,
    /// Extension headers of IPv6.
    pub extensions: Vec<Extension>,
    /// The part of a whole that this is; the last of IPv6's extension headers.
    pub fragment: Option<Fragment>,
}

/// An extension header of IPv6.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Extension {
    /// Its protocol number.
    pub kind: u8,
    /// Its content behind the length; 6 bytes and a multiple of 8.
    pub content: Vec<u8>,
}

/// Which part of a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// In units of 8 bytes.
    pub offset: u16,
    /// Whether more follow.
    pub more: bool,
}

/// A transport header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Transport {
    /// TCP
    Tcp {
        /// Bits of [`tcp_flags`].
        flags: u8,
        /// Sequence and acknowledgment number.
        numbers: [u32; 2],
        /// Options; a multiple of 4 bytes, at most 40.
        options: Vec<u8>,
    },
    /// UDP
    Udp {
        /// Whether there is one.
        checksum: bool,
    },
    /// SCTP; what follows is the content of its one chunk.
    Sctp {
        /// The chunk's type, of [`chunks`].
        chunk: u8,
        /// The verification tag.
        tag: u32,
    },
    /// An error of ICMP or of `ICMPv6`.
    Icmp {
        /// Type and code.
        kind: [u8; 2],
        /// What follows the checksum.
        value: u32,
        /// The packet that it is about.
        about: Box<Packet>,
        /// How many bytes of that packet are quoted.
        quoted: usize,
    },
    /// Another protocol, without a header.
    Other(
        /// Its number.
        u8,
    ),
}

/// Flags of TCP.
pub mod tcp_flags {
    /// No more data.
    pub const FIN: u8 = 1;
    /// A new connection.
    pub const SYN: u8 = 2;
    /// An end.
    pub const RST: u8 = 4;
    /// Acknowledges.
    pub const ACK: u8 = 16;
}

/// Types of SCTP's chunks.
pub mod chunks {
    /// Content.
    pub const DATA: u8 = 0;
    /// A new association.
    pub const INIT: u8 = 1;
    /// Its answer.
    pub const INIT_ACK: u8 = 2;
    /// An end.
    pub const ABORT: u8 = 6;
    /// No more data.
    pub const SHUTDOWN: u8 = 7;
    /// Nor from here.
    pub const SHUTDOWN_ACK: u8 = 8;
    /// Goes on after the answer.
    pub const COOKIE_ECHO: u8 = 10;
    /// Nobody has anything to say any more.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// The numbers of a segment without data, in a connection whose ends both begin with
/// [`FIRST_SEQUENCE`].
fn numbers(flags: u8) -> [u32; 2] {
    let next = FIRST_SEQUENCE + 1;
    let is_syn = flags & tcp_flags::SYN != 0;
    let acknowledges = flags & tcp_flags::ACK != 0 || !is_syn;
    [
        if is_syn { FIRST_SEQUENCE } else { next },
        if acknowledges { next } else { 0 },
    ]
}

/// Where frames go: the Ethernet address of the device at which they come in.
pub const LINK_ADDRESS: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Where frames are from, unless somebody says.
pub const NEIGHBOUR: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// The initial sequence number of both ends.
pub const FIRST_SEQUENCE: u32 = 1_000_000;

impl Packet {
    /// A plain packet.
    pub fn new(source: SocketAddr, destination: SocketAddr, transport: Transport) -> Self {
        Self {
            link: Some(Ethernet {
                destination: LINK_ADDRESS,
                source: NEIGHBOUR,
                tags: Vec::new(),
            }),
            tunnel: None,
            source,
            destination,
            ttl: 64,
            network: Network::default(),
            transport,
            payload: b"payload".to_vec(),
            trailer: Vec::new(),
        }
    }

    /// A plain UDP packet.
    pub fn udp(source: SocketAddr, destination: SocketAddr) -> Self {
        Self::new(source, destination, Transport::Udp { checksum: true })
    }

    /// A plain TCP packet with these flags.
    pub fn tcp(source: SocketAddr, destination: SocketAddr, flags: u8) -> Self {
        let (numbers, options) = (numbers(flags), Vec::new());
        let transport = Transport::Tcp {
            flags,
            numbers,
            options,
        };
        Self::new(source, destination, transport)
    }

    /// A TCP segment with these numbers: its own and the one that it acknowledges, counted from
    /// the initial ones.
    #[must_use]
    pub fn numbered(mut self, own: u32, acknowledged: u32) -> Self {
        if let Transport::Tcp { numbers, .. } = &mut self.transport {
            *numbers = [own, acknowledged].map(|it| FIRST_SEQUENCE.wrapping_add(it));
        }
        self
    }

    /// The same without data.
    #[must_use]
    pub fn empty(mut self) -> Self {
        self.payload.clear();
        self
    }

    /// A plain SCTP packet with a chunk of this type.
    pub fn sctp(source: SocketAddr, destination: SocketAddr, chunk: u8) -> Self {
        let tag = 3_000_000;
        Self::new(source, destination, Transport::Sctp { chunk, tag })
    }

    /// A plain packet that asks for a connection, or begins a flow.
    pub fn opening(protocol: Protocol, source: SocketAddr, destination: SocketAddr) -> Self {
        match protocol {
            Protocol::Tcp => Self::tcp(source, destination, tcp_flags::SYN),
            Protocol::Udp => Self::udp(source, destination),
            Protocol::Sctp => Self::sctp(source, destination, chunks::INIT),
        }
    }

    /// An ICMP error about a packet, of which a little more than the ports is quoted. About
    /// one in a tunnel, it goes to where that begins.
    pub fn error(from: IpAddr, kind: [u8; 2], about: &Packet) -> Self {
        let to = match about.tunnel {
            Some(tunnel) => tunnel.source,
            None => about.source.ip(),
        };
        let transport = Transport::Icmp {
            kind,
            value: 1400,
            about: Box::new(about.clone()),
            quoted: about.transport_at() - about.outermost_at() + 8,
        };
        Self {
            payload: Vec::new(),
            ..Self::new(SocketAddr::new(from, 0), SocketAddr::new(to, 0), transport)
        }
    }

    /// An ICMP error like those that the data path makes, and sends back to where this
    /// packet came from: of TCP and SCTP all of the plain header is quoted.
    fn own_error(&self, from: IpAddr, kind: [u8; 2], number: u32) -> Self {
        let mut error = Self::error(from, kind, self);
        if let Transport::Icmp { value, quoted, .. } = &mut error.transport {
            *value = number;
            *quoted += match self.protocol() {
                6 => 12,
                132 => 4,
                _ => 0,
            };
        }
        if self.source.is_ipv4() {
            error.network.service = 0xc0;
            error.network.dont_fragment = true;
        }
        error.link.clone_from(&self.link);
        error
    }

    /// What tells the sender of this packet that nobody listens to it.
    #[must_use]
    pub fn port_unreachable(&self) -> Self {
        let kind = if self.source.is_ipv4() {
            [3, 3]
        } else {
            [1, 4]
        };
        self.own_error(self.destination.ip(), kind, 0).turned_back()
    }

    /// What tells the sender of this packet that its time to live is over.
    #[must_use]
    pub fn expired(&self, from: IpAddr) -> Self {
        let kind = if self.source.is_ipv4() {
            [11, 0]
        } else {
            [3, 0]
        };
        self.own_error(from, kind, 0).turned_back()
    }

    /// What tells the sender of this packet that it was longer than `mtu`.
    #[must_use]
    pub fn too_big(&self, from: IpAddr, mtu: u16) -> Self {
        let kind = if self.source.is_ipv4() {
            [3, 4]
        } else {
            [2, 0]
        };
        self.own_error(from, kind, mtu.into())
    }

    /// The same without an Ethernet header, and with at least so many bytes behind the
    /// transport header; also what it quotes.
    #[must_use]
    pub fn bare(&self, at_least: usize) -> Self {
        let mut bare = self.clone();
        bare.link = None;
        match &mut bare.transport {
            Transport::Icmp { about, .. } => **about = about.bare(at_least),
            _ => bare.payload.resize(at_least.max(self.payload.len()), 0),
        }
        bare
    }

    /// The same with other addresses and ports.
    #[must_use]
    pub fn between(&self, source: SocketAddr, destination: SocketAddr) -> Self {
        Self {
            source,
            destination,
            ..self.clone()
        }
    }

    /// A packet like this from the other end: to what asks for a connection, the answer that
    /// accepts it.
    #[must_use]
    pub fn answer(&self, source: SocketAddr, destination: SocketAddr) -> Self {
        let mut answer = self.between(source, destination);
        match &mut answer.transport {
            Transport::Tcp {
                flags,
                numbers: its_own,
                ..
            } if *flags & tcp_flags::SYN != 0 => {
                *flags |= tcp_flags::ACK;
                *its_own = numbers(*flags);
            }
            Transport::Sctp { chunk, .. } if *chunk == chunks::INIT => *chunk = chunks::INIT_ACK,
            _ => {}
        }
        answer
    }

    /// The same in a tunnel.
    #[must_use]
    pub fn in_tunnel(self, source: IpAddr, endpoint: SocketAddr) -> Self {
        Self {
            tunnel: Some(Tunnel { source, endpoint }),
            ..self
        }
    }

    /// The same after a router.
    #[must_use]
    pub fn sent_on(mut self) -> Self {
        self.ttl -= 1;
        self
    }

    /// The same, back to where it came from.
    #[must_use]
    pub fn turned_back(mut self) -> Self {
        if let Some(link) = &mut self.link {
            std::mem::swap(&mut link.source, &mut link.destination);
        }
        self
    }

    /// Its protocol number.
    pub fn protocol(&self) -> u8 {
        match self.transport {
            Transport::Tcp { .. } => 6,
            Transport::Udp { .. } => 17,
            Transport::Sctp { .. } => 132,
            Transport::Icmp { .. } if self.source.is_ipv4() => 1,
            Transport::Icmp { .. } => 58,
            Transport::Other(number) => number,
        }
    }

    /// Its EtherType.
    pub fn ether_type(&self) -> u16 {
        if self.source.is_ipv4() {
            0x0800
        } else {
            0x86dd
        }
    }

    /// Offset of the IP header; in a tunnel, of the inner one.
    pub fn network_at(&self) -> usize {
        let tags = |link: &Ethernet| 14 + 4 * link.tags.len();
        self.link.as_ref().map_or(0, tags) + self.tunnel.map_or(0, |tunnel| tunnel.header())
    }

    /// Offset of the outermost IP header.
    pub fn outermost_at(&self) -> usize {
        self.network_at() - self.tunnel.map_or(0, |tunnel| tunnel.header())
    }

    /// Offset of the transport header.
    pub fn transport_at(&self) -> usize {
        let network = if self.source.is_ipv4() {
            20 + self.network.options.len()
        } else {
            let extensions = self.network.extensions.iter();
            let fragment = if self.network.fragment.is_some() {
                8
            } else {
                0
            };
            40 + extensions.map(|it| it.content.len() + 2).sum::<usize>() + fragment
        };
        self.network_at() + network
    }

    /// Where the IP packet ends.
    pub fn end(&self) -> usize {
        let header = match &self.transport {
            Transport::Tcp { options, .. } => 20 + options.len(),
            Transport::Udp { .. } => 8,
            Transport::Sctp { .. } => 16,
            Transport::Icmp { quoted, .. } => 8 + quoted,
            Transport::Other(_) => 0,
        };
        self.transport_at() + header + self.payload.len()
    }

    /// Source and destination of a frame that has this packet's shape.
    pub fn endpoints_in(&self, frame: &[u8]) -> (SocketAddr, SocketAddr) {
        let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let (network, transport) = (self.network_at(), self.transport_at());
        let address = |which: usize| -> IpAddr {
            if self.source.is_ipv4() {
                let at = network + 12 + 4 * which;
                <[u8; 4]>::try_from(&frame[at..at + 4])
                    .expect("4 bytes")
                    .into()
            } else {
                let at = network + 8 + 16 * which;
                <[u8; 16]>::try_from(&frame[at..at + 16])
                    .expect("16 bytes")
                    .into()
            }
        };
        (
            SocketAddr::new(address(0), port(transport)),
            SocketAddr::new(address(1), port(transport + 2)),
        )
    }
}
