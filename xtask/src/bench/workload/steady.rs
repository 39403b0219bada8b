//! Connections at a steady rate, however long each takes: connect, ask who answers, close.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::{
    socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket,
        sockopt::SendTimeout,
    },
    time::TimeVal,
};
use serde::{Deserialize, Serialize};

/// A connection waits in a thread of its own.
const STACK: usize = 64 * 1024;

/// What to connect to, and how often.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in super::super) struct Steady {
    pub(in super::super) to: SocketAddr,
    /// The addresses from which connections come, in turn; where there is none, the kernel
    /// chooses.
    pub(in super::super) from: Vec<IpAddr>,
    /// Connections that begin in a second.
    pub(in super::super) rate: u32,
    /// When the last one begins, since the first one.
    pub(in super::super) span: Duration,
    /// How long each may take.
    pub(in super::super) patience: Duration,
}

/// What became of a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Attempt {
    /// When it began, since the first one.
    pub(in super::super) began: Duration,
    /// How long `connect` took; none where it failed, or had no answer in time.
    pub(in super::super) took: Option<Duration>,
    /// Who answered.
    pub(in super::super) by: Option<String>,
    /// Why nobody did, and how long that took.
    pub(in super::super) failure: Option<String>,
}

/// Makes the connections, and waits for all.
pub(super) fn run(steady: &Steady) -> Result<Vec<Attempt>> {
    let &Steady { to, patience, .. } = steady;
    let first = Instant::now();
    let mut sources = steady.from.iter().copied().cycle();
    // Threads that nobody waits for give their memory back when they end.
    let (ended, attempts) = mpsc::channel();
    for number in 0.. {
        let began = Duration::from_secs(1) * number / steady.rate;
        if began >= steady.span {
            break;
        }
        thread::sleep((first + began).saturating_duration_since(Instant::now()));
        let from = sources.next();
        let ended = ended.clone();
        let attempt = move || ended.send(attempt(from, to, first, patience));
        let thread = thread::Builder::new().stack_size(STACK).spawn(attempt);
        thread.context("a thread for each connection")?;
    }
    drop(ended);
    Ok(attempts.iter().collect())
}

fn attempt(from: Option<IpAddr>, to: SocketAddr, first: Instant, patience: Duration) -> Attempt {
    let began = Instant::now();
    let answered = || -> Result<_> {
        let stream = match from {
            Some(from) => connect_from(from, to, patience),
            None => TcpStream::connect_timeout(&to, patience).map_err(Into::into),
        };
        let stream = stream.context("connect")?;
        let took = began.elapsed();
        Ok((took, ask(stream, patience)?))
    };
    let answered = answered();
    let lasted = began.elapsed();
    let began = began - first;
    match answered {
        Ok((took, by)) => Attempt {
            began,
            took: Some(took),
            by: Some(by),
            failure: None,
        },
        Err(error) => Attempt {
            began,
            took: None,
            by: None,
            failure: Some(format!("{error:#}, after {:.3} s", lasted.as_secs_f64())),
        },
    }
}

/// Connects from an address of this machine.
fn connect_from(from: IpAddr, to: SocketAddr, patience: Duration) -> Result<TcpStream> {
    let family = match from {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let from = SockaddrStorage::from(SocketAddr::new(from, 0));
    bind(socket.as_raw_fd(), &from)?;
    // It also ends a `connect`.
    let seconds = i64::try_from(patience.as_secs())?;
    setsockopt(&socket, SendTimeout, &TimeVal::new(seconds, 0))?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(socket.into())
}

/// Who answers.
fn ask(mut stream: TcpStream, patience: Duration) -> Result<String> {
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"who\n").context("ask")?;
    let mut line = String::new();
    let read = BufReader::new(stream).read_line(&mut line);
    read.context("read the answer")?;
    ensure!(!line.is_empty(), "closed without an answer");
    Ok(line.trim_end().to_owned())
}
