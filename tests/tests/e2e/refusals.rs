//! A Service that nobody serves is refused at once, over UDP as over TCP.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use proxy_tests::lab::{Family, Namespace, PodNetwork, mirror};

use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(5);
/// Long before anything is tried again.
const AT_ONCE: Duration = Duration::from_millis(500);

fn connect(to: SocketAddr) -> Option<ErrorKind> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE);
    stream.err().map(|error| error.kind())
}

fn ask(to: SocketAddr) -> std::io::Result<usize> {
    let any: IpAddr = if to.is_ipv4() {
        [0; 4].into()
    } else {
        [0; 16].into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(to)?;
    socket.send(b"who\n")?;
    socket.recv(&mut [0; 64])
}

fn is_refused(from: &Namespace, to: SocketAddr) -> Result<()> {
    let start = Instant::now();
    let (tcp, udp) = from.run(|| (connect(to), ask(to).err().map(|it| it.kind())))?;
    let took = start.elapsed();
    let refused = Some(ErrorKind::ConnectionRefused);
    ensure!(tcp == refused && udp == refused, "{to}: {tcp:?} {udp:?}");
    ensure!(took < AT_ONCE, "{to}: after {took:?}");
    Ok(())
}

#[test]
fn without_endpoints_every_frontend_refuses_at_once() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    world.after_programming(|| mirror::add(&world.manifests))?;
    for family in Family::BOTH {
        let outside = world.node_port(1, family, mirror::NODE_PORT);
        is_refused(&world.cluster.client, outside)?;
        let pod = &world.cluster.pod(1, 1).namespace;
        is_refused(pod, outside)?;
        is_refused(pod, mirror::cluster_ip(family))?;
    }
    Ok(())
}
