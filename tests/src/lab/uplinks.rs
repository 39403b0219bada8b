//! Other ways between the machines than the fabric.

use anyhow::{Result, ensure};

use super::{
    addresses::{self, Addresses},
    cluster::{Cluster, port_commands},
    namespace::Namespace,
    process::Process,
    tun::{self, TUN},
};

/// The device of the nodes' tunnel.
pub const TUNNEL: &str = "tunnel0";
/// The device of node1's second uplink, and of the client's other end of it.
pub const SECOND: &str = "eth1";

impl Cluster {
    /// Has the nodes reach each other's pods through a VXLAN tunnel, as overlay networks of
    /// CNI plugins do it. What comes by another way than one's own to its sender is dropped.
    pub fn join_by_tunnel(&self) -> Result<()> {
        for (node, other) in [(1, 2), (2, 1)] {
            let namespace = &self.nodes[usize::from(node) - 1].namespace;
            let own = addresses::tunnel(node);
            let far = addresses::tunnel(other);
            let (local, remote) = (addresses::node(node).v4, addresses::node(other).v4);
            namespace.ip(&[format!(
                "link add {TUNNEL} type vxlan id 1 dstport 8472 local {local} \
                 remote {remote} dev eth0"
            )])?;
            route_pods_by(namespace, TUNNEL, [own, far], addresses::pod_ranges(other))?;
            for device in ["all", "eth0", TUNNEL] {
                namespace.sysctl(&format!("net/ipv4/conf/{device}/rp_filter"), "1")?;
            }
        }
        Ok(())
    }

    /// Has the nodes reach each other's pods by devices without a link header, as tunnels'
    /// are. They go with the process.
    pub fn join_by_tun(&self) -> Result<Process> {
        let cable = tun::connect(&self.nodes[0].namespace, &self.nodes[1].namespace)?;
        for (node, other) in [(1, 2), (2, 1)] {
            let namespace = &self.nodes[usize::from(node) - 1].namespace;
            let ends = [node, other].map(addresses::tunnel);
            route_pods_by(namespace, TUN, ends, addresses::pod_ranges(other))?;
        }
        Ok(cable)
    }

    /// The same by the kernel's GRE tunnels, which have no link header either. False if this kernel
    /// has none.
    pub fn join_by_gre(&self) -> Result<bool> {
        for (node, other) in [(1, 2), (2, 1)] {
            let namespace = &self.nodes[usize::from(node) - 1].namespace;
            let [local, remote] = [node, other].map(|it| addresses::node(it).v4);
            let made = namespace.ip(&[format!(
                "link add {TUN} type gre local {local} remote {remote} ttl 64"
            )]);
            if let Err(error) = made {
                let text = format!("{error:#}");
                ensure!(text.contains("Unknown device type"), "{text}");
                return Ok(false);
            }
            let ends = [node, other].map(addresses::tunnel);
            route_pods_by(namespace, TUN, ends, addresses::pod_ranges(other))?;
        }
        // What the ends send fits through the tunnel, in fragments, too.
        let pods = self.pods().map(|pod| &pod.namespace);
        for end in pods.chain([&self.client]) {
            end.ip(&["link set eth0 mtu 1400".into()])?;
        }
        Ok(true)
    }

    /// Has the client reach node1, and node1 the client, by devices without a link header.
    pub fn connect_client_by_tun(&self) -> Result<Process> {
        let (node, client) = (&self.nodes[0].namespace, &self.client);
        let cable = tun::connect(node, client)?;
        for (at, own, far) in [
            (node, addresses::node(1), addresses::client()),
            (client, addresses::client(), addresses::node(1)),
        ] {
            at.ip(&[
                format!("link set {TUN} up"),
                format!("route add {}/32 dev {TUN} src {}", far.v4, own.v4),
                format!("route add {}/128 dev {TUN} src {}", far.v6, own.v6),
            ])?;
        }
        Ok(cable)
    }

