//! What `proxy-agent trace` tells of real packets.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Map, MapData, RingBuf};
use proxy_agent::maps::PinnedMaps;
use proxy_ebpf::layout::{Counter, VERSION};
use proxy_tests::lab::client::{self, Transport};
use proxy_tests::lab::{Family, Namespace, Process, addresses};
use serde_json::Value;

use crate::restarts::{End, Lasting};
use crate::world::{EDGE_NODE_PORT, WEB_NODE_PORT, agent_program, cluster_ip};

const PATIENCE: Duration = Duration::from_secs(10);
/// Before a SYN is sent again.
const ONE_SYN: Duration = Duration::from_millis(500);

/// A `trace` on the first node.
struct Listener(Process);

impl Listener {
    fn start(it: &Lasting, arguments: &[&str]) -> Result<Self> {
        let node = &it.world.cluster.nodes[0].namespace;
        let mut command = node.command_with(Some(&it.bpffs), agent_program());
        command.args(["trace", "-o", "json"]).args(arguments);
        let process = Process::spawn("proxy-agent trace", command)?;
        process.wait_for_line(PATIENCE, |line| line.starts_with("Listening"))?;
        Ok(Self(process))
    }

    /// Ends it as Ctrl-C does; its events, and how many it has seen and lost.
    fn end(mut self) -> Result<(Vec<Value>, [u64; 2])> {
        self.0.signal(libc::SIGINT)?;
        let status = self.0.wait(PATIENCE)?;
        let lines = self.0.lines();
        ensure!(status.success(), "{status}: {lines:?}");
        parsed(&lines.join("\n"))
    }
}

/// The events in what was printed, and how many were seen and lost.
fn parsed(text: &str) -> Result<(Vec<Value>, [u64; 2])> {
    let lines = text.lines().filter(|line| line.starts_with('{'));
    let documents: Vec<Value> = lines.map(serde_json::from_str).collect::<Result<_, _>>()?;
    let of_kind = |kind: &'static str| documents.iter().filter(move |it| it["kind"] == kind);
    let summary = of_kind("TraceSummary").next_back().context("no summary")?;
    let number = |field: &str| summary[field].as_u64().context("a number");
    let events = of_kind("TraceEvent").cloned().collect();
    Ok((events, [number("seen")?, number("lost")?]))
}

/// The parts of an event that a test knows: what, where, between whom, of which Service, and why.
fn told(event: &Value) -> [String; 6] {
    let text = |field: &Value| field.as_str().unwrap_or("-").to_owned();
    let source = text(&event["source"]);
    let source = source.parse().map(|it: SocketAddr| it.ip().to_string());
    [
        text(&event["event"]),
        text(&event["device"]),
        source.unwrap_or_else(|_| "-".to_owned()),
        text(&event["destination"]),
        text(&event["service"]["name"]),
        text(&event["reason"]),
    ]
}

fn connect(from: &Namespace, to: SocketAddr) -> Result<Option<ErrorKind>> {
    let connect = || TcpStream::connect_timeout(&to, ONE_SYN);
    Ok(from.run(connect)?.err().map(|error| error.kind()))
}

/// Connects and asks on every path, and says what is to be told of it.
fn make_events(it: &Lasting) -> Result<Vec<[String; 6]>> {
    let world = &it.world;
    let pod = world.cluster.pod(1, 2);
    let outside = &world.cluster.client;
    let mut expected = Vec::new();
    for family in Family::BOTH {
        let from_pod = pod.addresses.of(family).to_string();
        let from_outside = addresses::client().of(family).to_string();
        let mut expect = |what: &str, is_pod, to: SocketAddr, service: &str, reason: &str| {
            let (device, from) = if is_pod {
                (pod.device.as_str(), &from_pod)
            } else {
                ("eth0", &from_outside)
            };
            let to = to.to_string();
            let parts = [what, device, from, &to, service, reason];
            expected.push(parts.map(str::to_owned));
        };
        let web = SocketAddr::new(cluster_ip("web", family), 80);
        client::http(&pod.namespace, web)?;
        expect("new", true, web, "web", "-");
        let node_port = world.node_port(1, family, WEB_NODE_PORT);
        client::http(outside, node_port)?;
        expect("new", false, node_port, "web", "-");

        let refused = Some(ErrorKind::ConnectionRefused);
        let edge = SocketAddr::new(cluster_ip("edge", family), 80);
        assert_eq!(connect(&pod.namespace, edge)?, refused);
        expect("answer", true, edge, "edge", "no_endpoints");
        let elsewhere = SocketAddr::new(cluster_ip("web", family), 81);
        assert_eq!(connect(&pod.namespace, elsewhere)?, refused);
        expect("answer", true, elsewhere, "-", "no_such_port");
        let dns = SocketAddr::new(cluster_ip("dns", family), 53);
        assert!(client::dns(&pod.namespace, dns, Transport::Udp).is_err());
        expect("answer", true, dns, "dns", "no_endpoints");
    }
    Ok(expected)
}

