//! Flows of datagrams while their Service changes.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result};
use proxy_tests::lab::{Family, Namespace, PodNetwork, mirror};

use super::{ON, mirrors, python, python_command};

/// Ten questions by one socket: who answered.
const ASK: &str = r#"
it = open_socket(address, UDP)
answers = set()
for _ in range(10):
    it.sendto(b"who\n", (address, port))
    answers.add(it.recv(100).decode().split()[0])
print(*answers)
"#;

#[test]
fn a_socket_that_is_not_connected_stays_with_one_endpoint() -> Result<()> {
    let pods = [(1, 1), (1, 2), (2, 1), (2, 2)];
    let (world, _servers) = mirrors(PodNetwork::Bridge, &ON, &pods)?;
    for (who, from) in world.host_and_pod() {
        for family in Family::BOTH {
            let told = python(from, ASK, mirror::cluster_ip(family), &[])?;
            assert_eq!(told.split(' ').count(), 1, "{who}: {told}");
        }
    }
    Ok(())
}

/// Asks by one connected socket whenever it reads a line, and connects anew after an
/// error: who answered, or what went wrong.
const RESOLVER: &str = r#"
def connected():
    it = open_socket(address, UDP, len(more) > 0)
    it.connect(("::ffff:" + address if more else address, port))
    return it

def ask(it):
    it.send(b"who\n")
    return it.recv(100).decode().split()[0]

it, sockets = connected(), 1
for _ in sys.stdin:
    try:
        print(ask(it), sockets, flush=True)
    except OSError as error:
        it, sockets = connected(), sockets + 1
        print(name_of(error.errno) if error.errno else "timeout", sockets, flush=True)
"#;

/// A resolver of Python's in a namespace.
struct Resolver {
    process: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Resolver {
    fn start(from: &Namespace, to: SocketAddr, more: &[&str]) -> Result<Self> {
        Self::of(&mut python_command(from, RESOLVER, to, more))
    }

    fn of(command: &mut Command) -> Result<Self> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let questions = process.stdin.take().context("no stdin")?;
        let answers = process.stdout.take().context("no stdout")?;
        Ok(Self {
            process,
            questions,
            answers: BufReader::new(answers).lines(),
        })
    }

    /// Who answers a question, or what goes wrong, and the number of the socket.
    fn ask(&mut self) -> Result<(String, usize)> {
        self.questions.write_all(b"\n")?;
        let line = self.answers.next().context("the resolver ended")??;
        let (answer, sockets) = line.split_once(' ').context("an answer")?;
        Ok((answer.to_owned(), sockets.parse()?))
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const REPLACEMENTS: usize = 100;

#[test]
fn a_resolver_of_a_pod_keeps_its_socket_through_a_hundred_replacements() -> Result<()> {
    let (world, _servers) = mirrors(PodNetwork::Bridge, &ON, &[(1, 1)])?;
    let from = &world.cluster.pod(1, 3).namespace;
    let mut resolver = Resolver::start(from, mirror::cluster_ip(Family::V4), &[])?;
    for count in 0..REPLACEMENTS {
        let pod = [(1, 1), (2, 1)][count % 2];
        world.scale(mirror::NAME, &[pod])?;
        let name = world.cluster.pod(pod.0, pod.1).name.clone();
        assert_eq!(resolver.ask()?, (name, 1));
    }
    Ok(())
}

#[test]
fn a_resolver_of_the_host_hears_at_once_that_its_endpoint_is_gone() -> Result<()> {
    let (world, _servers) = mirrors(PodNetwork::Bridge, &ON, &[(1, 1)])?;
    let host = &world.cluster.nodes[0].namespace;
    let v4 = mirror::cluster_ip(Family::V4);
    let mut resolvers = [
        Resolver::start(host, v4, &[])?,
        Resolver::start(host, v4, &["mapped"])?,
        Resolver::start(host, mirror::cluster_ip(Family::V6), &[])?,
    ];
    // Directly to the endpoint, which goes on to answer: none of the agent's business.
    let endpoint = world.cluster.pod(1, 1).addresses.of(Family::V4);
    let mut direct = Resolver::start(host, (endpoint, mirror::PORT).into(), &[])?;
    assert_eq!(direct.ask()?, ("pod-1-1".into(), 1));
    for resolver in &mut resolvers {
        assert_eq!(resolver.ask()?, ("pod-1-1".into(), 1));
    }
    for count in 0..REPLACEMENTS {
        let pod = [(2, 1), (1, 1)][count % 2];
        let mark = world.agents[0].mark();
        world.scale(mirror::NAME, &[pod])?;
        let mut ended = 0;
        world.agents[0].wait_for(mark, |event| {
            let text = event["fields"]["message"].as_str().unwrap_or_default();
            ended += usize::from(text.starts_with("ended a UDP socket"));
            ended == resolvers.len()
        })?;
        let name = &world.cluster.pod(pod.0, pod.1).name;
        for resolver in &mut resolvers {
            let (error, next) = resolver.ask()?;
            // Who waits for an answer is told; who sends has nobody to send to.
            let errors = ["ECONNABORTED", "EDESTADDRREQ"];
            assert!(errors.contains(&error.as_str()), "{error}");
            assert_eq!(next, count + 2);
            assert_eq!(resolver.ask()?, (name.clone(), count + 2));
        }
    }
    assert_eq!(direct.ask()?, ("pod-1-1".into(), 1));
    Ok(())
}

#[test]
fn a_socket_that_is_not_connected_moves_with_its_next_datagram() -> Result<()> {
    let (world, _servers) = mirrors(PodNetwork::Routed, &ON, &[(1, 1)])?;
    let script = r#"
it = open_socket(address, UDP)
for _ in sys.stdin:
    it.sendto(b"who\n", (address, port))
    print(it.recv(100).decode().split()[0], 1, flush=True)
"#;
    for (who, from) in world.host_and_pod() {
        for family in Family::BOTH {
            let mut command = python_command(from, script, mirror::cluster_ip(family), &[]);
            let mut resolver = Resolver::of(&mut command)?;
            for pod in [(2, 1), (1, 2), (2, 2), (1, 1)] {
                world.scale(mirror::NAME, &[pod])?;
                let name = world.cluster.pod(pod.0, pod.1).name.clone();
                assert_eq!(resolver.ask()?, (name, 1), "{who}");
            }
        }
    }
    Ok(())
}
