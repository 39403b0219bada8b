//! Path MTU discovery through Services: whoever sends what is too long for a part of the
//! way learns it, and sends less at a time.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::{Family, Namespace, PodNetwork, mirror};

use crate::world::{WEB_NODE_PORT, World, cluster_ip};

/// What the narrow part of the way lets through; all else has 1500. (Where packets are sent
/// on, an IPv4 route's own MTU counts only if it is locked, `ip_mtu_from_fib_result` in
/// `net/ipv4/route.c`.)
const MTU: u32 = 1300;
/// The length of the page that does not fit into one packet.
const PAGE: usize = 300_000;

/// A world whose HTTP servers have a long page, with these pods behind the Service `web`.
fn world(pods: &[(usize, usize)]) -> Result<World> {
    let world = World::new(PodNetwork::Routed)?;
    for pod in world.cluster.pods() {
        let page = world.cluster.directory.path().join("www").join(&pod.name);
        fs::write(page.join("long"), vec![b'x'; PAGE])?;
    }
    world.scale("web", pods)?;
    Ok(world)
}

fn curl(from: &Namespace, to: SocketAddr) -> Command {
    let mut command = from.command("curl");
    command.args(["-g", "--silent", "--show-error", "--max-time", "5"]);
    command.args(["--noproxy", "*"]);
    command.arg(format!("http://{to}/long"));
    command
}

/// Fetches the long page.
fn download(from: &Namespace, to: SocketAddr) -> Result<()> {
    let output = curl(from, to).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let length = output.stdout.len();
    ensure!(length == PAGE, "{to}: {length} bytes, {errors}");
    Ok(())
}

/// Sends a request that is longer than the narrow part lets through; the server refuses
/// to read it as a page's name, once it has it all.
pub(crate) fn upload(from: &Namespace, to: SocketAddr) -> Result<()> {
    let mut command = curl(from, to);
    let header = "y".repeat(20_000);
    command.args(["--header", &format!("X-Long: {header}")]);
    let output = command.output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{to}: {errors}");
    Ok(())
}

/// The path MTU that the kernel of a namespace has learned.
pub(crate) fn learned(at: &Namespace, to: IpAddr) -> Result<Option<u32>> {
    let mut command = at.command("ip");
    command.args(["-oneline", "route", "get", &to.to_string()]);
    let output = command.output().context("ip: start")?;
    let route = String::from_utf8(output.stdout)?;
    let mtu = route.split(" mtu ").nth(1);
    Ok(mtu.and_then(|rest| rest.split_whitespace().next()?.parse().ok()))
}

fn is_learned(at: &Namespace, to: IpAddr) -> Result<()> {
    let learned = learned(at, to)?;
    ensure!(learned == Some(MTU), "to {to}: {learned:?}");
    Ok(())
}

/// The narrow part is behind the node that sends the packets on.
#[test]
fn on_the_way_to_an_endpoint_of_another_node() -> Result<()> {
    let world = world(&[(2, 1)])?;
    let (node, pod) = (&world.cluster.nodes[0], world.cluster.pod(2, 1));
    for family in Family::BOTH {
        let to = world.node_port(1, family, WEB_NODE_PORT);
        let client = &world.cluster.client;
        upload(client, to)?;
        let (address, via) = (
            pod.addresses.of(family),
            world.cluster.nodes[1].addresses.of(family),
        );
        let route = format!("route replace {address} via {via} dev eth0 mtu lock {MTU}");
        node.namespace.ip(&[route])?;
        upload(client, to)?;
        is_learned(client, to.ip())?;
    }
    Ok(())
}

/// The narrow part is the node's own device, and the node's stack tells.
#[test]
fn on_the_way_to_an_endpoint_of_the_node() -> Result<()> {
    let world = world(&[(1, 1)])?;
    let (node, pod) = (&world.cluster.nodes[0], world.cluster.pod(1, 1));
    for family in Family::BOTH {
        let address = pod.addresses.of(family);
        let route = format!("route replace {address} dev {} mtu {MTU}", pod.device);
        node.namespace.ip(&[route])?;
        let outside = world.node_port(1, family, WEB_NODE_PORT);
        upload(&world.cluster.client, outside)?;
        is_learned(&world.cluster.client, outside.ip())?;
        let inside = SocketAddr::new(cluster_ip("web", family), 80);
        let other = &world.cluster.pod(1, 2).namespace;
        upload(other, inside)?;
        is_learned(other, inside.ip())?;
    }
    Ok(())
}

/// The narrow part is on the way of the replies: their sender is the endpoint.
#[test]
fn on_the_way_back_to_the_client() -> Result<()> {
    let world = world(&[(2, 1)])?;
    let (node, pod) = (&world.cluster.nodes[0], world.cluster.pod(2, 1));
    let client = &world.cluster.client;
    for family in Family::BOTH {
        let to = world.node_port(1, family, WEB_NODE_PORT);
        download(client, to)?;
        let address = match family {
            Family::V4 => "172.31.0.100",
            Family::V6 => "fd00:31::100",
        };
        let route = format!("route replace {address} dev eth0 mtu lock {MTU}");
        node.namespace.ip(&[route])?;
        download(client, to)?;
        is_learned(&pod.namespace, to.ip())?;
    }
    Ok(())
}

