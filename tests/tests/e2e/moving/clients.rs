//! The way back to kube-proxy: `run --cleanup` beside its rules, while clients of all kinds go on.

mod kube_proxy;

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube_proxy::{Mode, write_rules};
use proxy_tests::lab::client::Transport;
use proxy_tests::lab::mirror::{self, Conversation};
use proxy_tests::lab::{Family, Namespace, Process};
use serde_json::Value;

use crate::hosts::be_strict;
use crate::restarts::{End, Lasting, conversations};
use crate::world::{World, agent_program};

const PATIENCE: Duration = Duration::from_secs(30);

/// As CNIs have it for what leaves for other addresses than Pods'. So netfilter tracks everything.
const CNI: &str = "\
table ip cni {
    chain post {
        type nat hook postrouting priority srcnat + 1;
        ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 masquerade
    }
}
table ip6 cni {
    chain post {
        type nat hook postrouting priority srcnat + 1;
        ip6 saddr fd00:10:244::/48 ip6 daddr != fd00:10:244::/48 masquerade
    }
}
";

/// How often each client asks before and after.
const ENOUGH: usize = 300;
/// How many sockets of each kind are held.
const HELD: usize = 5;

/// Clients that ask all the time, each in a thread of its own.
#[derive(Default)]
struct Clients {
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
            answer?;
        }
        Ok(())
    }
}

impl Clients {
    /// Adds one that asks by `ask`.
    fn add(&mut self, name: String, ask: impl FnMut() -> Result<()> + Send + 'static) {
        let number = self.threads.len();
        self.shared.lock().answers.push(0);
        let shared = Arc::clone(&self.shared);
        let thread = thread::spawn(move || shared.go(number, ask));
        self.threads.push((name, thread));
    }

    /// Waits until each was answered so often from now on, or one was not.
    fn go_on(&self, times: usize) -> Result<()> {
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
    fn end(self) -> Result<usize> {
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
fn ask_anew(clients: &mut Clients, world: &Arc<World>) {
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
        for transport in [Transport::Tcp, Transport::Udp] {
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

/// Runs the clean-up; returns what it has said of the flows.
fn clean_up(it: &Lasting) -> Result<Value> {
    let node = &it.world.cluster.nodes[0].namespace;
    let mut command = node.command_with(Some(&it.bpffs), agent_program());
    command.args(["run", "--cleanup", "--log-format", "json"]);
    let mut cleanup = Process::spawn("cleanup", command)?;
    let status = cleanup.wait(PATIENCE)?;
    let log = cleanup.lines();
    ensure!(status.success(), "{}", log.join("\n"));
    let events = log
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok());
    let told = events
        .map(|event: Value| event["fields"].clone())
        .find(|fields| fields["message"] == "flows given to netfilter");
    told.with_context(|| log.join("\n"))
}

fn nobody_is_lost_on_the_way_back(mode: Mode) -> Result<()> {
    let mut it = Lasting::new(&[])?;
    let node = it.world.cluster.nodes[0].addresses;
    be_strict(&it.world.cluster)?;
    it.world.cluster.nodes[0].namespace.nft(CNI)?;
    it.add_mirror()?;
    // One on the node, one on the other.
    let endpoints = [(1, 1), (2, 1)];
    it.scale(mirror::NAME, &endpoints)?;
    let pods = endpoints.map(|(node, pod)| it.world.cluster.pod(node, pod));
    let _servers = mirror::start(pods)?;
    let mut clients = Clients::default();
    for _ in 0..HELD {
        hold(&mut clients, "held", conversations(&it.world)?)?;
    }
    hold(&mut clients, "held by the host", of_the_host(&it.world)?)?;
    ask_anew(&mut clients, &it.world);
    clients.go_on(ENOUGH).context("by the programs")?;

    let addresses = pods.map(|pod| pod.addresses);
    let at = &it.world.cluster.nodes[0].namespace;
    write_rules(at, mode, node, &addresses)?;
    it.end(End::Stopped)?;
    let told = clean_up(&it)?;
    clients.go_on(ENOUGH).context("by netfilter")?;
    let answers = clients.end()?;
    println!("{answers} answers; {told}");
    let held = HELD * 8 + 4;
    ensure!(told["given"].as_u64() >= Some(held as u64), "{told}");
    ensure!(told["failed"] == 0, "{told}");
    Ok(())
}

#[test]
fn nobody_is_lost_on_the_way_back_to_nftables() -> Result<()> {
    nobody_is_lost_on_the_way_back(Mode::Nftables)
}

#[test]
fn nobody_is_lost_on_the_way_back_to_iptables() -> Result<()> {
    nobody_is_lost_on_the_way_back(Mode::Iptables)
}
