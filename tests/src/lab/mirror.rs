//! A Service whose endpoints tell who answers and whom they see, line by line.
//!
//! A connection stays open for as many questions as its client has, so that it
//! can outlive changes; the same for a UDP socket.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    addresses::Family,
    client::Transport,
    manifests::Manifests,
    namespace::Namespace,
    node::{Node, Pod},
    process::Process,
};

/// The name of the Service, for [`Manifests::set_endpoints`].
pub const NAME: &str = "mirror";
/// The Service's port, and its endpoints', for TCP and UDP.
pub const PORT: u16 = 7777;
/// Its NodePort, for TCP and UDP.
pub const NODE_PORT: u16 = 30077;
const TIMEOUT: Duration = Duration::from_secs(10);
const STARTED: &str = "mirror started";

const SERVER: &str = r#"
import socket, socketserver, sys, threading

def answer(client):
    return f"{sys.argv[1]} {client[0]}\n".encode()

class Tcp(socketserver.StreamRequestHandler):
    def handle(self):
        for _ in self.rfile:
            self.wfile.write(answer(self.client_address))

class Udp(socketserver.BaseRequestHandler):
    def handle(self):
        # As long as the question, at least.
        told = answer(self.client_address)[:-1].ljust(len(self.request[0]) - 1)
        self.request[1].sendto(told + b"\n", self.client_address)

def start(kind, handler):
    kind.address_family, kind.daemon_threads, kind.request_queue_size = socket.AF_INET6, True, 2048
    server = kind((sys.argv[3], int(sys.argv[2])), handler)
    threading.Thread(target=server.serve_forever).start()

start(socketserver.ThreadingTCPServer, Tcp)
start(socketserver.UDPServer, Udp)
print("mirror started")
"#;

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: mirror, namespace: default}
spec:
  type: NodePort
  clusterIP: 10.96.0.77
  clusterIPs: [10.96.0.77, 'fd00:10:96::77']
  internalTrafficPolicy: Cluster
  externalTrafficPolicy: Cluster
  ports:
    - {name: tcp, protocol: TCP, port: 7777, nodePort: 30077}
    - {name: udp, protocol: UDP, port: 7777, nodePort: 30077}
";

const ENDPOINTS: &str = "\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: mirror-4, namespace: default, labels: {kubernetes.io/service-name: mirror}}
addressType: IPv4
ports: [{name: tcp, protocol: TCP, port: 7777}, {name: udp, protocol: UDP, port: 7777}]
endpoints: []
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: mirror-6, namespace: default, labels: {kubernetes.io/service-name: mirror}}
addressType: IPv6
ports: [{name: tcp, protocol: TCP, port: 7777}, {name: udp, protocol: UDP, port: 7777}]
endpoints: []
";

/// The Service's ClusterIP with its port.
pub fn cluster_ip(family: Family) -> SocketAddr {
    let address: IpAddr = match family {
        Family::V4 => Ipv4Addr::new(10, 96, 0, 77).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0x77).into(),
    };
    SocketAddr::new(address, PORT)
}

/// Adds the Service to a folder of manifests, without endpoints.
pub fn add(manifests: &Manifests) -> Result<()> {
    manifests.write(&format!("{NAME}-endpoints"), ENDPOINTS)?;
    manifests.write(NAME, SERVICE)
}

/// Starts a server in each pod.
pub fn start<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> Result<Vec<Process>> {
    let servers = pods
        .into_iter()
        .map(|pod| spawn(&pod.namespace, &pod.name, Ipv6Addr::UNSPECIFIED))
        .collect::<Result<Vec<_>>>()?;
    for server in &servers {
        server.wait_for_line(TIMEOUT, |line| line == STARTED)?;
    }
    Ok(servers)
}

/// Starts a server on a node itself, at one of its addresses or, with the unspecified one, at all.
pub fn start_on(node: &Node, address: IpAddr) -> Result<Process> {
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let server = spawn(&node.namespace, &node.name, address)?;
    server.wait_for_line(TIMEOUT, |line| line == STARTED)?;
    Ok(server)
}

fn spawn(at: &Namespace, name: &str, address: Ipv6Addr) -> Result<Process> {
    let mut command = at.command("python3");
    command.args([
        "-u",
        "-c",
        SERVER,
        name,
        &PORT.to_string(),
        &address.to_string(),
    ]);
    Process::spawn(&format!("mirror of {name}"), command)
}

/// What a mirror says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The name of the pod that answered.
    pub pod: String,
    /// Whom the pod saw.
    pub peer: IpAddr,
}

/// A socket that goes on asking; opened in the namespace of the thread.
#[derive(Debug)]
pub enum Conversation {
    /// One connection.
    Tcp(BufReader<TcpStream>),
    /// One connected socket.
    Udp(UdpSocket),
}

impl Conversation {
    /// Opens a socket to a mirror's frontend.
    pub fn open(to: SocketAddr, transport: Transport) -> Result<Self> {
        match transport {
            Transport::Tcp => {
                let stream = TcpStream::connect_timeout(&to, TIMEOUT).context("connect")?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                Ok(Self::Tcp(BufReader::new(stream)))
            }
            Transport::Udp => {
                let any: IpAddr = match to {
                    SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                    SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                };
                let socket = UdpSocket::bind((any, 0)).context("bind")?;
                socket.set_read_timeout(Some(TIMEOUT))?;
                socket.connect(to).context("connect")?;
                Ok(Self::Udp(socket))
            }
        }
    }

    /// Asks one question.
    pub fn ask(&mut self) -> Result<Answer> {
        let mut line = String::new();
        match self {
            Self::Tcp(stream) => {
                stream.get_mut().write_all(b"who\n").context("write")?;
                stream.read_line(&mut line).context("read")?;
            }
            Self::Udp(socket) => {
                socket.send(b"who\n").context("send")?;
                let mut buffer = [0; 128];
                let len = socket.recv(&mut buffer).context("receive")?;
                line = String::from_utf8_lossy(&buffer[..len]).into_owned();
            }
        }
        let (pod, peer) = line
            .trim_end()
            .split_once(' ')
            .with_context(|| format!("not a mirror's answer: {line:?}"))?;
        let peer: IpAddr = peer
            .parse()
            .with_context(|| format!("a peer in {line:?}"))?;
        Ok(Answer {
            pod: pod.into(),
            peer: peer.to_canonical(),
        })
    }
}

/// Asks by a datagram of `length` bytes, at least ten, and is answered by one.
pub fn ask_at_length(to: SocketAddr, length: usize) -> Result<()> {
    let Conversation::Udp(socket) = Conversation::open(to, Transport::Udp)? else {
        bail!("a socket of another kind");
    };
    let question = vec![b'?'; length];
    socket.send(&question).context("send")?;
    let mut answer = vec![0; length + 1];
    let came = socket.recv(&mut answer).context("receive")?;
    ensure!(came == length, "an answer of {came} bytes");
    Ok(())
}

/// Asks one question on a socket of its own.
pub fn ask(to: SocketAddr, transport: Transport) -> Result<Answer> {
    Conversation::open(to, transport)?.ask()
}
