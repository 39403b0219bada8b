//! Clients outside of the cluster that notice when nobody answers.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use proxy_tests::lab::Namespace;

/// The time between two datagrams.
const PACE: Duration = Duration::from_millis(1);
/// The time between two questions for health.
const HEALTH_PACE: Duration = Duration::from_millis(5);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What they have seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Datagrams that were sent.
    pub(super) sent: u64,
    /// Those that were not answered.
    pub(super) lost: u64,
    /// The longest time between two answers.
    pub(super) silence: Duration,
    /// Questions for health that nobody answered.
    pub(super) refused: u64,
    /// The longest time between two answers of those.
    pub(super) health_silence: Duration,
}

/// Both clients, while they run.
pub(super) struct Observer {
    stop: Arc<AtomicBool>,
    sent: JoinHandle<Result<u64>>,
    answers: JoinHandle<Result<Answers>>,
    health: JoinHandle<Result<Answers>>,
}

/// How many answers there were, and how long there was none.
#[derive(Default)]
struct Answers {
    count: u64,
    failed: u64,
    silence: Duration,
    last: Option<Instant>,
}

impl Answers {
    fn add(&mut self) {
        let now = Instant::now();
        let since = self.last.replace(now);
        let silence = since.map_or(Duration::ZERO, |since| now - since);
        self.silence = self.silence.max(silence);
        self.count += 1;
    }
}

impl Observer {
    /// Starts them: one sends datagrams to an echo, the other asks for health.
    pub(super) fn start(at: &Namespace, echo: SocketAddr, health: SocketAddr) -> Result<Self> {
        let any: IpAddr = Ipv4Addr::UNSPECIFIED.into();
        let socket = at.run(|| UdpSocket::bind((any, 0)))??;
        socket.connect(echo)?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicU64::new(0));
        let sender = socket.try_clone()?;
        let (stop_sending, counted) = (Arc::clone(&stop), Arc::clone(&count));
        let sent = thread::spawn(move || send(&sender, &stop_sending, &counted));
        let stop_receiving = Arc::clone(&stop);
        let answers = thread::spawn(move || receive(&socket, &stop_receiving, &count));
        let stop_asking = Arc::clone(&stop);
        let health = at.spawn(move || ask_for_health(health, &stop_asking))?;
        Ok(Self {
            stop,
            sent,
            answers,
            health,
        })
    }

    /// Ends them.
    pub(super) fn end(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sent.join().ok().context("a panic")??;
        let answers = self.answers.join().ok().context("a panic")??;
        let health = self.health.join().ok().context("a panic")??;
        Ok(Seen {
            sent,
            lost: sent.saturating_sub(answers.count),
            silence: answers.silence,
            refused: health.failed,
            health_silence: health.silence,
        })
    }
}

fn send(socket: &UdpSocket, stop: &AtomicBool, count: &AtomicU64) -> Result<u64> {
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        socket.send(b"?")?;
        count.fetch_add(1, Ordering::Relaxed);
        due += PACE;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(count.load(Ordering::Relaxed))
}

/// Until all that was sent is answered, or nothing comes any more.
fn receive(socket: &UdpSocket, stop: &AtomicBool, sent: &AtomicU64) -> Result<Answers> {
    let mut answers = Answers::default();
    let mut buffer = [0; 8];
    loop {
        let is_over = stop.load(Ordering::Relaxed);
        if is_over && answers.count >= sent.load(Ordering::Relaxed) {
            return Ok(answers);
        }
        match socket.recv(&mut buffer) {
            Ok(_) => answers.add(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if is_over {
                    return Ok(answers);
                }
            }
            Err(error) => return Err(error).context("receive"),
        }
    }
}

fn ask_for_health(at: SocketAddr, stop: &AtomicBool) -> Answers {
    let mut answers = Answers::default();
    while !stop.load(Ordering::Relaxed) {
        if is_healthy(at).is_ok_and(|healthy| healthy) {
            answers.add();
        } else {
            answers.failed += 1;
        }
        thread::sleep(HEALTH_PACE);
    }
    answers
}

fn is_healthy(at: SocketAddr) -> Result<bool> {
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"))
}
