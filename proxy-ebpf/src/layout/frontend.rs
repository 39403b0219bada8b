//! What a client may send to, and on which addresses of the node.

use super::Port;

/// Key of `FRONTENDS_*`. A NodePort lies under the zero address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
#[repr(C)]
pub struct FrontendKey<A> {
    /// Destination address.
    pub address: A,
    /// Destination port.
    pub port: Port,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
}

impl<A> FrontendKey<A> {
    /// A key from its parts.
    #[inline(always)]
    pub const fn new(address: A, port: Port, protocol: u8) -> Self {
        Self {
            address,
            port,
            protocol,
            pad: 0,
        }
    }
}

/// A contiguous run of `SLOTS`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct Span {
    /// Position of the first slot.
    pub start: u32,
    /// Number of slots.
    pub len: u32,
}

/// Value of `FRONTENDS_*`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct Frontend {
    /// The Service port's id; stable while the Service port exists.
    pub service: u32,
    /// Bits of [`frontend_flags`].
    pub flags: u32,
    /// ClientIP affinity in seconds; 0 is none.
    pub affinity_seconds: u32,
    /// The cluster set.
    pub cluster: Span,
    /// The local set.
    pub local: Span,
}

/// Bits of [`Frontend::flags`].
pub mod frontend_flags {
    /// Reached from outside the cluster (NodePort, load balancer, external
    /// address): pods of this node use the cluster set whatever the policy.
    pub const EXTERNAL: u32 = 1;
    /// This frontend's traffic policy is Local.
    pub const LOCAL_POLICY: u32 = 1 << 1;
    /// Only sources in the Service port's `SOURCE_RANGES_*` may use this frontend.
    pub const SOURCE_RANGES: u32 = 1 << 2;
    /// New connections go where their tuple leads, on every node the same: the sets are
    /// tables for consistent hashing.
    pub const HASHED: u32 = 1 << 3;
    /// New connections from outside reach endpoints of other nodes in a tunnel, and are
    /// answered from there (direct server return); other nodes' tunnels end here.
    pub const DSR: u32 = 1 << 4;
    /// The address is this host's own, where something else answers in the Service's place: packets
    /// and sockets of Pods to it are left alone.
    pub const LEFT_TO_HOST: u32 = 1 << 5;
}

/// Value of `CLUSTER_IPS_*`; only its presence counts.
pub type ClusterIp = u32;

/// Value of `NODE_ADDRS_*`; only its presence counts.
pub type NodeAddress = u32;

/// Elements of `DEVICE_ADDRS_*`: under the indices of devices, the address with which
/// packets leave by each that are sent on with this node's address.
pub const DEVICE_ADDRESSES: u32 = 1024;
