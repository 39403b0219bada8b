//! TCP connections to an endpoint that is gone, where they are to be reset: those that
//! packets are translated for, and those of the host's sockets.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use proxy_tests::lab::client::Transport;
use proxy_tests::lab::mirror::{self, Conversation};
use proxy_tests::lab::{Cluster, Family, Options, PodNetwork};

use super::asker::Asker;
use super::configured;
use crate::world::World;

const GRACE: Duration = Duration::from_secs(2);
/// Until a connection is reset: the grace, a packet later by a tick, a slow machine.
const PATIENCE: Duration = Duration::from_secs(15);

/// Asks by one connection, and connects anew after an error.
const CLIENT: &str = r#"
def connected():
    it = open_socket(address, TCP)
    it.connect((address, port))
    return it

it, sockets = connected(), 1
for _ in sys.stdin:
    try:
        it.send(b"who\n")
        print(it.recv(100).decode().split()[0], sockets, flush=True)
    except OSError as error:
        it, sockets = connected(), sockets + 1
        print(name_of(error.errno) if error.errno else "timeout", sockets, flush=True)
"#;

/// What a process of the host is told whose socket was ended: while it waits, and when it
/// sends.
const HOSTS: [&str; 2] = ["ECONNABORTED", "EPIPE"];
/// What it is told by a reset.
const PODS: [&str; 2] = ["ECONNRESET", "EPIPE"];

fn world() -> Result<World> {
    let cluster = Cluster::new(Options {
        network: PodNetwork::Bridge,
        ..Options::default()
    })?;
    let world = configured(cluster, "resetGoneEndpoints: 2s")?;
    world.after_programming(|| mirror::add(&world.manifests))?;
    world.scale(mirror::NAME, &[(2, 1)])?;
    Ok(world)
}

fn stays(conversations: &mut [Conversation]) -> Result<()> {
    for conversation in conversations {
        assert_eq!(conversation.ask()?.pod, "pod-2-1");
    }
    Ok(())
}

#[test]
fn connections_to_an_endpoint_that_is_gone_are_reset_after_the_grace() -> Result<()> {
    let world = world()?;
    let _servers = mirror::start(world.cluster.pods())?;
    let [(_, host), (_, pod)] = world.host_and_pod();
    let endpoint = |family| {
        let address = world.cluster.pod(2, 1).addresses.of(family);
        SocketAddr::new(address, mirror::PORT)
    };
    let (mut packets, mut plain, mut sockets) = (Vec::new(), Vec::new(), Vec::new());
    for family in Family::BOTH {
        let node_port = world.node_port(1, family, mirror::NODE_PORT);
        let outside = &world.cluster.client;
        packets.push(outside.run(|| Conversation::open(node_port, Transport::Tcp))??);
        plain.push(pod.run(|| Conversation::open(endpoint(family), Transport::Tcp))??);
        for (from, errors) in [(host, HOSTS), (pod, PODS)] {
            let asker = Asker::start(from, CLIENT, mirror::cluster_ip(family), &[])?;
            sockets.push((asker, errors));
        }
    }
    let mut direct = Asker::start(host, CLIENT, endpoint(Family::V4), &[])?;
    stays(&mut packets)?;
    stays(&mut plain)?;
    assert_eq!(direct.ask()?, ("pod-2-1".into(), 1));
    for (socket, _) in &mut sockets {
        assert_eq!(socket.ask()?, ("pod-2-1".into(), 1));
    }

    let began = Instant::now();
    world.scale(mirror::NAME, &[(1, 1)])?;
    for conversation in &mut packets {
        let error = until(|| conversation.ask().err())?;
        assert!(began.elapsed() >= GRACE, "{:?}", began.elapsed());
        let error = error.downcast::<std::io::Error>()?;
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    for (socket, errors) in &mut sockets {
        let is_new = |(_, number): &(String, usize)| *number == 2;
        let (error, _) = until(|| socket.ask().ok().filter(is_new))?;
        assert!(errors.contains(&error.as_str()), "{error}");
        assert_eq!(socket.ask()?, ("pod-1-1".into(), 2));
    }
    // Who means the endpoint itself goes on.
    stays(&mut plain)?;
    assert_eq!(direct.ask()?, ("pod-2-1".into(), 1));
    Ok(())
}

/// Tries until there is something.
fn until<T>(mut attempt: impl FnMut() -> Option<T>) -> Result<T> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(found) = attempt() {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    anyhow::bail!("nothing in {PATIENCE:?}")
}
