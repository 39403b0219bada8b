//! Two datagrams of one fresh socket at the same time, as resolvers ask for A and AAAA: two
//! CPUs make one flow.

use std::hint;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::load::scaled;
use proxy_tests::lab::{Family, Namespace, PodNetwork, mirror, sockets};

use super::many::{echoes, made_and_refused};

/// While an agent loads its programs a machine of two processors may stand still for two seconds.
const PATIENCE: Duration = Duration::from_secs(10);
const PAIRS: usize = 1500;
/// For about a microsecond each hundred.
const SPINS: usize = 5000;
/// After this many failures, which take a second each, nobody asks any more.
const ENOUGH_FAILURES: usize = 4;

/// What became of pairs.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) pairs: usize,
    pub(crate) failures: Vec<String>,
}

/// Where two threads wait for each other, to begin something at the same time.
struct Start(AtomicUsize);

impl Start {
    /// Returns when both are here for the `round`th time, from 1.
    fn wait(&self, round: usize) {
        self.0.fetch_add(1, Ordering::AcqRel);
        for turn in 0.. {
            if self.0.load(Ordering::Acquire) >= 2 * round {
                return;
            }
            // The other one may need this CPU.
            if turn < SPINS {
                hint::spin_loop();
            } else {
                thread::yield_now();
            }
        }
    }
}

/// Sends pairs, each by a socket of its own, until there were so many or there is a stop.
pub(crate) fn ask_in_pairs(
    from: &Namespace,
    to: SocketAddr,
    pairs: usize,
    stop: &AtomicBool,
) -> Result<Outcome> {
    let start = Start(AtomicUsize::new(0));
    let (hand_over, sockets) = mpsc::channel::<UdpSocket>();
    let second = || {
        for (round, socket) in (1..).zip(sockets) {
            start.wait(round);
            // What is not sent is not answered either.
            let _ = socket.send_to(b"AAAA\n", to);
        }
    };
    let first = || -> Result<Outcome> {
        let mut outcome = Outcome::default();
        while outcome.pairs < pairs
            && outcome.failures.len() < ENOUGH_FAILURES
            && !stop.load(Ordering::Relaxed)
        {
            outcome.pairs += 1;
            let socket = sockets::udp_at(0, to, PATIENCE)?;
            hand_over.send(socket.try_clone()?)?;
            start.wait(outcome.pairs);
            socket.send_to(b"A\n", to)?;
            if let Err(error) = answers(&socket, to) {
                let failure = format!("pair {}: {error:#}", outcome.pairs);
                outcome.failures.push(failure);
            }
        }
        drop(hand_over);
        Ok(outcome)
    };
    thread::scope(|scope| {
        scope.spawn(second);
        from.run(first)?
    })
}

/// Both answers, from the address that was asked, and by one endpoint.
fn answers(socket: &UdpSocket, to: SocketAddr) -> Result<()> {
    let answer = || -> Result<String> {
        let mut buffer = [0; 128];
        let (length, source) = socket.recv_from(&mut buffer)?;
        ensure!(source == to, "an answer from {source}");
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    let first = answer().context("the first answer")?;
    let second = answer().context("the second answer")?;
    ensure!(first == second, "of one flow: {first:?} and {second:?}");
    Ok(())
}

/// That both of each pair are answered, inside by the ClusterIP and outside by a NodePort.
fn none_is_lost(pods: &[(usize, usize)]) -> Result<()> {
    let (world, _servers) = echoes(PodNetwork::Bridge, &[], pods)?;
    let (pod, client) = (&world.cluster.pod(1, 3).namespace, &world.cluster.client);
    let go_on = AtomicBool::new(false);
    let mut failures = Vec::new();
    for family in Family::BOTH {
        let node_port = world.node_port(1, family, mirror::NODE_PORT);
        for (from, to) in [(pod, mirror::cluster_ip(family)), (client, node_port)] {
            let outcome = ask_in_pairs(from, to, scaled(PAIRS), &go_on)?;
            let failed = outcome.failures.into_iter();
            failures.extend(failed.map(|failure| format!("{to}, {failure}")));
        }
    }
    let [made, refused] = made_and_refused(&world.cluster.nodes[0].namespace)?;
    println!("{made} flows made, {refused} refused");
    ensure!(
        failures.is_empty(),
        "{failures:#?}, {refused} without a port"
    );
    ensure!(refused == 0, "{refused} flows without a port");
    Ok(())
}

#[test]
fn two_datagrams_that_open_a_flow_at_once_are_both_answered_by_a_near_endpoint() -> Result<()> {
    none_is_lost(&[(1, 1), (1, 2)])
}

#[test]
fn two_datagrams_that_open_a_flow_at_once_are_both_answered_by_a_far_endpoint() -> Result<()> {
    none_is_lost(&[(2, 1), (2, 2), (2, 3)])
}
