//! The process whose calls are measured: a program of its own, since the socket path is
//! a matter of processes and their cgroups.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use super::super::percentiles::Percentiles;

/// What is done again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Work {
    /// A TCP connection, and its end
    Tcp,
    /// A TCP connection, a question and its answer
    Ask,
    /// A UDP socket that is connected: nothing is sent
    Udp,
}

impl Work {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Ask => "ask",
            Self::Udp => "udp",
        }
    }
}

/// What to do, where to, and how often.
#[derive(Debug, Args)]
pub(crate) struct CallerArgs {
    #[arg(long)]
    work: Work,
    #[arg(long)]
    to: SocketAddr,
    #[arg(long)]
    connections: u32,
}

/// How long `connect` took, and how many were done in a second, with all that belongs
/// to each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) rate: f64,
}

impl Figures {
    /// Reads what [`run`] prints.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut fields = text.split_whitespace();
        let mut next = || fields.next().context("the caller's figures");
        Ok(Self {
            p50: Duration::from_nanos(next()?.parse()?),
            p99: Duration::from_nanos(next()?.parse()?),
            rate: next()?.parse()?,
        })
    }
}

/// Makes the calls, and prints the figures for the one who started this.
pub(in super::super) fn run(arguments: &CallerArgs) -> Result<()> {
    let mut took = Vec::with_capacity(arguments.connections as usize);
    let began = Instant::now();
    for _ in 0..arguments.connections {
        took.push(work(arguments)?);
    }
    let rate = f64::from(arguments.connections) / began.elapsed().as_secs_f64();
    let found = Percentiles::of(took);
    println!("{} {} {rate}", found.p50.as_nanos(), found.p99.as_nanos());
    Ok(())
}

/// Does the work once; how long `connect` took. For TCP that includes the making of the
/// socket, which std does in the same call.
fn work(arguments: &CallerArgs) -> Result<Duration> {
    let to = arguments.to;
    if arguments.work == Work::Udp {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let began = Instant::now();
        socket.connect(to)?;
        return Ok(began.elapsed());
    }
    let began = Instant::now();
    let mut stream = TcpStream::connect(to)?;
    let took = began.elapsed();
    if arguments.work == Work::Ask {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        reader.get_mut().write_all(b"who\n")?;
        reader.read_line(&mut String::new())?;
    } else {
        // Until the server is done: else its queue of new connections overflows.
        stream.shutdown(Shutdown::Write)?;
        stream.read_to_end(&mut Vec::new())?;
    }
    Ok(took)
}
