//! What is asked of a node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use crate::attach::Features;
use crate::config::PortRange;
use crate::host::{HostPorts, NftChain};

/// What can fail to be known: then in words, why.
pub(super) type Known<T> = Result<T, String>;

/// A node.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The running kernel.
    pub features: Features,
    /// The processor's architecture, as Rust names it.
    pub architecture: String,
    /// Effective capabilities of this process (capabilities(7)), as bits.
    pub capabilities: Known<u64>,
    /// Whether the kernel loads the programs of devices.
    pub programs: Known<()>,
    /// Whether the kernel loads the program of XDP.
    pub xdp_program: Known<()>,
    /// Whether the kernel loads the programs of the socket path.
    pub socket_programs: Known<()>,
    /// Where a BPF file system is wanted, and whether one is mounted there.
    pub bpffs: (PathBuf, Known<bool>),
    /// Whether an agent has left its pins there.
    pub has_pins: bool,
    /// The cgroup to which the socket path would be attached.
    pub cgroup: Known<PathBuf>,
    /// The edge devices.
    pub devices: Known<Vec<Device>>,
    /// Who else translates Services' addresses.
    pub others: OtherProxies,
    /// Settings of the kernel below `/proc/sys`, by their names.
    pub sysctls: BTreeMap<String, String>,
    /// Ports of the host.
    pub ports: Ports,
}

/// An edge device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Who is behind it.
    pub role: Role,
    /// The name of its driver, where it has one.
    pub driver: Option<String>,
    /// Its MTU.
    pub mtu: Option<u32>,
    /// XDP by its driver.
    pub xdp: Xdp,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Who is behind an edge device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A Pod.
    Pod,
    /// Others, by hardware or a bond of it: where XDP is used.
    Uplink,
    /// Others, by a tunnel, a VLAN or the like.
    Other,
}

/// Whether a driver runs XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Xdp {
    /// It does.
    Native,
    /// It does not.
    None,
    /// The kernel does not say (before Linux 6.3).
    Unknown,
}

/// Traces of other proxies.
#[derive(Clone, Debug)]
pub struct OtherProxies {
    /// Chains of nftables, where those of `iptables-nft` are, too.
    pub chains: Known<Vec<NftChain>>,
    /// Tables of the old iptables, whose rules are not looked at.
    pub legacy_tables: Vec<String>,
    /// Connections whose destination netfilter has changed.
    pub translated: Known<usize>,
    /// Virtual services of IPVS.
    pub ipvs_services: usize,
    /// The names of all devices.
    pub devices: BTreeSet<String>,
    /// Names of what others have pinned in the BPF file system.
    pub pins: BTreeSet<String>,
}

/// Ports of the host.
#[derive(Clone, Debug)]
pub struct Ports {
    /// Those that sockets have or could get.
    pub host: Known<HostPorts>,
    /// The setting `natPorts`.
    pub nat: PortRange,
}
