//! When a connection is over, and its source port another's.

use std::io::Read as _;
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::spoof::segment;
use proxy_tests::lab::{
    Cluster, Echo, Family, Listeners, Namespace, Options, Pair, PodNetwork, Spoofer, mirror,
    sockets,
};
use proxy_tests::packets::tcp_flags::RST;

use super::many::{add_mirror, listeners};
use crate::world::World;

/// Enough for one SYN, and too little for the next.
const PATIENCE: Duration = Duration::from_millis(800);
/// A timeout of a test's configuration, in which some of the data path's seconds pass.
const TIMEOUT: &str = "3s";
/// Not yet that timeout.
const BEFORE: Duration = Duration::from_secs(1);
/// That timeout is over.
const AFTER: Duration = Duration::from_millis(4500);
/// What translates all flows to an endpoint of another node needs it.
const ONE_PORT: &str = "--nat-ports=20000-20000";

/// Opens a connection from one port, lets it end, and opens the next one from there.
fn the_next_one_picks_anew(end: impl Fn(Pair) -> Result<()>) -> Result<()> {
    let (world, listeners) = listeners(PodNetwork::Bridge, &[], &[(2, 1)])?;
    let node_port = |family| world.node_port(1, family, mirror::NODE_PORT);
    let (pod, client) = (&world.cluster.pod(1, 3).namespace, &world.cluster.client);
    let routes = [
        (pod, mirror::cluster_ip(Family::V4)),
        (client, node_port(Family::V4)),
        (pod, mirror::cluster_ip(Family::V6)),
        (client, node_port(Family::V6)),
    ];
    for (name, endpoint) in [
        ("pod-2-1", (2, 1)),
        ("pod-1-1", (1, 1)),
        ("pod-2-2", (2, 2)),
    ] {
        world.scale(mirror::NAME, &[endpoint])?;
        for (from, to) in routes {
            let pair = listeners.connect_from(from, 45_000, to);
            let pair = pair.with_context(|| format!("{name}, to {to}"))?;
            assert_eq!(pair.pod, name, "to {to}");
            end(pair)?;
        }
    }
    Ok(())
}

#[test]
fn after_an_orderly_end_the_next_connection_of_a_port_picks_anew() -> Result<()> {
    the_next_one_picks_anew(Pair::close)
}

#[test]
fn after_a_reset_by_the_endpoint_the_next_connection_of_a_port_picks_anew() -> Result<()> {
    the_next_one_picks_anew(|mut pair| {
        // Closed with something unread, a socket resets its connection.
        pair.write()?;
        drop(pair.server);
        let end = pair.client.read(&mut [0]);
        ensure!(end.is_err(), "no reset: {end:?}");
        Ok(())
    })
}

/// Eight source ports, four live connections, four new ones.
#[test]
fn resets_and_silence_give_no_source_port_away() -> Result<()> {
    let arguments = ["--nat-ports=20000-20007"];
    let (world, listeners) = listeners(PodNetwork::Bridge, &arguments, &[(2, 1)])?;
    let client = &world.cluster.client;
    let neighbour = Spoofer::new(&world.cluster.pod(1, 1).namespace)?;
    let to = world.node_port(1, Family::V4, mirror::NODE_PORT);
    let connect = |_| listeners.connect(client, to);
    let mut open: Vec<_> = (0..4).map(connect).collect::<Result<_>>()?;
    for pair in &open {
        neighbour.send(&segment(pair.source()?, to, RST, [0x1357_9bdf, 0]))?;
    }
    // A reset flow would keep its port for 10 s.
    thread::sleep(Duration::from_secs(12));
    let mut others: Vec<_> = (0..4).map(connect).collect::<Result<_>>()?;
    for (count, pair) in open.iter_mut().chain(&mut others).enumerate() {
        pair.talk().with_context(|| format!("connection {count}"))?;
    }
    Ok(())
}

/// A world with one source port for all flows to the endpoint, and timeouts like kube-proxy's.
fn one_port(timeouts: &str) -> Result<World> {
    let cluster = Cluster::new(Options::default())?;
    let file = cluster.directory.path().join("config.yaml");
    let text = format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
         conntrack: {{{timeouts}}}\n"
    );
    std::fs::write(&file, text)?;
    let world = World::on(
        cluster,
        &[ONE_PORT, "--config", &file.display().to_string()],
    )?;
    add_mirror(&world, &[(2, 1)])?;
    Ok(world)
}

