//! Clients of all kinds that go on while the proxy changes.

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use proxy_tests::lab::client::Transport;
use proxy_tests::lab::mirror::{self, Conversation};
use proxy_tests::lab::{Family, Namespace};

use super::PATIENCE;
use crate::restarts::conversations;
use crate::world::World;

/// Between two questions of a client: 50 of them a second.
const PAUSE: Duration = Duration::from_millis(20);
/// How many sockets of each kind are held.
const HELD: usize = 5;
/// All sockets that are held, of Pods, of clients outside and of the node.
pub(super) const ALL_HELD: usize = HELD * 8 + 4;

/// Clients that ask all the time, each in a thread of its own.
#[derive(Default)]
pub(super) struct Clients {
    shared: Arc<Shared>,
    threads: Vec<(String, thread::JoinHandle<Result<()>>)>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stop: bool,
    /// How often each client was answered.
    answers: Vec<usize>,
    failed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with the lock held")
    }

    /// Asks by `ask` until the end, or until there is no answer.
    fn go(&self, number: usize, mut ask: impl FnMut() -> Result<()>) -> Result<()> {
        while !self.lock().stop {
            let answer = ask();
            let mut state = self.lock();
            state.answers[number] += usize::from(answer.is_ok());
            state.failed |= answer.is_err();
            self.changed.notify_all();
            drop(state);
            answer?;
            // All at full speed would leave the agents no processor.
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

impl Clients {
    /// Clients that hold sockets, and others that ask by new ones of these kinds.
    pub(super) fn start(world: &Arc<World>, new: &[Transport]) -> Result<Self> {
        let mut clients = Self::default();
        for _ in 0..HELD {
            hold(&mut clients, "held", conversations(world)?)?;
        }
        ask_anew(&mut clients, world, new);
        Ok(clients)
    }

    /// Adds sockets of the node itself, which are held.
    pub(super) fn hold_by_host(&mut self, world: &World) -> Result<()> {
        hold(self, "held by the host", of_the_host(world)?)
    }

    /// Adds one that asks by `ask`.
    fn add(&mut self, name: String, ask: impl FnMut() -> Result<()> + Send + 'static) {
        let number = self.threads.len();
        self.shared.lock().answers.push(0);
        let shared = Arc::clone(&self.shared);
        let thread = thread::spawn(move || shared.go(number, ask));
        self.threads.push((name, thread));
    }

    /// Waits until each was answered so often from now on, or one was not.
    pub(super) fn go_on(&self, times: usize) -> Result<()> {
        let state = self.shared.lock();
        let wanted: Vec<_> = state.answers.iter().map(|it| it + times).collect();
        let is_missing = |state: &mut State| {
            let mut all = state.answers.iter().zip(&wanted);
            !state.failed && all.any(|(answers, wanted)| answers < wanted)
        };
        let changed = &self.shared.changed;
        let result = changed.wait_timeout_while(state, PATIENCE, is_missing);
        let (state, timeout) = result.expect("nobody panics with the lock held");
        ensure!(!timeout.timed_out(), "too slow: {:?}", state.answers);
        Ok(())
    }

    /// How many questions were answered; an error names all whose were not.
    pub(super) fn end(self) -> Result<usize> {
        self.shared.lock().stop = true;
        let mut failures = Vec::new();
        for (name, thread) in self.threads {
            if let Err(error) = thread.join().expect("no panic") {
                failures.push(format!("{name}: {error:#}"));
            }
        }
        let answers: usize = self.shared.lock().answers.iter().sum();
        let count = failures.len();
        ensure!(
            count == 0,
            "after {answers} answers {count} failed: {failures:#?}"
        );
        Ok(answers)
    }
}

/// Asks by a socket that is held, which has to be answered by the endpoint that it has.
fn hold(clients: &mut Clients, name: &str, open: Vec<Conversation>) -> Result<()> {
    for (number, mut conversation) in open.into_iter().enumerate() {
        let first = conversation.ask()?;
        let name = format!("{name} {number}, {conversation:?} to {first:?}");
        clients.add(name, move || {
            let answer = conversation.ask()?;
            ensure!(answer == first, "{answer:?}, and before {first:?}");
            Ok(())
        });
    }
    Ok(())
}

/// Asks by a new socket each time.
fn ask_anew(clients: &mut Clients, world: &Arc<World>, transports: &[Transport]) {
    type Place = fn(&World) -> &Namespace;
    type Frontend = fn(&World, Family) -> SocketAddr;
    let places: [(Place, Frontend); 2] = [
        (
            |world| &world.cluster.pod(1, 3).namespace,
            |_, family| mirror::cluster_ip(family),
        ),
        (
            |world| &world.cluster.client,
            |world, family| world.node_port(1, family, mirror::NODE_PORT),
        ),
    ];
    for family in Family::BOTH {
        for &transport in transports {
            for (place, to) in places {
                let (world, to) = (Arc::clone(world), to(world, family));
                clients.add(format!("new {transport:?} to {to}"), move || {
                    let answer = place(&world).run(|| mirror::ask(to, transport))?;
                    answer.map(drop)
                });
            }
        }
    }
}

/// Sockets of the node itself, whose packets are translated where they leave.
fn of_the_host(world: &World) -> Result<Vec<Conversation>> {
    let node = &world.cluster.nodes[0].namespace;
    let mut open = Vec::new();
    for family in Family::BOTH {
        for transport in [Transport::Tcp, Transport::Udp] {
            let to = mirror::cluster_ip(family);
            open.push(node.run(|| Conversation::open(to, transport))??);
        }
    }
    Ok(open)
}
