//! A node with its programs loaded, and with flows in its tables.

use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd};

use anyhow::{Context as _, Result};
use proxy_agent::maps::{Loaded, MapSizes, Maps as _, ProgramName, SocketScope, load};
use proxy_agent::plan::Write;
use proxy_ebpf::layout::{EdgeDevice, settings_flags, xdp_device_flags};
use proxy_tests::lab::{Family, Namespace};
use proxy_tests::packets::{Frontend, Packet, Protocol, Scenario, tcp_flags};

use crate::cases::{Case, Hook};
use crate::listener::listen;
use crate::program;
use crate::writes::writes;
use crate::{Fill, Unanswered};

/// Where Services listen.
pub(crate) const PORT: u16 = 80;
/// Endpoints on other nodes; each flow to one of them has a source port of its own.
const REMOTE: u32 = 8;
/// Source ports of translated packets.
const NAT_PORTS: std::ops::Range<u16> = 20_000..60_000;
/// The device by which all leave.
const UPLINK: &CStr = c"uplink";

/// Networks, by their second byte. Nothing is ever sent.
mod network {
    pub(super) const SERVICES: u8 = 96;
    pub(super) const CLIENTS: u8 = 150;
    pub(super) const ENDPOINTS: u8 = 200;
    pub(super) const NODES: u8 = 220;
    pub(super) const PLAIN: u8 = 230;
}

/// An address of a network of 65,536 hosts; more than these reach into the networks behind.
fn address(family: Family, network: u8, host: u32) -> IpAddr {
    let low = u32::from(network) << 16 | host;
    match family {
        Family::V4 => Ipv4Addr::from_bits(10 << 24 | low).into(),
        Family::V6 => Ipv6Addr::from_bits(0xfd00_u128 << 112 | u128::from(low)).into(),
    }
}

/// A client, by its number.
pub(crate) fn client(family: Family, number: usize) -> SocketAddr {
    let number = u32::try_from(number).unwrap_or_default();
    let port = 32_768 + u16::try_from(number % 16_384).unwrap_or_default();
    SocketAddr::new(address(family, network::CLIENTS, number), port)
}

/// Somebody to whom no Service leads.
pub(crate) fn plain(family: Family) -> SocketAddr {
    SocketAddr::new(address(family, network::PLAIN, 1), PORT)
}

/// A Service's address that its endpoint on this node has as well, so that a translation
/// changes nothing.
pub(crate) fn local(family: Family) -> SocketAddr {
    SocketAddr::new(address(family, network::ENDPOINTS, 1), PORT)
}

/// A Service whose endpoint is on another node, for this client.
pub(crate) fn remote(family: Family, client: usize) -> SocketAddr {
    SocketAddr::new(address(family, network::ENDPOINTS, 16 + turn(client)), PORT)
}

/// Its endpoint.
pub(crate) fn remote_endpoint(family: Family, client: usize) -> SocketAddr {
    SocketAddr::new(address(family, network::ENDPOINTS, 32 + turn(client)), 8080)
}

fn turn(client: usize) -> u32 {
    u32::try_from(client).unwrap_or_default() % REMOTE
}

/// A Service without endpoints.
pub(crate) fn without_endpoints(family: Family) -> SocketAddr {
    SocketAddr::new(address(family, network::ENDPOINTS, 3), PORT)
}

/// Gives a namespace a device by which everything leaves.
pub(crate) fn lay_out(namespace: &Namespace) -> Result<()> {
    namespace.sysctl("net/ipv4/conf/all/forwarding", "1")?;
    namespace.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    let uplink = UPLINK.to_str()?;
    let gateway = |family| address(family, network::NODES, 2);
    let node = |family| address(family, network::NODES, 1);
    let mut commands = vec![
        format!("link add {uplink} type veth peer name cable"),
        "link set cable up".to_owned(),
        format!("link set {uplink} address 02:00:00:00:00:01 up"),
    ];
    for (family, length, all) in [
        (Family::V4, "16", "0.0.0.0/0"),
        (Family::V6, "112 nodad", "::/0"),
    ] {
        let (node, gateway) = (node(family), gateway(family));
        commands.push(format!("address add {node}/{length} dev {uplink}"));
        commands.push(format!(
            "neighbour add {gateway} lladdr 02:00:00:00:00:02 dev {uplink}"
        ));
        commands.push(format!("route add {all} via {gateway}"));
    }
    namespace.ip(&commands)
}

/// The node.
pub(crate) struct Node {
    kernel: Loaded,
    /// Clients with flows, and where replies to their translated packets go.
    established: [Vec<(usize, SocketAddr)>; 2],
    /// The number of the next client that nobody was.
    next: usize,
}

/// What its maps hold.
fn scenario(fill: Fill) -> Scenario {
    let mut scenario = Scenario {
        node: Family::BOTH
            .map(|it| address(it, network::NODES, 1))
            .to_vec(),
        nat_ports: (NAT_PORTS.start, NAT_PORTS.end - NAT_PORTS.start),
        ..Scenario::empty()
    };
    let mut add = |at, endpoint: Option<(SocketAddr, bool)>| {
        let set = endpoint.map(|(endpoint, is_local)| scenario.add_backend(endpoint, is_local));
        let frontend = Frontend::new(at, Protocol::Tcp, set.into_iter().collect());
        scenario.frontends.push(frontend);
    };
    for family in Family::BOTH {
        add(local(family), Some((local(family), true)));
        add(without_endpoints(family), None);
        for number in 0..REMOTE as usize {
            let endpoint = remote_endpoint(family, number);
            add(remote(family, number), Some((endpoint, false)));
        }
        for number in 0..fill.frontends {
            let service = address(family, network::SERVICES, number);
            add(SocketAddr::new(service, PORT), None);
        }
    }
    scenario
}