/// Lets less through on node1's way to the endpoint on node2.
fn narrow(world: &World, family: Family) -> Result<()> {
    let pod = world.cluster.pod(2, 1).addresses.of(family);
    let via = world.cluster.nodes[1].addresses.of(family);
    let route = format!("route replace {pod} via {via} dev eth0 mtu lock {MTU}");
    world.cluster.nodes[0].namespace.ip(&[route])
}

const PATIENCE: Duration = Duration::from_secs(5);

/// In the middle of a connection, and of a socket's datagrams.
#[test]
fn that_changes_while_a_client_sends() -> Result<()> {
    let world = World::new(PodNetwork::Routed)?;
    let _mirrors = mirror::start(world.cluster.pods())?;
    world.after_programming(|| mirror::add(&world.manifests))?;
    world.scale(mirror::NAME, &[(2, 1)])?;
    let line = [vec![b'x'; 100_000].as_slice(), b"\n"].concat();
    for family in Family::BOTH {
        let to = world.node_port(1, family, mirror::NODE_PORT);
        world.cluster.client.run(|| -> Result<()> {
            let mut stream = BufReader::new(TcpStream::connect(to)?);
            stream.get_ref().set_read_timeout(Some(PATIENCE))?;
            let mut ask = || -> Result<()> {
                stream.get_mut().write_all(&line)?;
                let mut answer = String::new();
                stream.read_line(&mut answer)?;
                ensure!(answer.starts_with("pod-2-1 "), "{answer:?}");
                Ok(())
            };
            let any: IpAddr = match family {
                Family::V4 => [0; 4].into(),
                Family::V6 => [0; 16].into(),
            };
            let socket = UdpSocket::bind((any, 0))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.connect(to)?;
            let mut answer = [0; 64];
            let mut ask_udp = || -> Result<usize> {
                socket.send(&line[..1400])?;
                Ok(socket.recv(&mut answer)?)
            };
            ask()?;
            ask_udp()?;
            narrow(&world, family)?;
            ask().context("TCP, in a narrower way")?;
            // The stream's sender has told the host, which sends in fragments now.
            ask_udp().context("UDP, in a narrower way")?;
            Ok(())
        })??;
        is_learned(&world.cluster.client, to.ip())?;
    }
    Ok(())
}

/// Sixty-four Service ports, for a program that counts its probes by ports.
const PROBED: &str = "\
apiVersion: v1
kind: Service
metadata: {name: probed, namespace: default}
spec:
  type: NodePort
  clusterIP: 10.96.0.64
  clusterIPs: [10.96.0.64, 'fd00:10:96::64']
  ports:
";
const FIRST_PROBE: u16 = 31_000;

fn add_probed(world: &World) -> Result<()> {
    let ports = |line: &dyn Fn(u16) -> String| (0..64).map(line).collect::<String>();
    let of_service = ports(&|it| {
        let node_port = FIRST_PROBE + it;
        format!("  - {{name: p{it}, protocol: UDP, port: {node_port}, nodePort: {node_port}}}\n")
    });
    let of_slice = ports(&|it| format!("- {{name: p{it}, protocol: UDP, port: {}}}\n", 9_000 + it));
    let pod = world.cluster.pod(2, 1);
    let slice = |family| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: probed-{family}, namespace: default, \
             labels: {{kubernetes.io/service-name: probed}}}}\n\
             addressType: {family}\nendpoints: [{{addresses: ['{}'], nodeName: {}}}]\n\
             ports:\n{of_slice}",
            pod.addresses.of(family),
            pod.node,
        )
    };
    let slices = Family::BOTH.map(slice).concat();
    world.manifests.write("probed-endpoints", &slices)?;
    let service = format!("{PROBED}{of_service}");
    world.after_programming(|| world.manifests.write("probed", &service))
}

/// tracepath asks by datagrams that are too long, or live too short, and lives on ICMP
/// errors alone; nobody listens at the endpoint, so that an error is its last answer, too.
#[test]
fn is_found_out_by_tracepath() -> Result<()> {
    let world = World::new(PodNetwork::Routed)?;
    add_probed(&world)?;
    for family in Family::BOTH {
        narrow(&world, family)?;
        let node = world.cluster.nodes[0].addresses.of(family);
        let cluster_ip: IpAddr = match family {
            Family::V4 => [10, 96, 0, 64].into(),
            Family::V6 => "fd00:10:96::64".parse()?,
        };
        let pod = &world.cluster.pod(1, 2).namespace;
        for (from, to) in [(&world.cluster.client, node), (pod, cluster_ip)] {
            let mut command = from.command("tracepath");
            command.args(["-n", "-p", &FIRST_PROBE.to_string(), &to.to_string()]);
            let output = String::from_utf8(command.output()?.stdout)?;
            println!("from {} to {to}:\n{output}", from.name());
            ensure!(!output.contains("no reply"), "a hop said nothing");
            let last = output.lines().last().unwrap_or_default();
            ensure!(last.contains(&format!("pmtu {MTU}")), "{last:?}");
            let reached = output.lines().find(|line| line.contains("reached"));
            let reached = reached.context("the endpoint did not answer")?;
            ensure!(reached.contains(&to.to_string()), "{reached:?}");
        }
    }
    Ok(())
}
