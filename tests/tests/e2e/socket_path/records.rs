//! What is remembered of sockets, and of clients.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result};
use aya::maps::{HashMap, Map, MapData};
use proxy_ebpf::layout::{SocketKey, SocketRecord, V4};
use proxy_tests::lab::{Agent, Family, PodNetwork, Tally, client, mirror};

use super::{ON, mirrors, python};
use crate::world::{World, cluster_ip};

/// A table of sockets of an agent, which it has open.
fn sockets(agent: &Agent) -> Result<HashMap<MapData, SocketKey<V4>, SocketRecord<V4>>> {
    for entry in fs::read_dir(format!("/proc/{}/fdinfo", agent.id()))? {
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let id = text.lines().find_map(|line| line.strip_prefix("map_id:"));
        let Some(id) = id else { continue };
        let map = MapData::from_id(id.trim().parse()?)?;
        if map.info()?.name_as_str() == Some("SOCKETS_V4") {
            return Ok(HashMap::try_from(Map::LruHashMap(map))?);
        }
    }
    Err(anyhow::anyhow!("the agent has no SOCKETS_V4"))
}

/// Sockets that are opened and closed by several processes, as fast as Python can, while
/// some stay open; those that nobody answers among them.
const CHURN: &str = r#"
import ctypes, struct, threading
CLONE_NEWCGROUP = 0x02000000
assert len(more) < 3 or ctypes.CDLL(None).unshare(CLONE_NEWCGROUP) == 0
TO, NOBODY = (address, port), (address, int(more[0]))
SECONDS = float(more[1])
# Closed by a reset, or there would be no ports left.
RESET = struct.pack("ii", 1, 0)

def connected(kind):
    it = open_socket(address, kind)
    it.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    it.connect(TO)
    return it

def refused():
    it = socket.socket()
    assert attempt(it.connect, NOBODY) == "ECONNREFUSED"
    return it

def asked():
    it = open_socket(address, UDP)
    it.sendto(b"who\n", TO)
    return it

def churn(make, until, count):
    while time.monotonic() < until:
        make().close()
        count[0] += 1

def main(until):
    ways = [lambda: connected(UDP), lambda: connected(UDP), lambda: connected(TCP), refused, asked]
    counts = [[0] for _ in ways]
    threads = [threading.Thread(target=churn, args=(it, until, count))
        for it, count in zip(ways, counts)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return sum(count[0] for count in counts)

kept = [connected(kind) for kind in (TCP, UDP) for _ in range(20)]
until, total = time.monotonic() + SECONDS, 0
pipes = []
for _ in range(3):
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, str(main(until)).encode())
        os._exit(0)
    pipes.append(reader)
for reader in pipes:
    count = os.read(reader, 100)
    os.wait()
    total += int(count)
print(f"{total / SECONDS:.0f} sockets a second", file=sys.stderr)
print(total > 0, all(it.getpeername() == TO for it in kept), flush=True)
"#;

#[test]
fn closed_sockets_leave_nothing_behind() -> Result<()> {
    let (world, _servers) = mirrors(PodNetwork::Bridge, &ON, &[(2, 1)])?;
    // The same endpoint, at a port where nobody listens.
    let nobody = mirror::PORT + 1;
    world.after_programming(|| {
        let text = world.manifests.read(mirror::NAME)?;
        let port =
            format!("    - {{name: nobody, protocol: TCP, port: {nobody}, nodePort: 30078}}\n");
        let slices = format!("{}-endpoints", mirror::NAME);
        let endpoints = world.manifests.read(&slices)?.replace(
            "ports: [",
            "ports: [{name: nobody, protocol: TCP, port: 7778}, ",
        );
        world.manifests.write(&slices, &endpoints)?;
        world
            .manifests
            .write(mirror::NAME, &format!("{text}{port}"))
    })?;
    let records = sockets(&world.agents[0])?;
    let to = mirror::cluster_ip(Family::V4);
    let nobody = nobody.to_string();
    for (who, from) in world.host_and_pod() {
        // Also where processes see another tree of cgroups.
        for more in [&[&nobody, "3"][..], &[&nobody, "1", "own cgroups"]] {
            assert_eq!(
                python(from, CHURN, to, more)?,
                "True True",
                "{who}, {more:?}"
            );
            assert_eq!(records.keys().count(), 0, "{who}, {more:?}: all are closed");
        }
    }
    Ok(())
}

