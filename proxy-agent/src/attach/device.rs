//! What a network device is to the data path.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::status::DeviceRole;

/// A network device of this node's network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What drives it, as far as it matters here.
    pub kind: DeviceKind,
    /// What its packets start with.
    pub link: LinkLayer,
    /// Whether XDP may redirect packets to it; `None` where the kernel does not say.
    pub is_xdp_target: Option<bool>,
    /// Whether its other end is in another network namespace.
    pub has_remote_peer: bool,
    /// The device that it belongs to, as a bridge's port or a bond's member.
    pub controller: Option<u32>,
    /// The device whose packets it gets, as that of a VLAN does.
    pub below: Option<u32>,
    /// Its Ethernet address, if it has one.
    pub link_address: Option<[u8; 6]>,
    /// Its addresses, and those that are this machine's by a route to it.
    pub addresses: Vec<IpAddr>,
}

/// Kinds of device that are distinguished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// `veth` or `netkit`: a pair of devices, mostly in two network namespaces.
    Veth,
    /// A bridge.
    Bridge,
    /// A bond or a team.
    Bond,
    /// The loopback device.
    Loopback,
    /// A device that carries nobody's traffic: `dummy`, `ifb`, `nlmon`, a VRF.
    Internal,
    /// Hardware, or what a hypervisor shows as such.
    Hardware,
    /// Tunnels, VLANs and all others.
    Other,
}

/// What a device's packets start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkLayer {
    /// An Ethernet header.
    Ethernet,
    /// An IP header.
    Ip,
}

/// Who is behind an edge device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A pod of this node.
    Pod,
    /// The rest of the world.
    Outside,
}

impl From<Role> for DeviceRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Pod => Self::Pod,
            Role::Outside => Self::Outside,
        }
    }
}

/// Where kube-proxy's mode ipvs puts the addresses of Services
/// (`pkg/proxy/ipvs/proxier.go`), which it leaves there when it ends.
const IPVS_DEVICE: &str = "kube-ipvs0";

/// The addresses of this machine itself, by the device that has them.
pub fn local_addresses(devices: &[Device]) -> BTreeMap<u32, Vec<IpAddr>> {
    let own = devices.iter().filter(|device| device.name != IPVS_DEVICE);
    own.map(|device| (device.index, device.addresses.clone()))
        .collect()
}

/// Devices whose addresses are ClusterIPs that something on the host serves in the Service's place:
/// the node-local DNS cache's (`cluster/addons/dns/nodelocaldns` of Kubernetes).
const SERVING_DEVICES: [&str; 1] = ["nodelocaldns"];

/// The addresses at which something on this machine answers in the place of Services.
pub fn host_frontends(devices: &[Device]) -> BTreeSet<IpAddr> {
    devices
        .iter()
        .filter(|device| SERVING_DEVICES.contains(&device.name.as_str()))
        .flat_map(|device| device.addresses.iter().copied())
        .collect()
}

/// The Ethernet addresses that frames for this machine have, by the index of the device at which
/// they come in: that device's own, and the one of the bridge whose port it is. What comes in by
/// a member of a bond is for the bond.
pub fn frame_addresses(devices: &[Device]) -> BTreeMap<u32, Vec<[u8; 6]>> {
    let by_index: BTreeMap<u32, &Device> = devices.iter().map(|it| (it.index, it)).collect();
    let controller = |device: &Device, kind| {
        let above = device.controller.and_then(|index| by_index.get(&index));
        above.copied().filter(|it| it.kind == kind)
    };
    let addresses = devices.iter().map(|device| {
        let receiver = controller(device, DeviceKind::Bond).unwrap_or(device);
        let bridge = controller(receiver, DeviceKind::Bridge);
        let addresses = [Some(receiver), bridge].into_iter().flatten();
        let addresses = addresses.filter_map(|it| it.link_address).collect();
        (device.index, addresses)
    });
    addresses.collect()
}

