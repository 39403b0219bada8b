//! Connections of HTTP clients.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinSet};
use tower::ServiceExt as _;
use tracing::debug;

use super::ACCEPT_PAUSE;

/// Connections that one listener serves at a time, without those of this machine itself: load
/// balancers and probes ask one at a time each, and who opens more must not use up the agent's
/// memory and descriptors.
const MAX_CONNECTIONS: usize = 1024;

/// Connections of one source.
const MAX_OF_SOURCE: usize = 128;

/// How long the head of a request may be, in bytes. A probe's has some hundred.
const MAX_HEAD: usize = 16 * 1024;

/// How long a client may take for the head of a request, or be silent before it.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that wait in the kernel to be accepted; Go has `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// Listens on `address`, also beside another agent that does: while one takes over from the
/// other, connections go to either. The unspecified address of either IP version means all addresses of
/// both, as for Go (`favoriteAddrFamily` in `net/ipsock_posix.go`).
///
/// # Errors
///
/// The address is not this machine's, or the port is taken.
pub(super) fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    if !address.ip().is_unspecified() {
        return listen_in_family(address);
    }
    let port = address.port();
    match listen_on_all(port) {
        Err(error) if error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32) => {
            listen_in_family((Ipv4Addr::UNSPECIFIED, port).into())
        }
        listening => listening,
    }
}

fn listen_on_all(port: u16) -> std::io::Result<TcpListener> {
    listen_v6((Ipv6Addr::UNSPECIFIED, port).into(), false)
}

/// Listens on `address`; its unspecified address means all addresses of its IP version only.
///
/// # Errors
///
/// The same.
pub(super) fn listen_in_family(address: SocketAddr) -> std::io::Result<TcpListener> {
    if address.is_ipv6() {
        return listen_v6(address, true);
    }
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn listen_v6(address: SocketAddr, is_v6_only: bool) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    setsockopt(&socket, sockopt::Ipv6V6Only, &is_v6_only)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves `router` until it is dropped; then listener and connections are closed. Once
/// `is_succeeded`, new connections are left to the next agent, if that listens here, too.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    mut is_succeeded: watch::Receiver<bool>,
) {
    let mut tasks = JoinSet::new();
    let mut connections = Connections::default();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let source = peer.ip().to_canonical();
                    connections.make_room(source);
                    let activity = connections.activity();
                    let served = connection(stream, router.clone(), activity.clone());
                    connections.add(source, activity, tasks.spawn(served));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Ok(()) = is_succeeded.changed() => {
                if let Err(error) = give_way(&listener) {
                    debug!("new connections still come here: {error}");
                }
            }
            Some(ended) = tasks.join_next_with_id() => {
                connections.remove(ended.map_or_else(|error| error.id(), |(id, ())| id));
            }
        }
    }
}

/// Has the kernel give new connections to the socket that listened after this one at the same
/// address, for closing this one resets those that nobody has accepted yet. Where there is none,
/// they go on coming here (`SO_ATTACH_REUSEPORT_CBPF` in socket(7)).
fn give_way(listener: &TcpListener) -> nix::Result<()> {
    // BPF_RET | BPF_K (linux/filter.h)
    const RETURN: u16 = 0x06;
    const SECOND: u32 = 1;
    let mut program = [libc::sock_filter {
        code: RETURN,
        jt: 0,
        jf: 0,
        k: SECOND,
    }];
    let program = libc::sock_fprog {
        len: 1,
        filter: program.as_mut_ptr(),
    };
    setsockopt(listener, sockopt::AttachReusePortCbpf, &program)
}

/// How it ends is the client's concern.
async fn connection(stream: TcpStream, router: Router, activity: Activity) {
    let router = router.map_request(move |request: Request<Incoming>| {
        activity.note();
        request
    });
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
}

/// The connections that are open.
#[derive(Default)]
struct Connections {
    open: HashMap<Id, Connection>,
    /// How much has happened at all of them.
    clock: Arc<AtomicU64>,
}

struct Connection {
    source: IpAddr,
    activity: Activity,
    task: AbortHandle,
}

