//! Packets of any content, and what is answered: the part of an attacker, and of whoever
//! sends a segment that no connection has.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{FromRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{addresses::Family, namespace::Namespace};
use crate::packets::{Packet, Transport};

/// Sends whole IP packets from a namespace, with any source, and hears its TCP segments.
#[derive(Debug)]
pub struct Spoofer {
    senders: [UdpSocket; 2],
    hearers: [UdpSocket; 2],
}

/// A TCP segment that came to the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Who has sent it.
    pub source: SocketAddr,
    /// The port that it came to.
    pub port: u16,
    /// Bits of [`crate::packets::tcp_flags`].
    pub flags: u8,
}

impl Spoofer {
    /// Opens the sockets in a namespace.
    pub fn new(from: &Namespace) -> Result<Self> {
        from.run(|| {
            Ok(Self {
                senders: [
                    raw_socket(libc::AF_INET, libc::IPPROTO_RAW)?,
                    raw_socket(libc::AF_INET6, libc::IPPROTO_RAW)?,
                ],
                hearers: [
                    raw_socket(libc::AF_INET, libc::IPPROTO_TCP)?,
                    raw_socket(libc::AF_INET6, libc::IPPROTO_TCP)?,
                ],
            })
        })?
    }

    /// Sends a packet; its Ethernet header is left to the kernel.
    pub fn send(&self, packet: &Packet) -> Result<()> {
        let packet = Packet {
            link: None,
            ..packet.clone()
        };
        let socket = &self.senders[usize::from(packet.source.is_ipv6())];
        // Of a port a raw socket knows nothing.
        let to = SocketAddr::new(packet.destination.ip(), 0);
        let sent = socket.send_to(&packet.build(), to);
        sent.with_context(|| format!("a raw packet to {to}"))?;
        Ok(())
    }

    /// The next segment that is wanted, if it comes in time.
    pub fn hear(
        &self,
        family: Family,
        patience: Duration,
        wanted: impl Fn(&Heard) -> bool,
    ) -> Result<Option<Heard>> {
        let socket = &self.hearers[usize::from(family == Family::V6)];
        let deadline = Instant::now() + patience;
        let mut buffer = [0; 2048];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            socket.set_read_timeout(Some(left))?;
            match socket.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    let heard = read(&buffer[..length], from.ip());
                    if let Some(heard) = heard.filter(&wanted) {
                        return Ok(Some(heard));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error).context("a raw socket"),
            }
        }
    }
}

/// A TCP segment without content.
pub fn segment(
    source: SocketAddr,
    destination: SocketAddr,
    flags: u8,
    numbers: [u32; 2],
) -> Packet {
    let transport = Transport::Tcp {
        flags,
        numbers,
        options: Vec::new(),
    };
    Packet {
        payload: Vec::new(),
        ..Packet::new(source, destination, transport)
    }
}

/// What a raw socket gets: over IPv4 with the IP header.
fn read(packet: &[u8], from: IpAddr) -> Option<Heard> {
    let header = match from {
        IpAddr::V4(_) => usize::from(packet.first()? & 15) * 4,
        IpAddr::V6(_) => 0,
    };
    let tcp = packet.get(header..header + 20)?;
    Some(Heard {
        source: SocketAddr::new(from, u16::from_be_bytes([tcp[0], tcp[1]])),
        port: u16::from_be_bytes([tcp[2], tcp[3]]),
        flags: tcp[13],
    })
}

/// A raw socket; std's UDP sockets send and receive by any socket of datagrams.
#[expect(unsafe_code, reason = "std makes no raw sockets")]
fn raw_socket(family: libc::c_int, protocol: libc::c_int) -> Result<UdpSocket> {
    // SAFETY: takes three integers.
    let number = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    if number < 0 {
        return Err(io::Error::last_os_error()).context("a raw socket (root is needed)");
    }
    // SAFETY: the socket was made here, and nobody else has its number.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    Ok(socket.into())
}
