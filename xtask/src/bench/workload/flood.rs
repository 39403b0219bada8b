//! Small datagrams, as fast as they can be sent.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};

/// Bytes of a datagram: with them a frame has the 60 bytes that Ethernet's shortest has,
/// without its checksum.
const PAYLOAD: u16 = 18;
/// Datagrams of one call, which the kernel cuts apart at the sender's device (`UDP_SEGMENT`,
/// udp(7)): the sender costs little, and each datagram is a packet from there on.
const AT_ONCE: u16 = 64;

/// Sends for some time; how many datagrams.
pub(super) fn run(to: SocketAddrV4, milliseconds: u64) -> Result<u64> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    setsockopt(&socket, UdpGsoSegment, &i32::from(PAYLOAD)).context("UDP_SEGMENT")?;
    socket.connect(to).context("connect")?;
    let buffer = [0; (PAYLOAD * AT_ONCE) as usize];
    let deadline = Instant::now() + Duration::from_millis(milliseconds);
    let mut sent = 0;
    while Instant::now() < deadline {
        match socket.send(&buffer) {
            Ok(_) => sent += u64::from(AT_ONCE),
            // The device's queue is full.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).with_context(|| format!("send to {to}")),
        }
    }
    Ok(sent)
}
