//! Packets of every shape that the data path may see.

use std::net::SocketAddr;

use super::{
    Choices, Ethernet, Extension, Fragment, LINK_ADDRESS, Network, Packet, Protocol, Transport,
    tcp_flags,
};

/// Extension headers that any packet may have: hop-by-hop, routing, destination
/// options.
const EXTENSIONS: [u8; 3] = [0, 43, 60];

impl Packet {
    /// A packet of any shape that begins a conversation over TCP, UDP or SCTP.
    pub fn random(choices: &mut Choices<'_>, source: SocketAddr, destination: SocketAddr) -> Self {
        let protocol = choices.one_of(&[Protocol::Udp, Protocol::Tcp, Protocol::Sctp]);
        Self::opening(protocol, source, destination).reshaped(choices)
    }

    /// The same conversation in another shape: protocol, what a packet asks for, addresses
    /// and ports stay, all else is up to chance.
    #[must_use]
    pub fn reshaped(&self, choices: &mut Choices<'_>) -> Self {
        Self {
            link: self.link.as_ref().map(|_| link(choices)),
            ttl: 2 + choices.byte() % 254,
            network: network(choices, self.source.is_ipv4()),
            transport: transport(choices, &self.transport),
            payload: payload(choices),
            trailer: trailer(choices),
            ..self.clone()
        }
    }
}

fn link(choices: &mut Choices<'_>) -> Ethernet {
    let bytes = choices.filling(6);
    Ethernet {
        destination: LINK_ADDRESS,
        source: <[u8; 6]>::try_from(bytes).expect("6 bytes"),
        tags: Vec::new(),
    }
}

fn network(choices: &mut Choices<'_>, is_ipv4: bool) -> Network {
    let mut network = Network {
        service: choices.byte(),
        identification: choices.short(),
        ..Network::default()
    };
    if is_ipv4 {
        network.dont_fragment = choices.byte() & 1 == 0;
        let words = choices.one_of(&[0, 0, 0, 1, 5, 10]);
        network.options = choices.filling(words * 4);
    } else {
        // With a fragment header five, the most that RFC 8200 has a use for.
        let count = choices.one_of(&[0, 0, 0, 1, 2, 3, 4]);
        for _ in 0..count {
            let units = choices.one_of(&[0, 0, 1, 4]);
            let mut content = choices.filling(6 + units * 8);
            // No segments left: the destination is the last one.
            content[1] = 0;
            network.extensions.push(Extension {
                kind: choices.one_of(&EXTENSIONS),
                content,
            });
        }
        // An atomic fragment is a whole packet.
        network.fragment = choices.seldom(8).then_some(Fragment {
            offset: 0,
            more: false,
        });
    }
    network
}

fn transport(choices: &mut Choices<'_>, like: &Transport) -> Transport {
    match like {
        Transport::Tcp { flags, numbers, .. } => {
            let random = [
                u32::from(choices.short()) << 16,
                u32::from(choices.short()) << 8,
            ];
            // Those of a handshake say to which connection it belongs.
            let is_handshake = flags & tcp_flags::SYN != 0;
            let words = choices.one_of(&[0, 0, 3, 10]);
            Transport::Tcp {
                flags: *flags,
                numbers: if is_handshake { *numbers } else { random },
                options: choices.filling(words * 4),
            }
        }
        Transport::Udp { .. } => Transport::Udp {
            checksum: !choices.seldom(4),
        },
        Transport::Sctp { chunk, .. } => Transport::Sctp {
            chunk: *chunk,
            tag: u32::from(choices.short()) << 8,
        },
        Transport::Icmp { .. } | Transport::Other(_) => like.clone(),
    }
}

fn payload(choices: &mut Choices<'_>) -> Vec<u8> {
    let length = choices.one_of(&[0, 1, 2, 3, 7, 64, 257, 1001]);
    choices.filling(length)
}

/// Short frames are filled up to the length that Ethernet asks for, and some
/// drivers leave more behind.
fn trailer(choices: &mut Choices<'_>) -> Vec<u8> {
    let length = choices.one_of(&[0, 0, 0, 1, 6, 18]);
    choices.filling(length)
}