    /// Puts a router on node1's way to node2's pods, with no route there yet.
    pub fn put_router_between(&self) -> Result<Namespace> {
        let router = Namespace::create(self.directory.name(), &["router"])?.remove(0);
        self.fabric.ip(&port_commands("router", &router))?;
        let own = addresses::router();
        router.ip(&[
            format!("addr add {}/24 dev eth0", own.v4),
            format!("addr add {}/64 dev eth0", own.v6),
            "link set eth0 up".to_owned(),
        ])?;
        router.sysctl("net/ipv4/ip_forward", "1")?;
        router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        for device in ["all", "eth0"] {
            router.sysctl(&format!("net/ipv4/conf/{device}/send_redirects"), "0")?;
        }
        let (v4, v6) = addresses::pod_ranges(2);
        self.nodes[0].namespace.ip(&[
            format!("route replace {v4} via {} dev eth0", own.v4),
            format!("route replace {v6} via {} dev eth0", own.v6),
        ])?;
        Ok(router)
    }

    /// Gives node1 a second uplink, by which it reaches the client; the client reaches it
    /// by the fabric still.
    pub fn add_second_uplink(&self) -> Result<()> {
        let to = addresses::client();
        let far = self.connect_second()?;
        self.nodes[0].namespace.ip(&[
            format!("route add {}/32 via {} dev {SECOND}", to.v4, far.v4),
            format!("route add {}/128 via {} dev {SECOND}", to.v6, far.v6),
        ])
    }

    /// Gives node1 a second uplink for what its pods send, as rules for their addresses say; the
    /// network behind it takes nothing else.
    pub fn add_uplink_of_pods(&self) -> Result<()> {
        let far = self.connect_second()?;
        let node = &self.nodes[0];
        let own = addresses::second_uplink(11);
        // A veth device without an address of the node would be taken for a pod's.
        let mut commands = vec![
            format!("addr flush dev {SECOND}"),
            format!("link add link {SECOND} name pods0 type macvlan mode bridge"),
            format!("addr add {}/24 dev pods0", own.v4),
            format!("addr add {}/64 dev pods0", own.v6),
            "link set pods0 up".to_owned(),
            format!("route add default via {} dev pods0 table 2", far.v4),
            format!("route add ::/0 via {} dev pods0 table 2", far.v6),
        ];
        for pod in &node.pods {
            let Addresses { v4, v6 } = pod.addresses;
            commands.push(format!("rule add from {v4} lookup 2"));
            // A batch's rules are of IPv4.
            let mut rule = node.namespace.command("ip");
            rule.args(["-6", "rule", "add", "from", &v6.to_string(), "lookup", "2"]);
            ensure!(rule.status()?.success(), "ip -6 rule");
        }
        node.namespace.ip(&commands)?;
        let Addresses { v4, v6 } = node.addresses;
        self.client.nft(&format!(
            "table inet cloud {{ chain input {{\n\
             type filter hook input priority 0;\n\
             iifname {SECOND} ip saddr {v4} drop\niifname {SECOND} ip6 saddr {v6} drop\n}}\n}}\n"
        ))
    }

    /// Connects node1 and the client by a second uplink. The client's addresses there.
    fn connect_second(&self) -> Result<Addresses> {
        let (node, client) = (&self.nodes[0].namespace, &self.client);
        let far = addresses::second_uplink(100);
        let connect = |own: Addresses| {
            [
                format!("addr add {}/24 dev {SECOND}", own.v4),
                format!("addr add {}/64 dev {SECOND}", own.v6),
                format!("link set {SECOND} up"),
            ]
        };
        node.ip(&[format!(
            "link add {SECOND} type veth peer name {SECOND} netns {}",
            client.name()
        )])?;
        client.ip(&connect(far))?;
        node.ip(&connect(addresses::second_uplink(11)))?;
        Ok(far)
    }
}

/// Gives a node's device its end's address of a tunnel, and has it lead to the other end and the
/// pods behind that.
fn route_pods_by(
    node: &Namespace,
    device: &str,
    [own, far]: [Addresses; 2],
    (v4, v6): (String, String),
) -> Result<()> {
    node.ip(&[
        format!("addr add {}/32 dev {device}", own.v4),
        format!("addr add {}/128 dev {device}", own.v6),
        format!("link set {device} up"),
        format!("route add {}/32 dev {device}", far.v4),
        format!("route add {}/128 dev {device}", far.v6),
        format!("route replace {v4} via {} dev {device} onlink", far.v4),
        format!("route replace {v6} via {} dev {device} onlink", far.v6),
    ])?;
    Ok(())
}
