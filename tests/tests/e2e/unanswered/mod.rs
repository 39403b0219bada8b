//! Endpoints that do not answer any more, and the API does not know: new connections go to others.

mod annotation;
mod datagrams;
mod kinds;
mod restart;
mod sockets;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::{Family, Namespace, PodNetwork, mirror};
use serde::Deserialize;

use crate::telling::get;
use crate::world::World;

/// Connects `count` times, 50 times a second, to the addresses and ports in turn; prints for each
/// connection who answered, or why nobody did, and how often its segments were sent again. Asks for
/// nothing where it is only to connect.
const CONNECT: &str = r#"
import asyncio, json, struct, sys, socket
TOTAL_RETRANS = 100  # struct tcp_info, linux/tcp.h
count, what, to = int(sys.argv[1]), sys.argv[2], list(zip(sys.argv[3::2], sys.argv[4::2]))

async def ask(address, port):
    try:
        reader, writer = await asyncio.open_connection(address, int(port))
        it = writer.get_extra_info("socket")
        info = it.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        again = struct.unpack_from("I", info, TOTAL_RETRANS)[0]
        if what == "connect":
            writer.close()
            return "connected", again
        writer.write(b"who\n")
        by = (await reader.read(100)).decode().split()[0]
        writer.close()
        return by, again
    except OSError as error:
        return repr(error), 0

async def main():
    tasks = []
    for number in range(count):
        tasks.append(asyncio.create_task(asyncio.wait_for(ask(*to[number % len(to)]), 20)))
        await asyncio.sleep(0.02)
    keys = ["by", "again"]
    print(json.dumps([dict(zip(keys, it)) for it in await asyncio.gather(*tasks)]))

asyncio.run(main())
"#;

/// How many endpoints are suspect.
const SUSPECTS: &str = "proxy_agent_suspect_endpoints";

#[derive(Debug, Deserialize)]
struct Outcome {
    by: String,
    again: u32,
}

/// Connects to the Service from a place: its ClusterIPs, or the NodePorts of node 1. Somebody has to
/// answer each time.
fn connect(world: &World, from: &Namespace, is_inside: bool, count: usize) -> Result<Vec<Outcome>> {
    let outcomes = attempt(world, from, is_inside, count, "who")?;
    for it in &outcomes {
        ensure!(it.by.starts_with("pod-"), "{it:?}");
    }
    Ok(outcomes)
}

/// The same, whatever becomes of it.
fn attempt(
    world: &World,
    from: &Namespace,
    is_inside: bool,
    count: usize,
    what: &str,
) -> Result<Vec<Outcome>> {
    let mut python = from.command("python3");
    python.args(["-c", CONNECT, &count.to_string(), what]);
    for family in Family::BOTH {
        let to = if is_inside {
            mirror::cluster_ip(family)
        } else {
            world.node_port(1, family, mirror::NODE_PORT)
        };
        python.args([to.ip().to_string(), to.port().to_string()]);
    }
    let output = python.output()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    serde_json::from_slice(&output.stdout).context(told)
}

fn sent_again(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|it| it.again > 0).count()
}

fn metric(world: &World, name: &str) -> Result<usize> {
    let node = &world.cluster.nodes[0].namespace;
    let (_, text) = get(node, "http://127.0.0.1:10249/metrics")?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(value.with_context(|| format!("no {name}"))?.parse()?)
}

/// Waits until the agent of node 1 has said this of the endpoint of both IP versions.
fn wait_for_both(world: &World, mark: usize, what: &str) -> Result<()> {
    for family in Family::BOTH {
        let endpoint = world.cluster.pod(2, 1).addresses.of(family);
        let endpoint = std::net::SocketAddr::new(endpoint, mirror::PORT).to_string();
        world.agents[0].wait_for(mark, |event| {
            let message = event["fields"]["message"].as_str();
            message.is_some_and(|it| it.contains(what)) && event["fields"]["endpoint"] == endpoint
        })?;
    }
    Ok(())
}

/// Nothing that comes by this device arrives; whoever sends is not told.
fn darken(device: &str) -> String {
    format!(
        "add table netdev dark\n\
         add chain netdev dark in {{ type filter hook ingress device {device} priority 0; policy drop; }}\n"
    )
}

/// From each of these places, of which some are inside of the cluster; `how` is what makes the
/// namespace of the third endpoint dark.
fn are_left_alone(
    world: &World,
    places: &[(&Namespace, bool)],
    dark: &Namespace,
    how: &str,
) -> Result<()> {
    for &(from, is_inside) in places {
        // So that it is known that all answer.
        ensure!(sent_again(&connect(world, from, is_inside, 30)?) == 0);
        let mark = world.agents[0].mark();
        dark.nft(how)?;
        let outcomes = connect(world, from, is_inside, 60)?;
        ensure!(sent_again(&outcomes) > 0, "none went there: {outcomes:?}");
        wait_for_both(world, mark, "does not answer")?;

        let trials = metric(world, "proxy_agent_endpoint_trials_total")?;
        let outcomes = connect(world, from, is_inside, 60)?;
        let trials = metric(world, "proxy_agent_endpoint_trials_total")? - trials;
        ensure!(
            sent_again(&outcomes) <= trials,
            "{trials} trials: {outcomes:?}"
        );

        let mark = world.agents[0].mark();
        dark.nft("delete table netdev dark\n")?;
        // The next trial is soon, and takes a connection.
        while metric(world, SUSPECTS)? > 0 {
            connect(world, from, is_inside, 20)?;
        }
        wait_for_both(world, mark, "is used again")?;
        let outcomes = connect(world, from, is_inside, 60)?;
        ensure!(outcomes.iter().any(|it| it.by == "pod-2-1"), "{outcomes:?}");
    }
    Ok(())
}

fn world(arguments: &[&str]) -> Result<World> {
    let world = World::with_arguments(PodNetwork::Bridge, arguments)?;
    world.after_programming(|| mirror::add(&world.manifests))?;
    world.scale(mirror::NAME, &[(1, 1), (1, 2), (2, 1)])?;
    Ok(world)
}

#[test]
fn endpoints_of_a_node_that_is_dark_are_left_alone() -> Result<()> {
    let world = world(&[])?;
    let _servers = mirror::start([(1, 1), (1, 2), (2, 1)].map(|(n, p)| world.cluster.pod(n, p)))?;
    let places = [
        (&world.cluster.pod(1, 3).namespace, true),
        (&world.cluster.client, false),
    ];
    let dark = &world.cluster.nodes[1].namespace;
    are_left_alone(&world, &places, dark, &darken("eth0"))
}
