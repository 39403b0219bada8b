//! Connections, one after the other: connect, ask, read the answer, close.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddrV4, TcpStream},
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::{
    socket::{
        AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket,
        sockopt::{ReceiveTimeout, SendTimeout},
    },
    time::TimeVal,
};
use serde::{Deserialize, Serialize};

use super::super::percentiles::Percentiles;

/// The question, which is also the answer.
pub(super) const QUESTION: &[u8; 4] = b"who\n";
/// A run ends after this time even if connections are left, so that one through very many
/// rules is bounded.
const LONGEST_RUN: Duration = Duration::from_secs(1);
/// How long one connection may take: more than SYNs that are sent again after a second.
const PATIENCE: i64 = 5;

/// What a run of connections took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Connected {
    /// Connections that were made and answered.
    pub(in super::super) connections: u32,
    /// Connections a second.
    pub(in super::super) rate: f64,
    /// Connect, request and close: the median and the 99th percentile.
    pub(in super::super) whole: [Duration; 2],
    /// `connect` alone, which is SYN to SYN-ACK: the same.
    pub(in super::super) handshake: [Duration; 2],
}

/// Makes connections. Fails with the first one that fails.
pub(super) fn run(to: SocketAddrV4, connections: u32) -> Result<Connected> {
    let mut whole = Vec::with_capacity(connections as usize);
    let mut handshakes = Vec::with_capacity(connections as usize);
    let began = Instant::now();
    while whole.len() < connections as usize && began.elapsed() < LONGEST_RUN {
        let began = Instant::now();
        handshakes.push(once(to).with_context(|| format!("connection to {to}"))?);
        whole.push(began.elapsed());
    }
    let took = began.elapsed();
    let made = u32::try_from(whole.len())?;
    Ok(Connected {
        connections: made,
        rate: f64::from(made) / took.as_secs_f64(),
        whole: ends(whole),
        handshake: ends(handshakes),
    })
}

fn ends(durations: Vec<Duration>) -> [Duration; 2] {
    let found = Percentiles::of(durations);
    [found.p50, found.p99]
}

/// One connection; how long `connect` took.
fn once(to: SocketAddrV4) -> Result<Duration> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let patience = TimeVal::new(PATIENCE, 0);
    setsockopt(&socket, SendTimeout, &patience)?;
    setsockopt(&socket, ReceiveTimeout, &patience)?;
    let began = Instant::now();
    connect(socket.as_raw_fd(), &SockaddrIn::from(to)).context("connect")?;
    let handshake = began.elapsed();
    let mut stream = TcpStream::from(socket);
    stream.write_all(QUESTION).context("write")?;
    let mut answer = [0; QUESTION.len()];
    stream.read_exact(&mut answer).context("read")?;
    ensure!(&answer == QUESTION, "another answer: {answer:?}");
    Ok(handshake)
}