#[test]
fn affinity_holds_for_processes_and_pods() -> Result<()> {
    let world = World::with_arguments(PodNetwork::Bridge, &ON)?;
    world.after_programming(|| {
        let text = world.manifests.read("web")?;
        let sticky = text.replace("sessionAffinity: None", "sessionAffinity: ClientIP");
        world.manifests.write("web", &sticky)
    })?;
    for (who, from) in world.host_and_pod() {
        for family in Family::BOTH {
            let to = (cluster_ip("web", family), 80).into();
            let tally = Tally::of(12, || client::http(from, to));
            assert_eq!(tally.failures, Vec::<String>::new(), "{who}");
            let answered: BTreeSet<_> = tally.answers.keys().collect();
            assert_eq!(answered.len(), 1, "{who}: {answered:?}");
        }
    }
    Ok(())
}

#[test]
fn a_record_is_there_while_its_socket_is_open() -> Result<()> {
    let (world, _servers) = mirrors(PodNetwork::Bridge, &ON, &[(2, 1)])?;
    let records = sockets(&world.agents[0])?;
    let script = "
it = open_socket(address, TCP)
it.connect((address, port))
print(os.getpid(), flush=True)
sys.stdin.read()
";
    let host = &world.cluster.nodes[0].namespace;
    let to = mirror::cluster_ip(Family::V4);
    let mut command = super::python_command(host, script, to, &[]);
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let stdout = child.stdout.take().context("no stdout")?;
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
    assert_eq!(records.keys().count(), 1);
    drop(child.stdin.take());
    child.wait()?;
    assert_eq!(records.keys().count(), 0);
    Ok(())
}

/// Sockets that the kernel knows no peer of when they are closed, or only the last one.
const WITHOUT_PEER: &str = r#"
import ctypes
libc = ctypes.CDLL(None)

def again(it, to):
    for _ in range(20):
        it.connect(to)

def dissolved(it, to):
    it.connect(to)
    # To an address of no family.
    assert libc.connect(it.fileno(), bytes(16), 16) == 0

def unreachable(it, to):
    assert attempt(it.connect, to) == "EHOSTUNREACH"

ways = [(UDP, again), (UDP, dissolved)] if more[0] == "reachable" else [
    (UDP, unreachable), (TCP, unreachable)]
for kind, way in ways:
    for mapped in (False, True):
        with open_socket(address, kind, mapped) as it:
            way(it, ("::ffff:" + address if mapped else address, port))
print("ok")
"#;

#[test]
fn closed_sockets_without_a_peer_leave_nothing_behind() -> Result<()> {
    let (world, _servers) = mirrors(PodNetwork::Bridge, &ON, &[(1, 1), (2, 1)])?;
    let records = sockets(&world.agents[0])?;
    let host = &world.cluster.nodes[0].namespace;
    let to = mirror::cluster_ip(Family::V4);
    assert_eq!(python(host, WITHOUT_PEER, to, &["reachable"])?, "ok");
    assert_eq!(records.keys().count(), 0, "connected to others, or to none");
    let pods = [(1, 1), (2, 1)].map(|(node, pod)| world.cluster.pod(node, pod));
    let routes = pods.map(|pod| format!("route add unreachable {}", pod.addresses.of(Family::V4)));
    host.ip(&routes)?;
    assert_eq!(python(host, WITHOUT_PEER, to, &["unreachable"])?, "ok");
    assert_eq!(records.keys().count(), 0, "never connected");
    Ok(())
}
