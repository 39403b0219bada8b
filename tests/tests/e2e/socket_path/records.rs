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

/// Sockets that are opened and closed, as fast as Python can, while some stay open.
const CHURN: &str = r#"
import struct, threading
TO = (address, port)
# Closed by a reset, or there would be no ports left.
RESET = struct.pack("ii", 1, 0)

def connected(kind):
    it = open_socket(address, kind)
    it.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    it.connect(TO)
    return it

kept = [connected(kind) for kind in (TCP, UDP) for _ in range(20)]

def churn(kind, count):
    for _ in range(count):
        connected(kind).close()

threads = [threading.Thread(target=churn, args=it) for it in ((UDP, 10000), (UDP, 10000), (TCP, 1000))]
began = time.monotonic()
for thread in threads: thread.start()
for thread in threads: thread.join()
print(f"{21000 / (time.monotonic() - began):.0f} sockets a second", file=sys.stderr)
print(all(it.getpeername() == TO for it in kept), flush=True)
sys.stdin.read()
"#;

#[test]
fn closed_sockets_leave_nothing_behind() -> Result<()> {
    let (world, _servers) = mirrors(PodNetwork::Bridge, &ON, &[(2, 1)])?;
    let host = &world.cluster.nodes[0].namespace;
    let records = sockets(&world.agents[0])?;
    let told = python(host, CHURN, mirror::cluster_ip(Family::V4), &[])?;
    assert_eq!(told, "True");
    assert_eq!(records.keys().count(), 0, "all sockets are closed");
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