/// When a connection was used last, by the clock of all.
#[derive(Clone)]
struct Activity {
    clock: Arc<AtomicU64>,
    last: Arc<AtomicU64>,
}

impl Activity {
    fn note(&self) {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        self.last.store(now, Ordering::Relaxed);
    }
}

impl Connections {
    /// That of a new connection.
    fn activity(&self) -> Activity {
        let activity = Activity {
            clock: Arc::clone(&self.clock),
            last: Arc::default(),
        };
        activity.note();
        activity
    }

    fn add(&mut self, source: IpAddr, activity: Activity, task: AbortHandle) {
        let id = task.id();
        self.open.insert(
            id,
            Connection {
                source,
                activity,
                task,
            },
        );
    }

    fn remove(&mut self, id: Id) {
        self.open.remove(&id);
    }

    /// Sees to it that one more of this source can be served: where there are too many, the one
    /// that has been idle for longest ends. Others take nothing away from this machine itself,
    /// such as the kubelet's probes.
    fn make_room(&mut self, source: IpAddr) {
        let is_of_source = |it: &Connection| it.source == source;
        let is_of_others = |it: &Connection| !it.source.is_loopback();
        if self.count(is_of_source) >= MAX_OF_SOURCE {
            self.end_longest_idle(is_of_source);
        } else if !source.is_loopback() && self.count(is_of_others) >= MAX_CONNECTIONS {
            self.end_longest_idle(is_of_others);
        }
    }

    fn count(&self, which: impl Fn(&Connection) -> bool) -> usize {
        self.open.values().filter(|it| which(it)).count()
    }

    fn end_longest_idle(&mut self, which: impl Fn(&Connection) -> bool) {
        let last = |it: &Connection| it.activity.last.load(Ordering::Relaxed);
        let candidates = self.open.iter().filter(|(_, it)| which(it));
        let longest = candidates.min_by_key(|(_, it)| last(it));
        if let Some(id) = longest.map(|(id, _)| *id)
            && let Some(ended) = self.open.remove(&id)
        {
            ended.task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::task::JoinHandle;

    use super::*;

    /// A server on a port of its own.
    fn start() -> (SocketAddr, JoinHandle<()>) {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "here"));
        (
            address,
            tokio::spawn(serve(listener, router, watch::channel(false).1)),
        )
    }

    // Time leaps ahead where nothing else happens.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_is_hung_up_on() {
        let (address, server) = start();
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HT").await.unwrap();
        let began = tokio::time::Instant::now();
        let mut said = Vec::new();
        client.read_to_end(&mut said).await.unwrap();
        assert!(began.elapsed() + Duration::from_secs(1) >= HEADER_TIMEOUT);
        assert!(!server.is_finished());
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    /// Whether a request is answered.
    async fn is_answered(client: &mut TcpStream) -> bool {
        let mut said = [0; 512];
        let sent = client.write_all(REQUEST).await;
        match client.read(&mut said).await {
            Ok(length) => sent.is_ok() && said[..length].starts_with(b"HTTP/1.1 200"),
            Err(_) => false,
        }
    }

    #[tokio::test]
    async fn of_one_source_the_longest_idle_connection_makes_room() {
        let (address, _server) = start();
        let mut clients = Vec::new();
        for _ in 0..MAX_OF_SOURCE {
            let mut client = TcpStream::connect(address).await.unwrap();
            assert!(is_answered(&mut client).await);
            clients.push(client);
        }
        assert!(is_answered(&mut clients[0]).await);
        let mut more = TcpStream::connect(address).await.unwrap();
        assert!(is_answered(&mut more).await);
        assert!(is_answered(&mut clients[0]).await, "it was used since");
        assert!(!is_answered(&mut clients[1]).await);
    }