/// The one flow that has the port, and whether another can have it.
struct OnePort {
    listeners: Listeners,
    world: World,
    to: SocketAddr,
}

impl OnePort {
    fn new(timeouts: &str) -> Result<Self> {
        let world = one_port(timeouts)?;
        Ok(Self {
            listeners: Listeners::start([world.cluster.pod(2, 1)])?,
            to: world.node_port(1, Family::V4, mirror::NODE_PORT),
            world,
        })
    }

    fn client(&self) -> &Namespace {
        &self.world.cluster.client
    }

    fn open(&self) -> Result<Pair> {
        self.listeners.connect(self.client(), self.to)
    }

    /// Another client's connection, if it comes about with the first SYN.
    fn another(&self) -> Result<Option<TcpStream>> {
        let connect = || sockets::connect_from(0, self.to, PATIENCE);
        Ok(self.client().run(connect)?.ok())
    }

    /// Another client's connection. The endpoint still has the old one, answers the first SYN
    /// with a challenge ACK, and forgets it by the RST to that.
    fn another_in_its_place(&self) -> Result<TcpStream> {
        let connect = || sockets::connect_from(0, self.to, 4 * PATIENCE);
        self.client().run(connect)?
    }
}

#[test]
fn a_half_closed_connection_has_its_source_port_until_the_timeout_for_it() -> Result<()> {
    let it = OnePort::new(&format!("tcpCloseWaitTimeout: {TIMEOUT}"))?;
    let mut pair = it.open()?;
    pair.client.shutdown(Shutdown::Write)?;
    ensure!(pair.server.read(&mut [0])? == 0, "no FIN");
    thread::sleep(BEFORE);
    ensure!(it.another()?.is_none(), "too early");
    pair.answer().context("before the timeout")?;
    thread::sleep(AFTER);
    it.another_in_its_place().context("after the timeout")?;
    Ok(())
}

/// The default is an hour, as kube-proxy sets it, whatever happens to the other direction.
#[test]
fn a_half_closed_connection_gets_its_data_after_a_silence() -> Result<()> {
    let it = OnePort::new("udpTimeout: 3s, udpStreamTimeout: 3s")?;
    let mut pair = it.open()?;
    pair.client.shutdown(Shutdown::Write)?;
    ensure!(pair.server.read(&mut [0])? == 0, "no FIN");
    thread::sleep(AFTER);
    ensure!(it.another()?.is_none(), "somebody else has the port");
    pair.answer().context("after the silence")
}

#[test]
fn an_idle_connection_has_its_source_port_until_the_timeout_for_it() -> Result<()> {
    let it = OnePort::new(&format!("tcpEstablishedTimeout: {TIMEOUT}"))?;
    let mut pair = it.open()?;
    thread::sleep(BEFORE);
    ensure!(it.another()?.is_none(), "too early");
    // Whoever talks is not idle.
    pair.talk()?;
    thread::sleep(Duration::from_secs(2));
    pair.talk()?;
    ensure!(it.another()?.is_none(), "of a connection that talks");
    thread::sleep(AFTER);
    it.another_in_its_place().context("after the timeout")?;
    Ok(())
}

/// Whether a socket is answered.
fn is_answered(socket: &UdpSocket) -> Result<bool> {
    socket.send(b"who\n")?;
    Ok(socket.recv(&mut [0; 128]).is_ok())
}

#[test]
fn a_silent_udp_flow_has_its_source_port_until_the_timeout_for_it() -> Result<()> {
    let world = one_port(&format!(
        "udpTimeout: {TIMEOUT}, udpStreamTimeout: {TIMEOUT}"
    ))?;
    let _server = Echo::start_all([world.cluster.pod(2, 1)])?;
    let to = world.node_port(1, Family::V4, mirror::NODE_PORT);
    let connect = || -> Result<_> {
        let socket = sockets::udp_at(0, to, PATIENCE)?;
        socket.connect(to)?;
        Ok(socket)
    };
    let client = &world.cluster.client;
    let [first, second] = [client.run(connect)??, client.run(connect)??];
    for round in 0..2 {
        ensure!(is_answered(&first)?, "round {round}");
    }
    ensure!(!is_answered(&second)?, "too early");
    ensure!(is_answered(&first)?, "the first one, after the second");
    thread::sleep(AFTER);
    ensure!(is_answered(&second)?, "after the timeout");
    Ok(())
}