#[test]
fn each_flow_and_each_refusal_is_told_once_with_or_without_an_agent() -> Result<()> {
    let mut it = Lasting::without_agent()?;
    it.start()?;
    it.scale("edge", &[])?;
    it.scale("dns", &[])?;
    let listener = Listener::start(&it, &[])?;
    let mut expected = make_events(&it)?;
    let node = &it.world.cluster.nodes[0].namespace;
    let mut second = node.command_with(Some(&it.bpffs), agent_program());
    let second = second.arg("trace").output()?;
    let error = String::from_utf8(second.stderr)?;
    assert_eq!(second.status.code(), Some(2), "{error}");
    assert!(error.contains("another `proxy-agent trace`"), "{error}");
    let (events, counts) = listener.end()?;
    let events: Vec<_> = events.iter().map(told).collect();
    assert_eq!(events, expected);
    assert_eq!(counts, [expected.len() as u64, 0]);

    it.end(End::Killed)?;
    let drops = Listener::start(&it, &["--drops"])?;
    expected = make_events(&it)?;
    expected.retain(|parts| parts[0] != "new");
    let (events, _) = drops.end()?;
    assert_eq!(events.iter().map(told).collect::<Vec<_>>(), expected);

    let of_web = Listener::start(&it, &["--new", "--service", "default/web"])?;
    expected = make_events(&it)?;
    expected.retain(|parts| parts[0] == "new");
    let (events, _) = of_web.end()?;
    assert_eq!(events.iter().map(told).collect::<Vec<_>>(), expected);
    let endpoint = events[0]["endpoint"].as_str().context("an endpoint")?;
    assert!(endpoint.ends_with(":8080"), "{endpoint}");
    Ok(())
}

#[test]
fn a_policy_without_a_local_endpoint_is_told_as_a_drop() -> Result<()> {
    let mut it = Lasting::without_agent()?;
    it.start()?;
    let listener = Listener::start(&it, &["--service", "default/edge"])?;
    let edge = it.world.node_port(1, Family::V4, EDGE_NODE_PORT);
    let outcome = connect(&it.world.cluster.client, edge)?;
    assert_eq!(outcome, Some(ErrorKind::TimedOut));
    let (events, _) = listener.end()?;
    let events: Vec<_> = events.iter().map(told).collect();
    let from = addresses::client().of(Family::V4).to_string();
    let parts = [
        "drop",
        "eth0",
        &from,
        &edge.to_string(),
        "edge",
        "no_local_endpoints",
    ];
    assert_eq!(events, [parts.map(str::to_owned)]);
    Ok(())
}

#[test]
fn connections_of_sockets_are_told_where_they_are_translated() -> Result<()> {
    let mut it = Lasting::without_agent()?;
    it.arguments = vec!["--socket-path".to_owned(), "on".to_owned()];
    it.start()?;
    it.scale("edge", &[])?;
    let listener = Listener::start(&it, &[])?;
    let pod = &it.world.cluster.pod(1, 2).namespace;
    for family in Family::BOTH {
        client::http(pod, SocketAddr::new(cluster_ip("web", family), 80))?;
        let edge = SocketAddr::new(cluster_ip("edge", family), 80);
        assert!(client::http(pod, edge).is_err());
    }
    let (events, counts) = listener.end()?;
    let events: Vec<_> = events.iter().map(told).collect();
    let mut expected = Vec::new();
    for family in Family::BOTH {
        for (what, service, reason) in [("new", "web", "-"), ("refuse", "edge", "no_endpoints")] {
            let to = SocketAddr::new(cluster_ip(service, family), 80).to_string();
            let parts = [what, "-", "-", &to, service, reason];
            expected.push(parts.map(str::to_owned));
        }
    }
    assert_eq!(events, expected);
    assert_eq!(counts, [4, 0]);
    Ok(())
}

