//! Source ports of flows to backends of other nodes: many connections, many at once,
//! and floods of connections that never open.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::client::Transport;
use proxy_tests::lab::mirror::{self, Conversation};
use proxy_tests::lab::{Family, PodNetwork, Process, addresses};

use crate::telling::get;
use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(5);

/// So few that each is needed again and again.
const FEW_PORTS: &str = "61000-61199";
const CONNECTIONS: &str = "3000";

/// Connections one after another to `address port`, ended in one `way`; prints how many
/// were not answered, or only when the SYN was sent again.
const ONE_BY_ONE: &str = "
import socket, struct, sys
address, port, count, way = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
failed = 0
TOTAL_RETRANS = 100  # struct tcp_info, linux/tcp.h
for _ in range(count):
    kind = socket.SOCK_DGRAM if way == 'udp' else socket.SOCK_STREAM
    s = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, kind)
    s.settimeout(10)
    try:
        s.connect((address, port))
        if way != 'udp':
            info = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
            failed += struct.unpack_from('I', info, TOTAL_RETRANS)[0] > 0
        s.send(b'who\\n')
        failed += not s.recv(100)
        if way == 'fin':
            # The server, too, has closed before the next one begins, however busy the machine is.
            s.shutdown(socket.SHUT_WR)
            failed += s.recv(1) != b''
    except OSError:
        failed += 1
    if way == 'rst':
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    s.close()
print(failed)
";

/// Listens on a port of all IPv4 addresses by four processes, and gives back what comes.
const HOLD: &str = "
import os, select, socket, sys
listener = socket.create_server(('', int(sys.argv[1])), backlog=4096)
print('listens')
for _ in range(3):
    if os.fork() == 0:
        break
listener.setblocking(False)
poll, open = select.epoll(), {}
poll.register(listener, select.EPOLLIN | select.EPOLLEXCLUSIVE)
while True:
    for number, _ in poll.poll():
        if number == listener.fileno():
            try:
                peer, _ = listener.accept()
            except BlockingIOError:
                continue
            open[peer.fileno()] = peer
            poll.register(peer, select.EPOLLIN)
        else:
            data = open[number].recv(100)
            if data:
                open[number].send(data)
            else:
                open.pop(number).close()
";

/// Connections to `address port` that are all open before the first is used, by so many
/// processes, so many each; prints how many gave back what was sent.
const MANY_AT_ONCE: &str = "
import os, socket, sys, struct
address, port, processes, each = sys.argv[1], *map(int, sys.argv[2:])
results, result = os.pipe()
ready, is_ready = os.pipe()
start, go = os.pipe()
for process in range(processes):
    if os.fork() == 0:
        os.close(go)
        answered, open = 0, []
        try:
            for _ in range(each):
                open.append(socket.create_connection((address, port), timeout=30))
        finally:
            os.write(is_ready, b'1')
        os.read(start, 1)
        for number, s in enumerate(open):
            data = struct.pack('!II', process, number)
            s.sendall(data)
            answered += s.recv(100) == data
        os.write(result, struct.pack('!I', answered))
        os._exit(0)
os.close(is_ready)
os.close(result)
for _ in range(processes):
    os.read(ready, 1)
os.close(go)
counts = iter(lambda: os.read(results, 4), b'')
print(sum(struct.unpack('!I', count)[0] for count in counts))
";

