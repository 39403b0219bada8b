//! Every setting of the agent, with its default and the reason for it.

pub mod kube_proxy;
mod port_range;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use port_range::PortRange;

use crate::attach::AttachWay;
use crate::maps::MapSizes;
use crate::plan::Capacity;
use crate::source::kube::KubeSettings;

/// The settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The name of the Node that the agent runs on.
    pub node_name: String,
    /// Where the objects come from.
    pub source: Source,
    /// How much the maps hold.
    pub maps: MapSizes,
    /// Source ports of flows that leave with this node's address.
    pub nat_ports: PortRange,
    /// Translate the source of all outside traffic, also for local backends.
    pub masquerade_all: bool,
    /// Where `/healthz` and `/livez` answer.
    pub health_address: SocketAddr,
    /// Where `/metrics` answers.
    pub metrics_address: SocketAddr,
    /// How programs are attached to devices.
    pub attach: AttachWay,
}

/// Where the objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The API server.
    Kube(KubeSettings),
    /// A folder of manifests.
    Files(PathBuf),
}

/// kube-proxy's port, on all addresses: load balancers ask it from outside.
pub const DEFAULT_HEALTH_ADDRESS: &str = "0.0.0.0:10256";

/// kube-proxy's port, for this machine only.
pub const DEFAULT_METRICS_ADDRESS: &str = "127.0.0.1:10249";

/// Map sizes for a cluster of 10,000 Services with ten endpoints each, with room
/// for as many again: the kernel allocates hash entries as they are needed, so
/// that unused room costs little more than a bucket of the table each.
pub const DEFAULT_MAPS: MapSizes = MapSizes {
    // ClusterIP, NodePort and one VIP for each of some 20,000 ports.
    frontends: 65_536,
    backends: 262_144,
    // Each endpoint takes a slot in the cluster set and perhaps one in the local
    // set, and old and new set live side by side for a moment.
    slots: 1_048_576,
    // Preallocated by the kernel; a flow takes two records, one for each direction.
    flows: 131_072,
    node_addresses: 1024,
};

/// Above Linux's default ephemeral range (32768 to 60999, `ip_local_port_range`)
/// and above the default NodePort range (30000 to 32767): neither a socket of
/// the host nor a NodePort has these ports by chance.
pub const DEFAULT_NAT_PORTS: PortRange = PortRange {
    first: 61_000,
    last: 65_535,
};

impl Config {
    /// What the planner needs to know of the maps.
    pub fn capacity(&self) -> Capacity {
        Capacity {
            frontends: self.maps.frontends,
            backends: self.maps.backends,
            slots: self.maps.slots,
        }
    }
}
