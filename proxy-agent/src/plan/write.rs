//! What the plan asks the maps to do.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use proxy_ebpf::layout::{Frontend, Settings, V4, V6};

use super::group::Group;
use crate::model::desired::{self, PortName};
use crate::model::object::{Family, Protocol};

/// A frontend's place in the kernel: the key under which packets find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrontendId {
    /// Its address; unspecified for a NodePort.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

impl FrontendId {
    /// The place of one of a port's frontends.
    pub fn of(name: &PortName, frontend: &desired::Frontend) -> Self {
        Self {
            address: frontend.address,
            port: frontend.port,
            protocol: name.protocol,
        }
    }
}

/// A life of a backend, as flow records name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendId {
    /// Its index.
    pub index: u32,
    /// Its generation.
    pub generation: u32,
    /// The id of its Service port.
    pub service: u32,
}

/// One element of `BACKENDS_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendEntry {
    /// The endpoint's address.
    pub address: IpAddr,
    /// The endpoint's port.
    pub port: u16,
    /// Bits of [`proxy_ebpf::layout::backend_flags`].
    pub flags: u16,
    /// The generation, odd.
    pub generation: u32,
    /// The Service port's id.
    pub service: u32,
}

/// One write to the kernel's maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Fills a backend's element.
    Backend {
        /// Its index.
        index: u32,
        /// Its content.
        entry: BackendEntry,
    },
    /// A Service port's id begins a life.
    Service {
        /// The id.
        service: u32,
    },
    /// Says what the Service port of an id is called.
    ServiceName {
        /// The id.
        service: u32,
        /// The name.
        name: Arc<str>,
    },
    /// Takes such a name away.
    RemoveServiceName {
        /// The id.
        service: u32,
    },
    /// Fills a run of slots that no reader looks at yet.
    Slots {
        /// Position of the first one.
        start: u32,
        /// Backend indices.
        backends: Vec<u32>,
    },
    /// Puts a frontend in place: the switch from old to new.
    Frontend {
        /// Its key.
        id: FrontendId,
        /// Its value.
        value: Frontend,
    },
    /// Takes a frontend away.
    RemoveFrontend {
        /// Its key.
        id: FrontendId,
    },
    /// Ends a backend's life: records that name it go stale.
    EndBackend {
        /// The IP family.
        family: Family,
        /// Its index.
        index: u32,
        /// The generation, even.
        generation: u32,
    },
    /// Lets a range of sources use a Service port's load balancer addresses.
    SourceRange {
        /// The Service port's id.
        service: u32,
        /// The range.
        range: IpNet,
    },
    /// Takes such a range away.
    RemoveSourceRange {
        /// The Service port's id.
        service: u32,
        /// The range.
        range: IpNet,
    },
    /// Some Service has an address now.
    ClusterIp {
        /// The address.
        address: IpAddr,
    },
    /// No Service has an address any more.
    RemoveClusterIp {
        /// The address.
        address: IpAddr,
    },
    /// Lets NodePorts answer on an address.
    NodeAddress {
        /// The address.
        address: IpAddr,
    },
    /// Stops NodePorts from answering on an address.
    RemoveNodeAddress {
        /// The address.
        address: IpAddr,
    },
    /// Gives what is sent on by a device an address of this node.
    DeviceAddress {
        /// The device's index.
        device: u32,
        /// The address.
        address: IpAddr,
    },
    /// What is sent on by a device gets the node's own address.
    RemoveDeviceAddress {
        /// The device's index.
        device: u32,
        /// Of what is sent on.
        family: Family,
    },
    /// The source ports that translated packets may have. Their number is a setting,
    /// which comes after them.
    NatPorts {
        /// The ports.
        ports: Arc<[u16]>,
    },
    /// What the IPv4 programs need to know of the node.
    SettingsV4(Settings<V4>),
    /// What the IPv6 programs need to know of the node.
    SettingsV6(Settings<V6>),
}