/// SYNs from as many sources as are asked for, 198.18.0.0 and on, to `address port`.
const FLOOD: &str = "
import socket, struct, sys
address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
to = socket.inet_aton(address)
def checksum(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
for number in range(count):
    source = struct.pack('!I', (198 << 24 | 18 << 16) + number)
    tcp = struct.pack('!HHIIBBHHH', 40000, port, number, 0, 5 << 4, 2, 1024, 0, 0)
    tcp = tcp[:16] + struct.pack('!H', checksum(source + to + struct.pack('!HH', 6, 20) + tcp)) + tcp[18:]
    ip = struct.pack('!BBHHHBBH', 0x45, 0, 40, 0, 0, 64, 6, 0) + source + to
    raw.sendto(ip + tcp, (address, 0))
print('sent')
";

/// A world where a pod of node 2 is the mirror's only endpoint, so that all from outside
/// that comes by node 1 leaves with its address.
fn far_endpoint(arguments: &[&str]) -> Result<World> {
    let world = World::with_arguments(PodNetwork::Bridge, arguments)?;
    world.after_programming(|| mirror::add(&world.manifests))?;
    world.scale(mirror::NAME, &[(2, 1)])?;
    Ok(world)
}

fn python(world: &World, script: &str, arguments: &[&str]) -> Command {
    let mut python = world.cluster.client.command("python3");
    python.args(["-c", script]).args(arguments);
    python
}

fn output(mut command: Command) -> Result<String> {
    let output = command.output().context("python3")?;
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

/// What the data path of node 1 has counted, for the message of a test that fails.
fn counters(world: &World) -> Result<String> {
    let (_, text) = get(
        &world.cluster.nodes[0].namespace,
        "http://127.0.0.1:10249/metrics",
    )?;
    let counted = text
        .lines()
        .filter(|line| line.starts_with("proxy_agent_") && line.contains("_total"))
        .filter(|line| !line.ends_with(" 0"));
    Ok(counted.collect::<Vec<_>>().join("\n"))
}

fn no_connection_fails(way: &str) -> Result<()> {
    let world = far_endpoint(&["--nat-ports", FEW_PORTS])?;
    let _servers = mirror::start([world.cluster.pod(2, 1)])?;
    for family in Family::BOTH {
        let to = world.node_port(1, family, mirror::NODE_PORT);
        let (address, port) = (to.ip().to_string(), to.port().to_string());
        let arguments = [address.as_str(), port.as_str(), CONNECTIONS, way];
        let failed = output(python(&world, ONE_BY_ONE, &arguments))?;
        assert_eq!(
            failed,
            "0",
            "{family} connections ended by {way}: {}",
            counters(&world)?
        );
    }
    Ok(())
}

#[test]
fn connections_that_were_closed_leave_their_ports() -> Result<()> {
    no_connection_fails("fin")
}

#[test]
fn connections_that_were_reset_leave_their_ports() -> Result<()> {
    no_connection_fails("rst")
}

#[test]
fn udp_sockets_that_were_used_once_leave_their_ports() -> Result<()> {
    no_connection_fails("udp")
}

#[test]
fn twenty_five_thousand_connections_are_open_at_once_to_one_endpoint() -> Result<()> {
    // A fifth of the table: some of 50,000 records find their home bucket full.
    let world = far_endpoint(&["--map-flows", "262144"])?;
    let mut server = world.cluster.pod(2, 1).namespace.command("python3");
    server.args(["-u", "-c", HOLD, &mirror::PORT.to_string()]);
    let server = Process::spawn("a server that holds connections", server)?;
    server.wait_for_line(PATIENCE, |line| line == "listens")?;
    let to = world.node_port(1, Family::V4, mirror::NODE_PORT);
    let (address, port) = (to.ip().to_string(), to.port().to_string());
    // Four, for a process may not open that many files.
    let arguments = [address.as_str(), port.as_str(), "4", "6250"];
    let answered = output(python(&world, MANY_AT_ONCE, &arguments))?;
    assert_eq!(answered, "25000", "{}", counters(&world)?);
    Ok(())
}

/// Spoofed connections that never open: those that are open go on, and honest clients
/// still get through, during the flood and after it. With all ports taken by the flood,
/// a connection that is just opening can lose its port to one of the flood's: then its
/// client has to ask again.
#[test]
fn a_flood_of_spoofed_connections_shuts_nobody_out() -> Result<()> {
    const SOURCES: &str = "100000";
    const ATTEMPTS: usize = 3;
    // Fewer ports, and much less room, than the flood has connections.
    let arguments = ["--nat-ports", "20000-22999", "--map-flows", "16384"];
    let world = far_endpoint(&arguments)?;
    let _servers = mirror::start([world.cluster.pod(2, 1)])?;
    let client = addresses::client().of(Family::V4);
    // What is answered comes back to the client, who knows nothing of it.
    world.cluster.nodes[0]
        .namespace
        .ip(&[format!("route add 198.18.0.0/15 via {client}")])?;
    let to = world.node_port(1, Family::V4, mirror::NODE_PORT);
    let from = &world.cluster.client;
    let mut open = from.run(|| {
        (0..50)
            .map(|_| Conversation::open(to, Transport::Tcp))
            .collect::<Result<Vec<_>>>()
    })??;
    // Twice: what is open has been heard more than once.
    ask_all(&mut open)?;

    let (address, port) = (to.ip().to_string(), to.port().to_string());
    let mut flood = python(&world, FLOOD, &[&address, &port, SOURCES]);
    let mut flood = flood.stdout(Stdio::piped()).spawn()?;
    let mut rounds = 0;
    let mut again = 0;
    let status = loop {
        if let Some(status) = flood.try_wait()? {
            break status;
        }
        ask_all(&mut open).context("an open connection, during the flood")?;
        let mut attempts = (0..ATTEMPTS).map(|_| from.run(|| mirror::ask(to, Transport::Tcp)));
        let lost = attempts.position(|answer| answer.is_ok_and(|it| it.is_ok()));
        again += lost.context("a new connection, during the flood")?;
        rounds += 1;
    };
    ensure!(status.success(), "the flood: {status}");
    ask_all(&mut open).context("an open connection, after the flood")?;
    for _ in 0..50 {
        from.run(|| mirror::ask(to, Transport::Tcp))?
            .context("a new connection, after the flood")?;
    }
    println!("{rounds} new connections during the flood, {again} had to ask again");
    ensure!(rounds > 3, "the flood was over too soon: {rounds} rounds");
    Ok(())
}

fn ask_all(open: &mut [Conversation]) -> Result<()> {
    for conversation in open {
        conversation.ask()?;
    }
    Ok(())
}
