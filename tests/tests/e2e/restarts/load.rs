//! Many flows at once, while agents are killed and others take over.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::client::Transport;
use proxy_tests::lab::load::scaled;
use proxy_tests::lab::{Echo, Family, Namespace, mirror};

use super::{End, Lasting, ask_all, conversations};
use crate::flows::at_once::ask_in_pairs;
use crate::flows::many::{lost, use_ports_again};
use crate::flows::untranslated::{add_node_ports, masquerade, outside};
use crate::world::World;

/// How often the agent is killed.
const KILLS: usize = 2;
/// Flows of one way between two looks at whether all is over.
const ROUND: usize = 20;
/// Fewer in all are no load.
const ENOUGH: usize = 200;

/// Flows that are made over and over.
#[derive(Clone, Copy)]
struct Way<'a> {
    from: &'a Namespace,
    to: SocketAddr,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    /// One question, and its answer.
    Short(Transport),
    /// Two questions at once, by UDP.
    Pairs,
}

impl Way<'_> {
    /// Goes this way until there is a stop; how many flows there were, if none was lost.
    fn go(&self, stop: &AtomicBool) -> Result<usize> {
        let Kind::Short(transport) = self.kind else {
            let outcome = ask_in_pairs(self.from, self.to, usize::MAX, stop)?;
            ensure!(outcome.failures.is_empty(), "{:#?}", outcome.failures);
            return Ok(outcome.pairs);
        };
        let mut flows = 0;
        while !stop.load(Ordering::Relaxed) {
            let lost = lost(self.from, self.to, transport, ROUND)?;
            ensure!(lost.is_empty(), "after {flows} flows: {lost:#?}");
            flows += ROUND;
        }
        Ok(flows)
    }
}

/// Kills the agent, and has another one take over, a few times.
fn kill_and_start(it: &mut Lasting) -> Result<()> {
    for _ in 0..scaled(KILLS) {
        it.end(End::Killed)?;
        it.start()?;
    }
    Ok(())
}

/// That no flow of these ways is lost while agents come and go, nor one that stays.
fn kills_lose_nothing(
    prepare: impl FnOnce(&World) -> Result<()>,
    ways: impl FnOnce(&World) -> Vec<Way<'_>>,
) -> Result<()> {
    // So few records that each is needed again and again.
    let mut it = Lasting::new(&["--map-flows", "1024"])?;
    it.add_mirror()?;
    it.scale(mirror::NAME, &[(2, 1)])?;
    let world = Arc::clone(&it.world);
    let _server = Echo::start_all([world.cluster.pod(2, 1)])?;
    let _outside = Echo::start(&world.cluster.client, "outside")?;
    prepare(&world)?;
    let mut open = conversations(&world)?;
    ask_all(&mut open, "pod-2-1")?;
    let stop = &AtomicBool::new(false);
    let flows = thread::scope(|scope| -> Result<usize> {
        let going: Vec<_> = ways(&world)
            .into_iter()
            .map(|way| (way.to, scope.spawn(move || way.go(stop))))
            .collect();
        let restarted = kill_and_start(&mut it);
        stop.store(true, Ordering::Relaxed);
        let mut flows = 0;
        for (to, way) in going {
            let gone = way.join().expect("no panic");
            flows += gone.with_context(|| format!("to {to}"))?;
        }
        restarted.map(|()| flows)
    })?;
    println!("{flows} flows");
    ensure!(flows > ENOUGH, "only {flows} flows");
    ask_all(&mut open, "pod-2-1").context("what was open all the time")
}

/// From a Pod to the ClusterIP, and from outside to a NodePort.
fn both(world: &World, kind: Kind) -> Vec<Way<'_>> {
    let (pod, client) = (&world.cluster.pod(1, 3).namespace, &world.cluster.client);
    let node_port = world.node_port(1, Family::V6, mirror::NODE_PORT);
    [(pod, mirror::cluster_ip(Family::V4)), (client, node_port)]
        .map(|(from, to)| Way { from, to, kind })
        .into()
}

#[test]
fn kills_lose_no_short_connection_in_a_small_table() -> Result<()> {
    kills_lose_nothing(
        |world| {
            use_ports_again(&world.cluster.pod(1, 3).namespace)?;
            use_ports_again(&world.cluster.client)
        },
        |world| both(world, Kind::Short(Transport::Tcp)),
    )
}

#[test]
fn kills_lose_none_of_two_datagrams_that_open_a_flow_at_once() -> Result<()> {
    kills_lose_nothing(|_| Ok(()), |world| both(world, Kind::Pairs))
}

#[test]
fn kills_lose_no_flow_of_a_masqueraded_pod_beside_node_ports() -> Result<()> {
    let prepare = |world: &World| {
        add_node_ports(world, 1000, world.cluster.pod(2, 1))?;
        masquerade(&world.cluster.nodes[0], "fully-random")?;
        use_ports_again(&world.cluster.pod(1, 3).namespace)
    };
    kills_lose_nothing(prepare, |world| {
        let from = &world.cluster.pod(1, 3).namespace;
        let ways = [
            (Family::V4, Transport::Tcp),
            (Family::V6, Transport::Tcp),
            (Family::V4, Transport::Udp),
        ];
        let way = |(family, transport)| Way {
            from,
            to: outside(family),
            kind: Kind::Short(transport),
        };
        ways.map(way).into()
    })
}
