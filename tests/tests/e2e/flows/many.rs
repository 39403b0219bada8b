//! Many flows at once: how they are made, and what they are answered.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::client::Transport;
use proxy_tests::lab::load::scaled;
use proxy_tests::lab::mirror::{self, Conversation};
use proxy_tests::lab::{Echo, Listeners, Namespace, PodNetwork};

use crate::metrics::{metrics, value};
use crate::world::World;

/// How many make flows at the same time.
const CLIENTS: usize = 2;
/// After this many failures, which may take seconds each, nobody asks any more.
const ENOUGH_FAILURES: usize = 4;

/// A world with a server for many in every pod, and some of them behind the mirror's Service.
pub(crate) fn echoes(
    network: PodNetwork,
    arguments: &[&str],
    pods: &[(usize, usize)],
) -> Result<(World, Vec<Echo>)> {
    let world = World::with_arguments(network, arguments)?;
    let servers = Echo::start_all(world.cluster.pods())?;
    add_mirror(&world, pods)?;
    Ok((world, servers))
}

/// The same with servers whose connections are in the test's hands.
pub(crate) fn listeners(
    network: PodNetwork,
    arguments: &[&str],
    pods: &[(usize, usize)],
) -> Result<(World, Listeners)> {
    let world = World::with_arguments(network, arguments)?;
    let listeners = Listeners::start(world.cluster.pods())?;
    add_mirror(&world, pods)?;
    Ok((world, listeners))
}

/// Adds the mirror's Service with these endpoints.
pub(crate) fn add_mirror(world: &World, pods: &[(usize, usize)]) -> Result<()> {
    world.after_programming(|| mirror::add(&world.manifests))?;
    world.scale(mirror::NAME, pods)
}

/// Lets a namespace make more connections to one address than there are ephemeral ports.
pub(crate) fn use_ports_again(client: &Namespace) -> Result<()> {
    client.sysctl("net/ipv4/ip_local_port_range", "1024 65535")?;
    client.sysctl("net/ipv4/tcp_tw_reuse", "1")
}

/// That so many short flows, times `LAB_LOAD`, are answered each.
pub(crate) fn none_is_lost(
    from: &Namespace,
    to: SocketAddr,
    transport: Transport,
    flows: usize,
) -> Result<()> {
    let lost = lost(from, to, transport, scaled(flows))?;
    ensure!(lost.is_empty(), "{transport:?} to {to}: {lost:#?}");
    Ok(())
}

/// Opens a flow, asks by it, closes it, so often; what went wrong, up to some failures.
pub(crate) fn lost(
    from: &Namespace,
    to: SocketAddr,
    transport: Transport,
    flows: usize,
) -> Result<Vec<String>> {
    let (next, failures) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let client = || {
        let mut lost = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= flows || failures.load(Ordering::Relaxed) >= ENOUGH_FAILURES {
                return lost;
            }
            if let Err(error) = mirror::ask(to, transport) {
                failures.fetch_add(1, Ordering::Relaxed);
                lost.push(format!("flow {number} of {flows}: {error:#}"));
            }
        }
    };
    std::thread::scope(|scope| {
        let clients = [(); CLIENTS].map(|()| scope.spawn(|| from.run(client)));
        let lost = clients.into_iter().map(|it| it.join().expect("no panic"));
        Ok(lost.collect::<Result<Vec<_>>>()?.concat())
    })
}

/// Opens conversations that are answered twice, and silent then.
pub(crate) fn idle(from: &Namespace, to: SocketAddr, count: usize) -> Result<Vec<Conversation>> {
    let open = |_| -> Result<_> {
        let mut conversation = Conversation::open(to, Transport::Tcp)?;
        // By the second question the first answer is acknowledged.
        conversation.ask()?;
        conversation.ask()?;
        Ok(conversation)
    };
    let opened: Result<_> = from.run(|| (0..count).map(open).collect())?;
    opened.with_context(|| format!("idle ones to {to}"))
}

/// How many flows a node has made, and how many it could not make for want of ports.
pub(crate) fn made_and_refused(node: &Namespace) -> Result<[u64; 2]> {
    let metrics = metrics(node)?;
    let refused = [("reason", "ports_exhausted")];
    let counts = [
        value(&metrics, "proxy_agent_flows_created_total", &[])?,
        value(&metrics, "proxy_agent_flows_failed_total", &refused)?,
    ];
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "what is counted is whole"
    )]
    Ok(counts.map(|count| count as u64))
}