/// Has connections go to another endpoint that are not answered.
fn retry_unanswered(write: &mut Write) {
    match write {
        Write::SettingsV4(settings) => settings.flags |= settings_flags::RETRY_UNANSWERED,
        Write::SettingsV6(settings) => settings.flags |= settings_flags::RETRY_UNANSWERED,
        _ => {}
    }
}

impl Node {
    /// Loads the programs, and fills the tables.
    pub(crate) fn new(fill: Fill, unanswered: Unanswered) -> Result<Self> {
        let sizes = MapSizes {
            frontends: 262_144,
            backends: 4096,
            slots: 8192,
            flows: fill.records,
            node_addresses: 16,
        };
        let kernel = load(sizes, SocketScope::default(), None)
            .context("load the programs (root is needed)")?;
        let mut node = Self {
            kernel,
            established: [Vec::new(), Vec::new()],
            next: fill.flows + fill.flows / 8,
        };
        node.kernel.xdp()?.load()?;
        node.let_xdp_send()?;
        for mut write in writes(&scenario(fill)) {
            if unanswered == Unanswered::Avoid {
                retry_unanswered(&mut write);
            }
            node.kernel.maps.write(&write)?;
        }
        for family in Family::BOTH {
            // A few find a full bucket, in which nobody can be spared.
            let mut numbers = 0..fill.flows + fill.flows / 8;
            while node.established[family as usize].len() < fill.flows {
                let number = numbers.next().context("too many found no room")?;
                node.establish(family, number)?;
            }
        }
        Ok(node)
    }

    /// Lets XDP send by the uplink what comes in by the loopback device, as test runs have it.
    fn let_xdp_send(&mut self) -> Result<()> {
        for (device, xdp) in [(c"lo", 0), (UPLINK, xdp_device_flags::REDIRECT)] {
            let known = EdgeDevice {
                xdp,
                ..EdgeDevice::default()
            };
            let index = program::index_of(device)?;
            self.kernel.edge_devices.set(index, Some(known))?;
        }
        Ok(())
    }

    /// Opens a flow to the endpoint of this node and one to another node's.
    fn establish(&mut self, family: Family, number: usize) -> Result<()> {
        const ANSWER: u8 = tcp_flags::SYN | tcp_flags::ACK;
        let client = client(family, number);
        let near = local(family);
        let (verdict, _) = self.run(Hook::Ingress, &Packet::tcp(client, near, tcp_flags::SYN))?;
        if verdict != program::NEXT {
            return Ok(());
        }
        self.run(Hook::Egress, &Packet::tcp(near, client, ANSWER))?;
        self.run(Hook::Ingress, &Packet::tcp(client, near, tcp_flags::ACK))?;

        let (far, endpoint) = (remote(family, number), remote_endpoint(family, number));
        let (_, sent) = self.run(Hook::Ingress, &Packet::tcp(client, far, tcp_flags::SYN))?;
        let translated = source_of(family, &sent).context("a packet cut short")?;
        if translated.ip() == client.ip() {
            return Ok(());
        }
        self.run(Hook::Ingress, &Packet::tcp(endpoint, translated, ANSWER))?;
        self.run(Hook::Ingress, &Packet::tcp(client, far, tcp_flags::ACK))?;
        self.established[family as usize].push((number, translated));
        Ok(())
    }

    /// The number of a client that has flows, and where an endpoint on another node answers it.
    pub(crate) fn established(&self, family: Family, place: usize) -> (usize, SocketAddr) {
        self.established[family as usize][place]
    }

    /// The number of a client that has no flow yet.
    pub(crate) fn new_client(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    /// What the program returns, and what the packet becomes.
    fn run(&mut self, hook: Hook, packet: &Packet) -> Result<(i32, Vec<u8>)> {
        let bytes = program::frame(packet);
        let mut out = vec![0; bytes.len() + 64];
        let (verdict, _) = program::run(self.program(hook)?, &bytes, 1, Some(&mut out))?;
        Ok((verdict, out))
    }

    /// Has somebody listen to what the programs tell.
    pub(crate) fn listen(&mut self) -> Result<()> {
        listen(&mut self.kernel.programs)
    }

    /// How long a case's run takes, in nanoseconds.
    pub(crate) fn measure(&mut self, case: &Case, packets: &[Vec<u8>]) -> Result<f64> {
        let program = self.program(case.hook)?;
        program::measure(program, packets, case.runs, case.expected)
            .with_context(|| format!("{} {}: {}", case.hook.name(), case.family, case.path))
    }

    fn program(&mut self, hook: Hook) -> Result<BorrowedFd<'_>> {
        Ok(match hook {
            Hook::Ingress => self
                .kernel
                .program(ProgramName::IngressOutside)?
                .fd()?
                .as_fd(),
            Hook::Egress => self
                .kernel
                .program(ProgramName::EgressOutside)?
                .fd()?
                .as_fd(),
            Hook::Xdp => self.kernel.xdp()?.fd()?.as_fd(),
        })
    }
}

/// The source of a packet of TCP.
fn source_of(family: Family, frame: &[u8]) -> Option<SocketAddr> {
    const ETHERNET: usize = 14;
    let (address, port): (IpAddr, _) = match family {
        Family::V4 => {
            let address = frame.get(ETHERNET + 12..)?.first_chunk::<4>()?;
            ((*address).into(), ETHERNET + 20)
        }
        Family::V6 => {
            let address = frame.get(ETHERNET + 8..)?.first_chunk::<16>()?;
            ((*address).into(), ETHERNET + 40)
        }
    };
    let port = u16::from_be_bytes(*frame.get(port..)?.first_chunk()?);
    Some(SocketAddr::new(address, port))
}