/// The edge devices among `devices`, each with its role. `node` are the node's
/// addresses.
///
/// Edge devices are where traffic enters or leaves the node: hardware, tunnels, bonds, and the
/// host ends of Pod devices; of a bridge its ports, of a bond not its members. A veth or netkit
/// device with its peer in another network namespace belongs to a Pod, unless it, or a device
/// above it, has an address of the node: then the node is a container, and this its uplink.
pub fn edge_devices<'a>(
    devices: &'a [Device],
    node: &BTreeSet<IpAddr>,
) -> impl Iterator<Item = (&'a Device, Role)> {
    let bonds: BTreeSet<u32> = devices
        .iter()
        .filter(|device| device.kind == DeviceKind::Bond)
        .map(|device| device.index)
        .collect();
    let has_node_address = |device: &Device| {
        let mut addresses = device.addresses.iter();
        addresses.any(|address| node.contains(address))
    };
    let uplinks: BTreeSet<u32> = devices
        .iter()
        .filter(|device| has_node_address(device))
        .flat_map(|device| [Some(device.index), device.below])
        .flatten()
        .collect();
    devices.iter().filter_map(move |device| {
        let is_bond_member = device
            .controller
            .is_some_and(|controller| bonds.contains(&controller));
        if is_bond_member {
            return None;
        }
        match device.kind {
            DeviceKind::Bridge | DeviceKind::Loopback | DeviceKind::Internal => None,
            DeviceKind::Bond | DeviceKind::Hardware | DeviceKind::Other => {
                Some((device, Role::Outside))
            }
            DeviceKind::Veth => {
                if device.has_remote_peer && !uplinks.contains(&device.index) {
                    Some((device, Role::Pod))
                } else {
                    Some((device, Role::Outside))
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(index: u32, kind: DeviceKind) -> Device {
        Device {
            index,
            name: format!("d{index}"),
            kind,
            link: LinkLayer::Ethernet,
            is_xdp_target: None,
            has_remote_peer: false,
            controller: None,
            below: None,
            link_address: None,
            addresses: Vec::new(),
        }
    }

    fn roles(devices: &[Device], node: &[&str]) -> Vec<(u32, Role)> {
        let node = node.iter().map(|text| text.parse().unwrap()).collect();
        edge_devices(devices, &node)
            .map(|(device, role)| (device.index, role))
            .collect()
    }

    #[test]
    fn addresses_that_kube_proxy_gave_to_a_device_of_its_own_are_not_the_machines() {
        let mut uplink = device(2, DeviceKind::Other);
        uplink.addresses = vec!["192.0.2.1".parse().unwrap()];
        let mut ipvs = device(3, DeviceKind::Internal);
        ipvs.name = "kube-ipvs0".to_owned();
        ipvs.addresses = vec!["10.96.0.1".parse().unwrap()];
        let expected = BTreeMap::from([(2, uplink.addresses.clone())]);
        assert_eq!(local_addresses(&[uplink, ipvs]), expected);
    }

    #[test]
    fn what_node_local_dns_has_is_served_by_the_host() {
        let mut uplink = device(2, DeviceKind::Other);
        uplink.addresses = vec!["192.0.2.1".parse().unwrap()];
        let mut cache = device(3, DeviceKind::Internal);
        cache.name = "nodelocaldns".to_owned();
        let addresses = ["169.254.20.10", "10.96.0.10"].map(|text| text.parse().unwrap());
        cache.addresses = addresses.to_vec();
        let found = host_frontends(&[uplink, cache]);
        assert_eq!(found, BTreeSet::from(addresses));
    }

    #[test]
    fn frames_are_for_a_device_its_bridge_or_the_bond_that_it_belongs_to() {
        let with_address = |index: u8, kind, controller| {
            let mut device = device(index.into(), kind);
            device.link_address = Some([2, 0, 0, 0, 0, index]);
            device.controller = controller;
            device
        };
        let devices = [
            with_address(2, DeviceKind::Bridge, None),
            with_address(3, DeviceKind::Hardware, Some(2)),
            with_address(4, DeviceKind::Hardware, None),
            with_address(5, DeviceKind::Bond, Some(2)),
            with_address(6, DeviceKind::Hardware, Some(5)),
            device(7, DeviceKind::Other),
        ];
        let addresses = frame_addresses(&devices);
        let last_bytes = |index| -> Vec<u8> { addresses[&index].iter().map(|it| it[5]).collect() };
        let expected = [
            (2, vec![2]),
            (3, vec![3, 2]),
            (4, vec![4]),
            (5, vec![5, 2]),
            (6, vec![5, 2]),
            (7, vec![]),
        ];
        for (index, last) in expected {
            assert_eq!(last_bytes(index), last, "device {index}");
        }
    }

    #[test]
    fn hardware_and_tunnels_lead_outside() {
        for kind in [DeviceKind::Hardware, DeviceKind::Other] {
            assert_eq!(roles(&[device(2, kind)], &[]), [(2, Role::Outside)]);
        }
    }

    #[test]
    fn a_bridge_is_no_edge_but_its_ports_are() {
        let mut port = device(3, DeviceKind::Veth);
        port.has_remote_peer = true;
        port.controller = Some(2);
        assert_eq!(
            roles(&[device(2, DeviceKind::Bridge), port], &[]),
            [(3, Role::Pod)]
        );
    }

    #[test]
    fn a_bond_is_an_edge_but_its_members_are_not() {
        let mut member = device(3, DeviceKind::Other);
        member.controller = Some(2);
        assert_eq!(
            roles(&[device(2, DeviceKind::Bond), member], &[]),
            [(2, Role::Outside)]
        );
    }

    #[test]
    fn a_veth_with_the_nodes_address_is_an_uplink() {
        let mut uplink = device(2, DeviceKind::Veth);
        uplink.has_remote_peer = true;
        uplink.addresses = vec!["192.0.2.1".parse().unwrap()];
        let mut pod = device(3, DeviceKind::Veth);
        pod.has_remote_peer = true;
        pod.addresses = vec!["10.244.1.1".parse().unwrap()];
        assert_eq!(
            roles(&[uplink, pod], &["192.0.2.1"]),
            [(2, Role::Outside), (3, Role::Pod)]
        );
    }

    #[test]
    fn a_veth_below_a_device_with_the_nodes_address_is_an_uplink() {
        let mut veth = device(2, DeviceKind::Veth);
        veth.has_remote_peer = true;
        let mut above = device(3, DeviceKind::Other);
        above.below = Some(2);
        above.addresses = vec!["192.0.2.1".parse().unwrap()];
        let devices = [veth, above];
        let both_outside = [(2, Role::Outside), (3, Role::Outside)];
        assert_eq!(roles(&devices, &["192.0.2.1"]), both_outside);
        let pod_and_other = [(2, Role::Pod), (3, Role::Outside)];
        assert_eq!(roles(&devices, &["192.0.2.9"]), pod_and_other);
    }

    #[test]
    fn loopback_and_internal_devices_are_no_edges() {
        assert_eq!(
            roles(
                &[
                    device(1, DeviceKind::Loopback),
                    device(2, DeviceKind::Internal)
                ],
                &[]
            ),
            []
        );
    }
}
