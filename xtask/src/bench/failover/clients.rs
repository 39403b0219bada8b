//! Who connects: from where, to which Service, over which IP version.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::Result;
use proxy_tests::lab::{Cluster, Family, Namespace, addresses};

use super::{
    super::{
        compare::Variant,
        workload::{Steady, Worker},
    },
    PATIENCE,
    services::Choice,
};

/// Addresses of the client outside that has affinity: each has an endpoint of its own.
const CLIENTS: u8 = 30;

/// Where connections come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A Pod of node1, to the ClusterIP.
    Pod,
    /// node1 itself, to the ClusterIP.
    Host,
    /// Outside of the cluster, to a NodePort of node1.
    Outside,
}

/// One of those that connect at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) place: Place,
    pub(super) family: Family,
    pub(super) choice: Choice,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.place {
            Place::Pod => "from a Pod",
            Place::Host => "from the host",
            Place::Outside => "from outside",
        })?;
        if self.family == Family::V6 {
            f.write_str(", IPv6")?;
        }
        match self.choice {
            Choice::Random => Ok(()),
            Choice::Affinity | Choice::Maglev => write!(f, ", {}", self.choice.name()),
        }
    }
}

impl Client {
    pub(super) const fn new(place: Place, family: Family, choice: Choice) -> Self {
        Self {
            place,
            family,
            choice,
        }
    }

    fn to(self) -> SocketAddr {
        match self.place {
            Place::Pod | Place::Host => self.choice.cluster_ip(self.family),
            Place::Outside => self.choice.node_port(self.family),
        }
    }

    fn namespace(self, cluster: &Cluster) -> &Namespace {
        match self.place {
            Place::Pod => &cluster.pod(1, 3).namespace,
            Place::Host => &cluster.nodes[0].namespace,
            Place::Outside => &cluster.client,
        }
    }

    /// Starts its process on a CPU.
    pub(super) fn start(self, cluster: &Cluster, cpu: usize) -> Result<Worker> {
        Worker::client(self.namespace(cluster), cpu)
    }

    /// What the process is to do.
    pub(super) fn task(self, rate: u32, span: Duration) -> Steady {
        let from = match self.choice {
            Choice::Affinity => clients_outside().map(IpAddr::V4).collect(),
            Choice::Random | Choice::Maglev => Vec::new(),
        };
        Steady {
            to: self.to(),
            from,
            rate,
            span,
            patience: PATIENCE,
        }
    }
}

/// All that connect with a variant.
pub(super) fn clients(variant: Variant) -> Vec<Client> {
    use {
        Choice::{Affinity, Maglev, Random},
        Family::{V4, V6},
        Place::{Host, Outside, Pod},
    };
    let all: &[_] = match variant {
        Variant::None => &[],
        // What is written of kube-proxy's rules here is of IPv4; it has no consistent hashing.
        Variant::Iptables | Variant::Nftables => &[
            (Pod, V4, Random),
            (Host, V4, Random),
            (Outside, V4, Random),
            (Outside, V4, Affinity),
        ],
        Variant::Tc => &[
            (Pod, V4, Random),
            (Pod, V6, Random),
            (Outside, V4, Random),
            (Outside, V6, Random),
            (Outside, V4, Affinity),
            (Outside, V4, Maglev),
        ],
        Variant::Xdp => &[
            (Outside, V4, Random),
            (Outside, V6, Random),
            (Outside, V4, Affinity),
            (Outside, V4, Maglev),
        ],
        Variant::Socket => &[
            (Pod, V4, Random),
            (Pod, V6, Random),
            (Host, V4, Random),
            (Host, V6, Random),
        ],
    };
    let client = |&(place, family, choice): &_| Client::new(place, family, choice);
    all.iter().map(client).collect()
}

/// Gives the machine outside the addresses from which clients with affinity come, and node1 a
/// route to Services: without one its own connections do not come as far as the rules.
pub(super) fn set_up(cluster: &Cluster) -> Result<()> {
    let gateway = addresses::client().v4;
    let route = format!("route add {} via {gateway}", addresses::SERVICES_V4);
    cluster.nodes[0].namespace.ip(&[route])?;
    let add = |it| format!("addr add {it}/24 dev eth0");
    cluster
        .client
        .ip(&clients_outside().map(add).collect::<Vec<_>>())
}

fn clients_outside() -> impl Iterator<Item = Ipv4Addr> {
    let own = addresses::client().v4;
    (1..=CLIENTS).map(move |number| {
        let [first, second, third, last] = own.octets();
        Ipv4Addr::new(first, second, third, last + number)
    })
}
