//! The cluster: a fabric, an outside client, and two nodes with pods.

use anyhow::{Result, ensure};

use super::{
    addresses::{self, SERVICES_V4, SERVICES_V6},
    directory::Directory,
    namespace::Namespace,
    node::{Node, Pod, PodNetwork},
};

/// What a cluster is to look like.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How pods are wired.
    pub network: PodNetwork,
    /// Pods on each node; more can be added later.
    pub pods_per_node: u8,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            network: PodNetwork::default(),
            pods_per_node: 3,
        }
    }
}

/// The whole lab. Fields drop in order: the inner namespaces before the fabric.
#[derive(Debug)]
pub struct Cluster {
    /// `node1` and `node2`.
    pub nodes: Vec<Node>,
    /// A machine of the fabric that is no node; it reaches Services through node1.
    pub client: Namespace,
    pub(super) fabric: Namespace,
    /// For files that live as long as the lab.
    pub directory: Directory,
}

impl Cluster {
    /// Lays out a cluster, after sweeping what crashed ones left.
    pub fn new(options: Options) -> Result<Self> {
        let directory = Directory::create()?;
        let lab = directory.name();
        let made = Namespace::create(lab, &["fabric", "client", "node1", "node2"])?;
        let [fabric, client, first, second] =
            <[_; 4]>::try_from(made).expect("one namespace for each role");
        fabric.ip(&fabric_commands(&[
            ("client", &client),
            ("node1", &first),
            ("node2", &second),
        ]))?;
        set_up_client(&client)?;
        let mut nodes = vec![
            Node::new(lab, 1, first, options.network)?,
            Node::new(lab, 2, second, options.network)?,
        ];
        nodes[0].route_to(2)?;
        nodes[1].route_to(1)?;
        for node in &mut nodes {
            for _ in 0..options.pods_per_node {
                node.add_pod()?;
            }
        }
        Ok(Self {
            nodes,
            client,
            fabric,
            directory,
        })
    }

    /// Makes the cables of the fabric like hardware to XDP: what comes over them has
    /// complete checksums, and what XDP sends is taken.
    ///
    /// A veth device drops what XDP sends to it unless it polls, which it does where
    /// GRO is asked for (`veth_xdp_xmit` in `drivers/net/veth.c`).
    pub fn make_cables_like_hardware(&self) -> Result<()> {
        let machines = self.nodes.iter().map(|node| &node.namespace);
        for machine in machines.chain([&self.client]) {
            set_offload(machine, "eth0", "tx", "off")?;
        }
        for port in ["client", "node1", "node2"] {
            set_offload(&self.fabric, port, "tx", "off")?;
            set_offload(&self.fabric, port, "gro", "on")?;
        }
        Ok(())
    }

    /// Makes a hub of the fabric: each machine gets the frames for all.
    pub fn make_fabric_a_hub(&self) -> Result<()> {
        // It forgets at once who is behind which port.
        self.fabric
            .ip(&["link set fabric0 type bridge ageing_time 0".into()])
    }

    /// Has every link lose so many packets of a hundred, in both directions, by chance.
    ///
    /// Where packets leave: the agent's programs take some before other hooks see them come in.
    pub fn lose(&self, percent: u8) -> Result<()> {
        let lose = |place: &Namespace, devices: &[&str]| {
            let devices = devices.join(", ");
            place.nft(&format!(
                "add table netdev loss\n\
                 add chain netdev loss out {{ type filter hook egress devices = {{ {devices} }} priority 0; }}\n\
                 add rule netdev loss out numgen random mod 100 < {percent} drop\n"
            ))
        };
        lose(&self.fabric, &["client", "node1", "node2"])?;
        lose(&self.client, &["eth0"])?;
        for node in &self.nodes {
            let pods = node.pods.iter().map(|it| it.device.as_str());
            lose(&node.namespace, &pods.chain(["eth0"]).collect::<Vec<_>>())?;
        }
        for pod in self.pods() {
            lose(&pod.namespace, &["eth0"])?;
        }
        Ok(())
    }

    /// The pods of all nodes.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.nodes.iter().flat_map(|node| &node.pods)
    }

    /// A pod by its node's number and its own, both from 1.
    pub fn pod(&self, node: usize, pod: usize) -> &Pod {
        &self.nodes[node - 1].pods[pod - 1]
    }
}

/// Sets a feature of a device, by ethtool's name for it.
///
/// # Errors
///
/// If ethtool does not run, or the device has no such feature.
pub fn set_offload(machine: &Namespace, device: &str, feature: &str, value: &str) -> Result<()> {
    let mut command = machine.command("ethtool");
    let output = command.args(["-K", device, feature, value]).output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ethtool: {complaint}");
    Ok(())
}

/// A bridge, with a port for each machine whose other end is that machine's `eth0`.
fn fabric_commands(machines: &[(&str, &Namespace)]) -> Vec<String> {
    let mut commands = vec![
        // Snooping without a querier only delays neighbour discovery.
        "link add fabric0 type bridge mcast_snooping 0".to_owned(),
        "link set fabric0 up".to_owned(),
    ];
    for (port, machine) in machines {
        commands.extend(port_commands(port, machine));
    }
    commands
}

/// A port of the bridge, for a machine.
pub(super) fn port_commands(port: &str, machine: &Namespace) -> [String; 2] {
    let name = machine.name();
    [
        format!("link add {port} type veth peer name eth0 netns {name}"),
        format!("link set {port} master fabric0 up"),
    ]
}

/// The client knows the way to Services, as an outside router would, not to pods.
fn set_up_client(client: &Namespace) -> Result<()> {
    let own = addresses::client();
    let via = addresses::node(1);
    client.ip(&[
        format!("addr add {}/24 dev eth0", own.v4),
        format!("addr add {}/64 dev eth0", own.v6),
        "link set eth0 up".into(),
        format!("route add {SERVICES_V4} via {}", via.v4),
        format!("route add {SERVICES_V6} via {}", via.v6),
    ])
}