/// What a [`Write`] is about: of two about the same element the later one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WrittenElement {
    /// A backend, by its index.
    Backend(Family, u32),
    /// A Service port's id.
    Service(u32),
    /// The name of a Service port, by its id.
    ServiceName(u32),
    /// A run of slots, by its first one.
    Slots(u32),
    /// A frontend.
    Frontend(FrontendId),
    /// A range of sources of a Service port.
    SourceRange(u32, IpNet),
    /// A Service's address.
    ClusterIp(IpAddr),
    /// An address on which NodePorts answer.
    NodeAddress(IpAddr),
    /// The address of a device.
    DeviceAddress(u32, Family),
    /// The source ports.
    NatPorts,
    /// The settings of a family.
    Settings(Family),
}

impl fmt::Display for WrittenElement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backend(family, index) => write!(out, "backend {index} of {family}"),
            Self::Service(id) => write!(out, "counters of Service port {id}"),
            Self::ServiceName(id) => write!(out, "name of Service port {id}"),
            Self::Slots(first) => write!(out, "slots from {first}"),
            Self::Frontend(id) => {
                let end = SocketAddr::new(id.address, id.port);
                write!(out, "frontend {end}/{}", id.protocol)
            }
            Self::SourceRange(id, range) => {
                write!(out, "source range {range} of Service port {id}")
            }
            Self::ClusterIp(address) => write!(out, "ClusterIP {address}"),
            Self::NodeAddress(address) => write!(out, "node address {address}"),
            Self::DeviceAddress(device, family) => {
                write!(out, "{family} address of device {device}")
            }
            Self::NatPorts => out.write_str("source ports"),
            Self::Settings(family) => write!(out, "settings of {family}"),
        }
    }
}

impl Write {
    /// The group of a write that no plan says more of.
    pub fn group(&self) -> Group {
        match self {
            Self::ClusterIp { .. }
            | Self::RemoveClusterIp { .. }
            | Self::NatPorts { .. }
            | Self::SettingsV4(_)
            | Self::SettingsV6(_) => Group::Settings,
            _ => Group::Element(self.element()),
        }
    }

    /// Whether nothing depends on it: where a map refuses it, the next audit writes it again.
    pub fn may_be_lost(&self) -> bool {
        matches!(
            self,
            Self::ServiceName { .. } | Self::RemoveServiceName { .. }
        )
    }

    /// Whether it takes something away.
    pub fn is_removal(&self) -> bool {
        matches!(
            self,
            Self::RemoveServiceName { .. }
                | Self::RemoveFrontend { .. }
                | Self::EndBackend { .. }
                | Self::RemoveSourceRange { .. }
                | Self::RemoveClusterIp { .. }
                | Self::RemoveNodeAddress { .. }
                | Self::RemoveDeviceAddress { .. }
        )
    }

    /// What it is about.
    pub fn element(&self) -> WrittenElement {
        match self {
            Self::Backend { index, entry } => {
                WrittenElement::Backend(Family::of(entry.address), *index)
            }
            Self::EndBackend { family, index, .. } => WrittenElement::Backend(*family, *index),
            Self::Service { service } => WrittenElement::Service(*service),
            Self::ServiceName { service, .. } | Self::RemoveServiceName { service } => {
                WrittenElement::ServiceName(*service)
            }
            Self::Slots { start, .. } => WrittenElement::Slots(*start),
            Self::Frontend { id, .. } | Self::RemoveFrontend { id } => {
                WrittenElement::Frontend(*id)
            }
            Self::SourceRange { service, range } | Self::RemoveSourceRange { service, range } => {
                WrittenElement::SourceRange(*service, *range)
            }
            Self::ClusterIp { address } | Self::RemoveClusterIp { address } => {
                WrittenElement::ClusterIp(*address)
            }
            Self::NodeAddress { address } | Self::RemoveNodeAddress { address } => {
                WrittenElement::NodeAddress(*address)
            }
            Self::DeviceAddress { device, address } => {
                WrittenElement::DeviceAddress(*device, Family::of(*address))
            }
            Self::RemoveDeviceAddress { device, family } => {
                WrittenElement::DeviceAddress(*device, *family)
            }
            Self::NatPorts { .. } => WrittenElement::NatPorts,
            Self::SettingsV4(_) => WrittenElement::Settings(Family::V4),
            Self::SettingsV6(_) => WrittenElement::Settings(Family::V6),
        }
    }
}
