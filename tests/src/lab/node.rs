//! A node and its pods.

use std::sync::Arc;

use anyhow::Result;

use super::{
    addresses::{self, Addresses},
    cgroup::Cgroup,
    namespace::Namespace,
};

/// How a node's pods are wired, after the two common designs of CNI plugins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodNetwork {
    /// The host ends are ports of a bridge `cni0`, which holds the gateway address.
    #[default]
    Bridge,
    /// Point to point: each host end holds the gateway address, and a route for its pod.
    Routed,
}

/// A node: a namespace with `eth0` in the fabric, which forwards for its pods. Its
/// processes and those of its pods run in a cgroup of its own.
#[derive(Debug)]
pub struct Node {
    /// `node1`, the name of its Node object.
    pub name: String,
    /// 1 or 2.
    pub number: u8,
    /// The uplink's addresses.
    pub addresses: Addresses,
    /// Its network namespace.
    pub namespace: Namespace,
    /// Its pods, by number from 1.
    pub pods: Vec<Pod>,
    lab: String,
    network: PodNetwork,
}

/// A pod: a namespace with `eth0`, whose other end is in the node.
#[derive(Debug)]
pub struct Pod {
    /// `pod-<node>-<number>`, which is also what the pod's servers answer.
    pub name: String,
    /// The name of its node.
    pub node: String,
    /// Its addresses.
    pub addresses: Addresses,
    /// The device's name at the node.
    pub device: String,
    /// Its network namespace.
    pub namespace: Namespace,
}

impl Node {
    /// Sets up forwarding and the uplink of a namespace that has an `eth0`.
    pub(super) fn new(
        lab: &str,
        number: u8,
        mut namespace: Namespace,
        network: PodNetwork,
    ) -> Result<Self> {
        let cgroup = Arc::new(Cgroup::create(namespace.name())?);
        namespace.join(&cgroup);
        namespace.sysctl("net/ipv4/ip_forward", "1")?;
        namespace.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        let addresses = addresses::node(number);
        let mut commands = vec![
            format!("addr add {}/24 dev eth0", addresses.v4),
            format!("addr add {}/64 dev eth0", addresses.v6),
            "link set eth0 up".into(),
        ];
        if network == PodNetwork::Bridge {
            let gateway = addresses::gateway(number);
            // As the bridge plugin of CNI does it: otherwise it is the lowest one of its ports, and
            // changes behind the back of Pods when one is added.
            commands.extend([
                format!("link add cni0 address 02:00:00:00:00:{number:02x} type bridge"),
                format!("addr add {}/24 dev cni0", gateway.v4),
                format!("addr add {}/64 dev cni0", gateway.v6),
                "link set cni0 up".into(),
            ]);
        }
        namespace.ip(&commands)?;
        Ok(Self {
            name: format!("node{number}"),
            number,
            addresses,
            namespace,
            pods: Vec::new(),
            lab: lab.into(),
            network,
        })
    }

    /// Adds a route to another node's pods.
    pub(super) fn route_to(&self, other: u8) -> Result<()> {
        let (v4, v6) = addresses::pod_ranges(other);
        let via = addresses::node(other);
        self.namespace.ip(&[
            format!("route add {v4} via {} dev eth0", via.v4),
            format!("route add {v6} via {} dev eth0", via.v6),
        ])
    }

    /// Adds the next pod; at run time its device is one that appears late.
    pub fn add_pod(&mut self) -> Result<&Pod> {
        let number = u8::try_from(self.pods.len() + 1)?;
        let name = format!("pod-{}-{number}", self.number);
        let mut namespace = Namespace::create(&self.lab, &[&name])?.remove(0);
        if let Some(cgroup) = self.namespace.cgroup() {
            namespace.join(cgroup);
        }
        let pod = Pod {
            node: self.name.clone(),
            addresses: addresses::pod(self.number, number),
            device: format!("veth{number}"),
            name,
            namespace,
        };
        match self.network {
            PodNetwork::Bridge => self.plug_into_bridge(&pod)?,
            PodNetwork::Routed => self.plug_point_to_point(&pod)?,
        }
        self.pods.push(pod);
        Ok(&self.pods[self.pods.len() - 1])
    }

    fn plug_into_bridge(&self, pod: &Pod) -> Result<()> {
        let gateway = addresses::gateway(self.number);
        let (device, inside) = (&pod.device, pod.namespace.name());
        self.namespace.ip(&[
            format!("link add {device} type veth peer name eth0 netns {inside}"),
            format!("link set {device} master cni0 up"),
        ])?;
        pod.namespace.ip(&[
            format!("addr add {}/24 dev eth0", pod.addresses.v4),
            format!("addr add {}/64 dev eth0", pod.addresses.v6),
            "link set eth0 up".into(),
            format!("route add default via {}", gateway.v4),
            format!("route add default via {}", gateway.v6),
        ])
    }

    fn plug_point_to_point(&self, pod: &Pod) -> Result<()> {
        let gateway = addresses::gateway(self.number);
        let (device, inside) = (&pod.device, pod.namespace.name());
        self.namespace.ip(&[
            format!("link add {device} type veth peer name eth0 netns {inside}"),
            format!("addr add {}/32 dev {device}", gateway.v4),
            format!("addr add {}/128 dev {device}", gateway.v6),
            format!("link set {device} up"),
            format!("route add {}/32 dev {device}", pod.addresses.v4),
            format!("route add {}/128 dev {device}", pod.addresses.v6),
        ])?;
        pod.namespace.ip(&[
            format!("addr add {}/32 dev eth0", pod.addresses.v4),
            format!("addr add {}/128 dev eth0", pod.addresses.v6),
            "link set eth0 up".into(),
            format!("route add default via {} dev eth0 onlink", gateway.v4),
            format!("route add default via {} dev eth0 onlink", gateway.v6),
        ])
    }
}
