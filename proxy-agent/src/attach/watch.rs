//! The node's devices, over rtnetlink.
//!
//! A notification only says that something changed; what is there is read anew
//! each time. So a lost notification (the socket's buffer overran) costs nothing
//! but a delay until the next one, and there is no second copy of the kernel's
//! state to keep in step.

use std::collections::HashMap;
use std::net::IpAddr;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Handle, IpVersion, MulticastGroup, new_multicast_connection};

use super::device::{Device, DeviceKind, LinkLayer};
use super::host_routes::{has_source_rules, output_device};
use super::local_routes::{LocalRoutes, is_of_this_machine};
use super::xdp_features;

/// The devices cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum DeviceWatchError {
    /// No socket.
    #[error("cannot open an rtnetlink socket")]
    Socket(#[source] std::io::Error),
    /// The kernel refused to list.
    #[error("cannot list the node's devices over rtnetlink")]
    List(#[source] rtnetlink::Error),
    /// The kernel refused to remove a clsact qdisc.
    #[error("cannot remove a clsact qdisc (has the process CAP_NET_ADMIN?)")]
    Qdisc(#[source] rtnetlink::Error),
}

/// Watches the devices of the network namespace that it was opened in.
pub struct DeviceWatch {
    handle: Handle,
    local_routes: LocalRoutes,
    notifications: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
}

impl DeviceWatch {
    /// Starts to watch; needs a tokio runtime.
    pub fn open() -> Result<Self, DeviceWatchError> {
        let (connection, handle, notifications) = new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ])
        .map_err(DeviceWatchError::Socket)?;
        tokio::spawn(connection);
        Ok(Self {
            handle,
            local_routes: LocalRoutes::open().map_err(DeviceWatchError::Socket)?,
            notifications,
        })
    }

    /// For requests beside the watch.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Returns when something has changed; takes up all notifications that have
    /// come so far. Never returns after the connection has ended; then
    /// [`Self::list`] fails. Safe to cancel.
    pub async fn changed(&mut self) {
        loop {
            match self.notifications.next().await {
                Some((message, _)) if is_of_this_machine(&message) => break,
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
        while self.notifications.try_recv().is_ok() {}
    }

    /// By which device what this machine sends to an address leaves it: its index, if it leaves.
    pub async fn output_device(&self, to: IpAddr) -> Result<Option<u32>, DeviceWatchError> {
        let found = output_device(&self.handle, to).await;
        found.map_err(DeviceWatchError::List)
    }

    /// Whether this machine routes packets of this address's family by their source, too.
    pub async fn routes_by_source(&self, of: IpAddr) -> Result<bool, DeviceWatchError> {
        let version = match of {
            IpAddr::V4(_) => IpVersion::V4,
            IpAddr::V6(_) => IpVersion::V6,
        };
        let found = has_source_rules(&self.handle, version).await;
        found.map_err(DeviceWatchError::List)
    }

    /// The devices as they are now.
    pub async fn list(&self) -> Result<Vec<Device>, DeviceWatchError> {
        let links: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(DeviceWatchError::List)?;
        let addresses: Vec<AddressMessage> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(DeviceWatchError::List)?;
        let mut by_device: HashMap<u32, Vec<IpAddr>> = HashMap::new();
        for message in addresses {
            if let Some(address) = address_of(&message) {
                by_device
                    .entry(message.header.index)
                    .or_default()
                    .push(address);
            }
        }
        let routes = self.local_routes.list().await;
        for (device, address) in routes.map_err(DeviceWatchError::List)? {
            let addresses = by_device.entry(device).or_default();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let xdp_targets = xdp_features::targets();
        Ok(links
            .into_iter()
            .map(|link| {
                let index = link.header.index;
                let addresses = by_device.remove(&index).unwrap_or_default();
                let mut device = device_of(link, addresses);
                let targets = xdp_targets.as_ref();
                device.is_xdp_target = targets.and_then(|all| all.get(&index).copied());
                device
            })
            .collect())
    }
}

/// The device's own address: on a point-to-point device `IFA_ADDRESS` is the
/// other end's, and `IFA_LOCAL` its own (rtnetlink(7)).
fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => return Some(*address),
            AddressAttribute::Address(address) => found = Some(*address),
            _ => {}
        }
    }
    found
}

fn device_of(message: LinkMessage, addresses: Vec<IpAddr>) -> Device {
    let is_ethernet = message.header.link_layer_type == LinkLayerType::Ether;
    let mut device = Device {
        index: message.header.index,
        name: String::new(),
        kind: if message.header.link_layer_type == LinkLayerType::Loopback {
            DeviceKind::Loopback
        } else {
            // Only what is made of software alone names its kind.
            DeviceKind::Hardware
        },
        link: if is_ethernet {
            LinkLayer::Ethernet
        } else {
            LinkLayer::Ip
        },
        is_xdp_target: None,
        has_remote_peer: false,
        controller: None,
        below: None,
        link_address: None,
        addresses,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name = name,
            LinkAttribute::Address(bytes) => {
                device.link_address = bytes.try_into().ok().filter(|_| is_ethernet);
            }
            LinkAttribute::Controller(index) => device.controller = Some(index),
            LinkAttribute::Link(index) => device.below = Some(index),
            LinkAttribute::LinkNetNsId(_) => device.has_remote_peer = true,
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        device.kind = kind_of(&kind);
                    }
                }
            }
            _ => {}
        }
    }
    if device.has_remote_peer {
        // An index of another namespace.
        device.below = None;
    }
    device
}

fn kind_of(kind: &InfoKind) -> DeviceKind {
    match kind {
        InfoKind::Veth | InfoKind::Netkit => DeviceKind::Veth,
        InfoKind::Bridge => DeviceKind::Bridge,
        InfoKind::Bond | InfoKind::Team => DeviceKind::Bond,
        InfoKind::Dummy | InfoKind::Ifb | InfoKind::Nlmon | InfoKind::Vrf => DeviceKind::Internal,
        _ => DeviceKind::Other,
    }
}
