//! Flows of datagrams while their Service changes.

use anyhow::Result;
use proxy_tests::lab::{Cluster, Family, Options, PodNetwork, mirror};

use super::asker::Asker;
use super::{ON, mirrors, python};
use crate::hosts::be_strict;
use crate::world::World;

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

const REPLACEMENTS: usize = 100;

/// What the agent says once it knows how the host's datagrams leave.
const ROUTES: &str = "routes of the host";

#[test]
fn a_resolver_of_a_pod_keeps_its_socket_through_a_hundred_replacements() -> Result<()> {
    let (world, _servers) = mirrors(PodNetwork::Bridge, &ON, &[(1, 1)])?;
    let from = &world.cluster.pod(1, 3).namespace;
    let mut resolver = Asker::start(from, RESOLVER, mirror::cluster_ip(Family::V4), &[])?;
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
        Asker::start(host, RESOLVER, v4, &[])?,
        Asker::start(host, RESOLVER, v4, &["mapped"])?,
        Asker::start(host, RESOLVER, mirror::cluster_ip(Family::V6), &[])?,
    ];
    // Directly to the endpoint, which goes on to answer: none of the agent's business.
    let endpoint = world.cluster.pod(1, 1).addresses.of(Family::V4);
    let mut direct = Asker::start(host, RESOLVER, (endpoint, mirror::PORT).into(), &[])?;
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
            ended += usize::from(text.starts_with("destroyed a host socket"));
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

/// Where its datagrams leave by an uplink, they are translated there.
#[test]
fn a_resolver_of_the_host_keeps_its_socket_where_the_host_has_a_route() -> Result<()> {
    let cluster = Cluster::new(Options::default())?;
    be_strict(&cluster)?;
    let world = World::on(cluster, &ON)?;
    let _servers = mirror::start([(1, 1), (2, 1)].map(|(node, pod)| world.cluster.pod(node, pod)))?;
    world.after_programming(|| mirror::add(&world.manifests))?;
    let mut families = 0;
    world.agents[0].wait_for(0, |event| {
        let text = event["fields"]["message"].as_str().unwrap_or_default();
        families += usize::from(text == ROUTES && event["fields"]["leave_by_uplink"] == true);
        families == Family::BOTH.len()
    })?;
    world.scale(mirror::NAME, &[(1, 1)])?;
    let host = &world.cluster.nodes[0].namespace;
    let v4 = mirror::cluster_ip(Family::V4);
    let mut resolvers = [
        Asker::start(host, RESOLVER, v4, &[])?,
        Asker::start(host, RESOLVER, v4, &["mapped"])?,
        Asker::start(host, RESOLVER, mirror::cluster_ip(Family::V6), &[])?,
    ];
    for pod in [(1, 1), (2, 1), (1, 1), (2, 1)] {
        world.scale(mirror::NAME, &[pod])?;
        let name = world.cluster.pod(pod.0, pod.1).name.clone();
        for resolver in &mut resolvers {
            assert_eq!(resolver.ask()?, (name.clone(), 1));
        }
    }
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
            let mut resolver = Asker::start(from, script, mirror::cluster_ip(family), &[])?;
            for pod in [(2, 1), (1, 2), (2, 2), (1, 1)] {
                world.scale(mirror::NAME, &[pod])?;
                let name = world.cluster.pod(pod.0, pod.1).name.clone();
                assert_eq!(resolver.ask()?, (name, 1), "{who}");
            }
        }
    }
    Ok(())
}
