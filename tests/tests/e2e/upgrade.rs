//! An agent of another version takes over what an older one has left.

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::mirror::{self, Answer, Conversation};
use proxy_tests::lab::{Family, client};

use crate::restarts::{End, Lasting, conversations};
use crate::socket_path::Asker;
use crate::world::{agent_program, cluster_ip};

/// The older agent, as `cargo xtask test --upgrade-from` builds it.
const OLD: &str = "PROXY_AGENT_OLD_BIN";
/// Conversations of each kind.
const OF_EACH: usize = 10;
/// Endpoints of both nodes.
const PODS: [(usize, usize); 3] = [(1, 1), (2, 1), (2, 2)];

/// Asks by one socket that is not connected.
const DATAGRAMS: &str = r#"
it = open_socket(address, UDP)
for _ in sys.stdin:
    it.sendto(b"who\n", (address, port))
    answer, source = it.recvfrom(100)
    assert source[:2] == (address, port), source
    print(answer.decode().split()[0], 1, flush=True)
"#;

fn ask_all(open: &mut [Conversation]) -> Result<Vec<Answer>> {
    let ask = |(number, conversation): (usize, &mut Conversation)| {
        let answer = conversation.ask();
        answer.with_context(|| format!("conversation {number}"))
    };
    open.iter_mut().enumerate().map(ask).collect()
}

/// Conversations of all kinds, and the same endpoints before, between and after.
fn every_connection_goes_on(old: PathBuf, end: End) -> Result<()> {
    let mut it = Lasting::without_agent()?;
    it.program = old;
    it.arguments = vec!["--socket-path".to_owned(), "on".to_owned()];
    it.start().context("the older agent")?;
    it.add_mirror()?;
    it.scale(mirror::NAME, &PODS)?;
    let pods = PODS.map(|(node, pod)| it.world.cluster.pod(node, pod));
    let _servers = mirror::start(pods)?;
    let mut open = Vec::new();
    for _ in 0..OF_EACH {
        open.extend(conversations(&it.world)?);
    }
    // Twice: who asks again after an answer has an established flow.
    ask_all(&mut open)?;
    let before = ask_all(&mut open)?;
    let host = &it.world.cluster.nodes[0].namespace;
    let to = mirror::cluster_ip(Family::V4);
    let mut socket = Asker::start(host, DATAGRAMS, to, &[])?;
    let endpoint = socket.ask()?;

    it.end(end)?;
    ensure!(ask_all(&mut open)? == before, "between the agents");
    it.program = agent_program();
    it.start().context("the newer agent")?;
    for round in 0..2 {
        let after = ask_all(&mut open);
        let after = after.with_context(|| format!("by the newer agent, round {round}"))?;
        ensure!(after == before, "{after:?} is not {before:?}");
        ensure!(socket.ask()? == endpoint, "another endpoint of a socket");
    }
    let web = SocketAddr::new(cluster_ip("web", Family::V6), 80);
    client::http(&it.world.cluster.pod(1, 3).namespace, web).context("a new connection")?;
    // What is new and what was taken over survive the next one too.
    it.end(End::Killed)?;
    it.start().context("another newer agent")?;
    ensure!(ask_all(&mut open)? == before, "by another newer agent");
    Ok(())
}

fn old() -> Option<PathBuf> {
    let old = env::var_os(OLD).map(PathBuf::from);
    if old.is_none() {
        println!("not run: {OLD} names no older agent");
    }
    old
}

#[test]
fn from_an_older_agent_that_was_stopped_every_connection_goes_on() -> Result<()> {
    old().map_or(Ok(()), |old| every_connection_goes_on(old, End::Stopped))
}

#[test]
fn from_an_older_agent_that_was_killed_every_connection_goes_on() -> Result<()> {
    old().map_or(Ok(()), |old| every_connection_goes_on(old, End::Killed))
}
