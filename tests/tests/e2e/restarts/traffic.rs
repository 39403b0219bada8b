//! Traffic that goes on while agents end and start.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::mirror;
use proxy_tests::lab::{Family, Load, Process};

use super::{End, Lasting, PATIENCE, ask_all, conversations};
use crate::metrics::{metrics, value};
use crate::rules::edit;
use crate::world::{WEB_NODE_PORT, agent_program, cluster_ip};

fn restarts_disturb_nobody(arguments: &[&str]) -> Result<()> {
    let mut it = Lasting::new(arguments)?;
    it.add_mirror()?;
    it.scale(mirror::NAME, &[(2, 1)])?;
    let _servers = mirror::start([it.world.cluster.pod(2, 1)])?;
    let mut open = conversations(&it.world)?;
    ask_all(&mut open, "pod-2-1")?;

    let frontend = SocketAddr::new(cluster_ip("web", Family::V4), 80);
    let inside = Load::start(&it.world.cluster.pod(1, 3).namespace, frontend, 1)?;
    let node_port = it.world.node_port(1, Family::V6, WEB_NODE_PORT);
    let outside = Load::start(&it.world.cluster.client, node_port, 1)?;
    for end in [End::Stopped, End::Killed, End::Stopped, End::Killed] {
        it.end(end)?;
        for load in [&inside, &outside] {
            load.next_phase();
            load.wait_for_requests(10, PATIENCE)?;
        }
        ask_all(&mut open, "pod-2-1").with_context(|| format!("{end:?}, without an agent"))?;
        it.start()?;
        for load in [&inside, &outside] {
            load.next_phase();
            load.wait_for_requests(10, PATIENCE)?;
        }
        ask_all(&mut open, "pod-2-1").with_context(|| format!("{end:?}, with another agent"))?;
    }
    for load in [inside, outside] {
        let phases = load.stop()?;
        let failures: Vec<_> = phases.iter().flat_map(|phase| &phase.failures).collect();
        assert_eq!(failures, Vec::<&String>::new());
    }
    Ok(())
}

#[test]
fn restarts_disturb_no_connection() -> Result<()> {
    restarts_disturb_nobody(&[])
}

#[test]
fn restarts_with_filters_disturb_no_connection() -> Result<()> {
    restarts_disturb_nobody(&["--attach", "clsact"])
}

/// While an agent takes over, its programs and the last one's hand packets to each other:
/// not one of datagrams may be lost, which nobody sends again.
fn restarts_lose_no_datagram(forwarding: Option<&str>) -> Result<()> {
    let mut it = Lasting::new(&[])?;
    it.add_mirror()?;
    if let Some(forwarding) = forwarding {
        let mark = it.agent().mark();
        let annotations = format!("annotations: {{proxy-agent/forwarding: {forwarding}}}");
        let with = format!("namespace: default, {annotations}}}");
        edit(&it.world, |service| {
            service.replace("namespace: default}", &with)
        })?;
        it.agent().wait_ports_programmed_after(mark)?;
    }
    it.scale(mirror::NAME, &[(2, 1)])?;
    let _servers = mirror::start([it.world.cluster.pod(2, 1)])?;
    let mut open = conversations(&it.world)?;
    let is_over = Arc::new(AtomicBool::new(false));
    let stop = is_over.clone();
    let asking = thread::spawn(move || -> Result<usize> {
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            ask_all(&mut open, "pod-2-1").with_context(|| format!("question {count}"))?;
            count += 1;
        }
        Ok(count)
    });
    for end in [End::Stopped, End::Killed, End::Stopped, End::Killed] {
        it.end(end)?;
        it.start()?;
    }
    is_over.store(true, Ordering::Relaxed);
    let count = asking.join().expect("no panic")?;
    let metrics = metrics(&it.world.cluster.nodes[0].namespace)?;
    let labels = [("direction", "encapsulated")];
    let in_tunnels = value(&metrics, "proxy_agent_tunnel_packets_total", &labels)?;
    println!("{count} questions in each way, {in_tunnels} packets in tunnels");
    assert!(count > 100, "{count} questions");
    assert_eq!(in_tunnels > 400.0, forwarding.is_some(), "{in_tunnels}");
    Ok(())
}

#[test]
fn restarts_lose_no_datagram_that_is_translated() -> Result<()> {
    restarts_lose_no_datagram(None)
}

#[test]
fn restarts_lose_no_datagram_that_leaves_in_a_tunnel() -> Result<()> {
    restarts_lose_no_datagram(Some("dsr"))
}

/// Connects and asks anew all the time, in each way; tells how often, and what went wrong.
const HOST_TRAFFIC: &str = r#"
import signal, socket, sys, threading
to, stop, failures = (sys.argv[1], int(sys.argv[2])), threading.Event(), []
# Whether those sockets too know whom they asked that are open during a restart.
has_names = True