/// How many packets the programs have refused for want of endpoints.
fn refused(it: &Lasting) -> Result<u64> {
    let counters = PinnedMaps::open(&it.bpffs.path())?.counters()?;
    let found = counters.iter().find(|(it, _)| *it == Counter::NoEndpoints);
    Ok(found.context("the counter")?.1)
}

#[test]
fn what_is_lost_at_a_high_rate_is_counted() -> Result<()> {
    const DATAGRAMS: u64 = 30_000;
    let mut it = Lasting::without_agent()?;
    it.start()?;
    it.scale("dns", &[])?;
    let node = &it.world.cluster.nodes[0].namespace;
    let mut command = node.command_with(Some(&it.bpffs), agent_program());
    command.args(["trace", "-o", "json"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut said = BufReader::new(child.stderr.take().context("no stderr")?);
    let mut first = String::new();
    said.read_line(&mut first)?;
    assert!(first.starts_with("Listening"), "{first}");

    // Nobody reads what it prints: it waits with a full pipe, and so the ring buffer fills.
    let before = refused(&it)?;
    let pod = &it.world.cluster.pod(1, 2).namespace;
    let dns = SocketAddr::new(cluster_ip("dns", Family::V4), 53);
    pod.run(|| -> Result<()> {
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        for _ in 0..DATAGRAMS {
            socket.send_to(b"who", dns)?;
        }
        Ok(())
    })??;
    let happened = refused(&it)? - before;
    assert!(happened > DATAGRAMS / 2, "{happened}");

    let mut kill = node.command("kill");
    let killed = kill.args(["-INT", &child.id().to_string()]).status()?;
    assert!(killed.success());
    let mut text = String::new();
    let mut out = child.stdout.take().context("no stdout")?;
    out.read_to_string(&mut text)?;
    let status = child.wait()?;
    let (events, [seen, lost]) = parsed(&text)?;
    println!("{happened} refused: {seen} seen, {lost} lost");
    assert_eq!(status.code(), Some(1), "some were lost");
    assert!(lost > 0 && seen > 1000);
    assert_eq!(seen + lost, happened);
    assert_eq!(events.len() as u64, seen);
    Ok(())
}

#[test]
fn after_a_listener_was_killed_its_lease_lapses() -> Result<()> {
    let mut it = Lasting::without_agent()?;
    it.start()?;
    let pod = &it.world.cluster.pod(1, 2).namespace;
    let web = SocketAddr::new(cluster_ip("web", Family::V4), 80);
    let listener = Listener::start(&it, &[])?;
    client::http(pod, web)?;
    let is_event = |line: &str| line.contains("TraceEvent");
    listener.0.wait_for_line(PATIENCE, is_event)?;
    // By SIGKILL.
    drop(listener);

    let folder = it.bpffs.path().join(format!("proxy-agent/maps-{VERSION}"));
    let map = Map::from_map_data(MapData::from_pin(folder.join("TRACE_EVENTS"))?)?;
    let mut ring = RingBuf::try_from(map)?;
    let killed = Instant::now();
    loop {
        client::http(pod, web)?;
        let mut events = 0;
        while ring.next().is_some() {
            events += 1;
        }
        if events == 0 {
            break;
        }
        ensure!(killed.elapsed() < PATIENCE, "the programs still tell");
    }
    println!("no event after {:?}", killed.elapsed());

    let next = Listener::start(&it, &[])?;
    client::http(pod, web)?;
    let (events, counts) = next.end()?;
    assert_eq!((events.len(), counts), (1, [1, 0]));
    Ok(())
}
