//! Connections at a steady rate, however long each takes: connect, ask who answers, close.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// A connection waits in a thread of its own.
const STACK: usize = 64 * 1024;

/// What became of a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Attempt {
    /// When it began, since the first one.
    pub(in super::super) began: Duration,
    /// How long `connect` took; none where it failed, or had no answer in time.
    pub(in super::super) took: Option<Duration>,
    /// Who answered.
    pub(in super::super) by: Option<String>,
}

/// Begins so many connections a second, each of which is given `patience`.
pub(super) fn run(
    to: SocketAddr,
    rate: u32,
    span: Duration,
    patience: Duration,
) -> Result<Vec<Attempt>> {
    let first = Instant::now();
    let mut waiting = Vec::new();
    for number in 0.. {
        let began = Duration::from_secs(1) * number / rate;
        if began >= span {
            break;
        }
        thread::sleep((first + began).saturating_duration_since(Instant::now()));
        let attempt = move || attempt(to, first, patience);
        let thread = thread::Builder::new().stack_size(STACK).spawn(attempt);
        waiting.push(thread.context("a thread for each connection")?);
    }
    let ended = waiting.into_iter().map(|it| {
        it.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    Ok(ended.collect())
}

fn attempt(to: SocketAddr, first: Instant, patience: Duration) -> Attempt {
    let began = Instant::now();
    let stream = TcpStream::connect_timeout(&to, patience).ok();
    let took = stream.as_ref().map(|_| began.elapsed());
    let by = stream.and_then(|stream| ask(stream, patience));
    Attempt {
        began: began - first,
        took: took.filter(|_| by.is_some()),
        by,
    }
}

/// Who answers.
fn ask(mut stream: TcpStream, patience: Duration) -> Option<String> {
    stream.set_read_timeout(Some(patience)).ok()?;
    stream.write_all(b"who\n").ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    line.split(' ').next().map(ToOwned::to_owned)
}