def ask(kind, connects):
    with socket.socket(socket.AF_INET, kind) as it:
        it.settimeout(3)
        if connects:
            it.connect(to)
            it.send(b"who\n")
            peer = it.getpeername()
            assert peer == to or not has_names, peer
        else:
            it.sendto(b"who\n", to)
        answer, source = it.recvfrom(100)
        assert source in (to, None) or not has_names, source
        assert answer.startswith(b"pod-2-1 "), answer

def go_on(name, kind, connects):
    count = 0
    while not stop.is_set():
        try:
            ask(kind, connects)
        except Exception as error:
            failures.append(f"{name}: {error!r}")
        count += 1
        if count % 20 == 0:
            print(name, count, flush=True)
        # The agents need some time too.
        stop.wait(0.002)

def without_names(*_):
    global has_names
    has_names = False
    print("without names", flush=True)

signal.signal(signal.SIGTERM, lambda *_: stop.set())
signal.signal(signal.SIGUSR1, without_names)
ways = [("tcp", socket.SOCK_STREAM, True), ("connected", socket.SOCK_DGRAM, True),
    ("datagrams", socket.SOCK_DGRAM, False)]
threads = [threading.Thread(target=go_on, args=way) for way in ways]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("failures:", *failures, flush=True)
"#;

/// Waits until each way has been gone several times more.
fn goes_on(traffic: &Process) -> Result<()> {
    let mark = traffic.mark();
    for way in ["tcp ", "connected ", "datagrams "] {
        let mut rounds = 0;
        traffic.wait_for_line_after(mark, PATIENCE, |line| {
            rounds += usize::from(line.starts_with(way));
            rounds == 3
        })?;
    }
    Ok(())
}

#[test]
fn a_hosts_processes_notice_no_restart() -> Result<()> {
    let mut it = Lasting::new(&["--socket-path", "on"])?;
    it.add_mirror()?;
    it.scale(mirror::NAME, &[(2, 1)])?;
    let _servers = mirror::start([it.world.cluster.pod(2, 1)])?;
    let to = mirror::cluster_ip(Family::V4);
    let mut command = it.world.cluster.nodes[0].namespace.command("python3");
    command.args(["-u", "-c", HOST_TRAFFIC]);
    command.args([to.ip().to_string(), to.port().to_string()]);
    let traffic = Process::spawn("a host's traffic", command)?;
    goes_on(&traffic)?;
    for end in [End::Stopped, End::Killed, End::Killed] {
        it.end(end)?;
        goes_on(&traffic)?;
        it.start()?;
        goes_on(&traffic)?;
    }
    // Other sizes: the sockets' records are carried over.
    it.arguments.extend(["--map-flows=65536".to_owned()]);
    it.end(End::Stopped)?;
    it.start()?;
    goes_on(&traffic)?;
    // Maps that cannot be used, and an API server that is away: the programs of the last
    // agent go on. Names are in the old maps then.
    traffic.signal(libc::SIGUSR1)?;
    traffic.wait_for_line(PATIENCE, |line| line == "without names")?;
    it.end(End::Killed)?;
    let folders = it.bpffs.list("proxy-agent")?;
    let maps = folders.iter().find(|name| name.starts_with("maps-"));
    let map = format!(
        "/sys/fs/bpf/proxy-agent/{}/FRONTENDS_V4",
        maps.context("a folder of maps")?
    );
    let node = &it.world.cluster.nodes[0].namespace;
    let removed = node.command_with(Some(&it.bpffs), "rm").arg(map).status()?;
    ensure!(removed.success(), "rm: {removed}");
    let mut command = node.command_with(Some(&it.bpffs), agent_program());
    command.args(["run", "--node-name", "node1", "--log-format", "json"]);
    command.args(["--socket-path", "on", "--cgroup"]);
    command.arg(node.cgroup().context("a cgroup")?.path());
    command.args(["--source", "kube", "--master", "http://192.0.2.254:1"]);
    let waiting = Process::spawn("an agent whose API server is away", command)?;
    for text in [
        "cannot use the pinned maps of the previous agent",
        "\"started\"",
    ] {
        waiting.wait_for_line(PATIENCE, |line| line.contains(text))?;
    }
    goes_on(&traffic)?;
    waiting.terminate(PATIENCE)?;
    goes_on(&traffic)?;
    it.start()?;
    goes_on(&traffic)?;
    traffic.signal(libc::SIGTERM)?;
    let told = traffic.wait_for_line(PATIENCE, |line| line.starts_with("failures:"))?;
    assert_eq!(told, "failures:");
    Ok(())
}
