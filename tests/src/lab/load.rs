//! A steady load of short HTTP connections, to see whether a change disturbs any.

use std::{
    env,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{client::Tally, namespace::Namespace};

/// How long a connection, and each read from it, may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after each request: the pods' servers are small.
const PAUSE: Duration = Duration::from_millis(2);

/// How many times the usual number of flows tests of load make: a number.
const FACTOR: &str = "LAB_LOAD";

/// A number of flows, or as many times that as the environment asks for.
pub fn scaled(flows: usize) -> usize {
    let told = env::var(FACTOR).ok().and_then(|it| it.parse().ok());
    flows * told.unwrap_or(1)
}

/// Threads that open a connection, ask for a page and close, over and over.
///
/// The load runs in phases, so that one can tell what happened before, during
/// and after a change: a request counts for the phase in which it began.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<()>>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// One tally a phase; the last one is the phase that runs.
    phases: Vec<Tally>,
    stopped: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with the lock held")
    }
}

impl Load {
    /// Starts `threads` clients in a namespace, in phase 0.
    pub fn start(from: &Namespace, address: SocketAddr, threads: usize) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                phases: vec![Tally::default()],
                stopped: false,
            }),
            changed: Condvar::new(),
        });
        let threads = (0..threads)
            .map(|_| {
                let shared = Arc::clone(&shared);
                from.spawn(move || ask_until_stopped(&shared, address))
            })
            .collect::<Result<_>>()?;
        Ok(Self { shared, threads })
    }

    /// Begins the next phase and returns its number.
    pub fn next_phase(&self) -> usize {
        let mut state = self.shared.lock();
        state.phases.push(Tally::default());
        state.phases.len() - 1
    }

    /// Waits until the running phase has seen this many requests end.
    pub fn wait_for_requests(&self, requests: usize, timeout: Duration) -> Result<()> {
        let too_few = |state: &mut State| {
            let phase = state.phases.last();
            phase.is_none_or(|phase| phase.requests() < requests)
        };
        let state = self.shared.lock();
        let waited = self
            .shared
            .changed
            .wait_timeout_while(state, timeout, too_few);
        let (state, waited) = waited.expect("nobody panics with the lock held");
        if waited.timed_out() {
            let phase = state.phases.last().cloned().unwrap_or_default();
            let failed = phase.failures.last().map_or("none", String::as_str);
            bail!(
                "only {} of {requests} requests ended in {timeout:?}; the last failure: {failed}",
                phase.requests()
            );
        }
        Ok(())
    }

    /// Ends the load, lets each client finish, and returns what each phase saw.
    pub fn stop(mut self) -> Result<Vec<Tally>> {
        self.shared.lock().stopped = true;
        for thread in self.threads.drain(..) {
            let ended = thread.join().ok().context("a client panicked")?;
            ended.context("a client could not start")?;
        }
        Ok(std::mem::take(&mut self.shared.lock().phases))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
    }
}

fn ask_until_stopped(shared: &Shared, address: SocketAddr) {
    let started = Instant::now();
    loop {
        let phase = {
            let state = shared.lock();
            if state.stopped {
                return;
            }
            state.phases.len() - 1
        };
        let asked = Instant::now();
        let outcome = ask(address).with_context(|| {
            let since = asked.duration_since(started).as_secs_f64();
            format!("phase {phase}, {since:.3} s in")
        });
        let took = asked.elapsed();
        shared.lock().phases[phase].add(outcome, took);
        shared.changed.notify_all();
        thread::sleep(PAUSE);
    }
}

/// One connection: a GET, and the page that comes back, without its last newline.
pub fn ask(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).context("connect")?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream
        .write_all(b"GET / HTTP/1.0\r\n\r\n")
        .context("write")?;
    let mut response = String::new();
    stream.read_to_string(&mut response).context("read")?;
    let (head, page) = response
        .split_once("\r\n\r\n")
        .with_context(|| format!("cut off after {} bytes", response.len()))?;
    ensure!(head.contains(" 200 "), "not 200: {head}");
    Ok(page.trim_end().to_owned())
}