    #[tokio::test]
    async fn no_source_takes_the_place_of_all_others_and_none_that_of_this_machine() {
        let mut tasks = JoinSet::new();
        let mut connections = Connections::default();
        let mut open = |connections: &mut Connections, source: IpAddr| {
            connections.make_room(source);
            let task = tasks.spawn(std::future::pending::<()>());
            connections.add(source, connections.activity(), task);
        };
        let own = IpAddr::from(Ipv4Addr::LOCALHOST);
        let probe = IpAddr::from([192, 0, 2, 1]);
        open(&mut connections, own);
        open(&mut connections, probe);
        let attacker = IpAddr::from([192, 0, 2, 66]);
        for _ in 0..4 * MAX_CONNECTIONS {
            open(&mut connections, attacker);
        }
        assert_eq!(connections.count(|it| it.source == attacker), MAX_OF_SOURCE);
        assert_eq!(connections.count(|it| it.source == probe), 1);
        for number in 0..2 * u16::try_from(MAX_CONNECTIONS).unwrap() {
            let [high, low] = number.to_be_bytes();
            open(&mut connections, IpAddr::from([198, 51, high, low]));
        }
        let others = connections.count(|it| !it.source.is_loopback());
        assert_eq!(others, MAX_CONNECTIONS);
        assert_eq!(connections.count(|it| it.source == own), 1);
    }

    #[tokio::test]
    async fn a_head_that_never_ends_is_refused() {
        let (address, _server) = start();
        let mut client = TcpStream::connect(address).await.unwrap();
        let head = [
            b"GET / HTTP/1.1\r\nX: ".as_slice(),
            &vec![b'x'; 2 * MAX_HEAD],
        ]
        .concat();
        let _ = client.write_all(&head).await;
        let mut said = Vec::new();
        let _ = client.read_to_end(&mut said).await;
        let said = String::from_utf8_lossy(&said);
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 431"),
            "{said}"
        );
    }

    #[tokio::test]
    async fn the_unspecified_address_of_either_version_means_both() {
        for address in [
            IpAddr::from(Ipv4Addr::UNSPECIFIED),
            Ipv6Addr::UNSPECIFIED.into(),
        ] {
            let listener = listen(SocketAddr::new(address, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let router = Router::new().route("/", get(async || "here"));
            let _server = tokio::spawn(serve(listener, router, watch::channel(false).1));
            for loopback in [
                IpAddr::from(Ipv4Addr::LOCALHOST),
                Ipv6Addr::LOCALHOST.into(),
            ] {
                let mut client = TcpStream::connect((loopback, port)).await.unwrap();
                assert!(is_answered(&mut client).await, "{loopback} of {address}");
            }
        }
    }

    #[tokio::test]
    async fn each_ip_version_can_have_a_listener_of_its_own_on_one_port() {
        let v4 = listen_in_family((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap();
        let port = v4.local_addr().unwrap().port();
        listen_in_family((Ipv6Addr::UNSPECIFIED, port).into()).unwrap();
    }

    #[tokio::test]
    async fn new_connections_go_to_the_agent_that_listened_last() {
        let first = listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = first.local_addr().unwrap();
        let second = listen(address).unwrap();
        let router = |answer: &'static str| Router::new().route("/", get(async move || answer));
        let (leave, is_succeeded) = watch::channel(false);
        let _first = tokio::spawn(serve(first, router("first"), is_succeeded));
        let _second = tokio::spawn(serve(second, router("second"), watch::channel(false).1));
        let mut open = Vec::new();
        for is_first_wanted in [true, false] {
            let mut by_first = 0;
            for _ in 0..50 {
                let mut client = TcpStream::connect(address).await.unwrap();
                client.write_all(REQUEST).await.unwrap();
                let mut said = [0; 512];
                let length = client.read(&mut said).await.unwrap();
                by_first += usize::from(said[..length].ends_with(b"first"));
                open.push(client);
            }
            assert_eq!(by_first > 0, is_first_wanted, "{by_first}");
            leave.send_replace(true);
            tokio::task::yield_now().await;
        }
        assert!(is_answered(&mut open[0]).await, "a connection of before");
    }

    #[tokio::test]
    async fn with_its_end_connections_are_closed_and_the_port_is_free() {
        let (address, server) = start();
        let mut client = TcpStream::connect(address).await.unwrap();
        assert!(is_answered(&mut client).await);
        server.abort();
        let _ = server.await;
        listen(address).unwrap();
        let mut said = [0; 512];
        // The client sees the end of its connection.
        assert!(matches!(client.read(&mut said).await, Ok(0) | Err(_)));
    }
}
