//! Every setting of the agent, with its default and the reason for it.
//!
//! [`Settings`] holds them. They come of kube-proxy's configuration file
//! ([`kube_proxy`]), which is read and watched by [`ConfigFile`]; the command line
//! overrides them.

mod choice;
mod file;
pub mod kube_proxy;
mod map_sizes;
mod port_range;

use std::path::PathBuf;

pub use choice::{AttachWay, SocketPathMode, XdpChoice};
pub use file::{ConfigFile, FileError};
pub use kube_proxy::{LogLevel, LogSettings, OwnSettings, Settings};
pub use map_sizes::MapSizes;
pub use port_range::PortRange;

use crate::source::kube::KubeSettings;

/// Where the objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The API server.
    Kube(KubeSettings),
    /// A folder of manifests.
    Files(PathBuf),
}

/// Where systemd mounts a BPF file system, and the command `mount` does.
pub const DEFAULT_BPFFS: &str = "/sys/fs/bpf";

/// In the place of a BPF file system: nothing shall outlive the agent.
pub const NO_BPFFS: &str = "none";

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

/// All ports that need no privilege; the host's own and NodePorts are left out of them
/// as they are found.
pub const DEFAULT_NAT_PORTS: PortRange = PortRange {
    first: 1024,
    last: 65_535,
};
