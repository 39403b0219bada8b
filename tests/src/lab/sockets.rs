//! Connections from a port of one's own choice, which std's sockets cannot make.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{net::TcpSocket, runtime, time};

/// The wildcard address of an address's family.
pub fn any(family_of: IpAddr) -> IpAddr {
    match family_of {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// A TCP connection from `port`, also one that another connection has, or had (`SO_REUSEADDR`).
pub fn connect_from(port: u16, to: SocketAddr, timeout: Duration) -> Result<TcpStream> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let connected = runtime.block_on(async {
        let socket = match to {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(any(to.ip()), port))?;
        let connected = time::timeout(timeout, socket.connect(to)).await;
        connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    });
    let stream = connected.with_context(|| format!("connect from {port} to {to}"))?;
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(timeout))?;
    Ok(stream)
}

/// A UDP socket for the family of `to`, at `port` or, with 0, at any.
pub fn udp_at(port: u16, to: SocketAddr, timeout: Duration) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((any(to.ip()), port)).context("bind")?;
    socket.set_read_timeout(Some(timeout))?;
    Ok(socket)
}
