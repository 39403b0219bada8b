//! With which address packets leave by each of the node's devices that are sent on with
//! the node's address.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use proxy_ebpf::layout::DEVICE_ADDRESSES;
use tracing::warn;

use crate::model::NodeAddresses;
use crate::model::object::Family;
use crate::plan::{Content, Write};

/// Under a device's index and an IP family, an address.
type ByDevice = BTreeMap<(u32, Family), IpAddr>;

/// What the devices have, and what of it is in the maps.
#[derive(Debug, Default)]
pub(super) struct DeviceAddresses {
    devices: BTreeMap<u32, Vec<IpAddr>>,
    written: ByDevice,
}

impl DeviceAddresses {
    /// Takes in the addresses of each device, in the kernel's order.
    pub(super) fn set(&mut self, devices: BTreeMap<u32, Vec<IpAddr>>) {
        self.devices = devices;
    }

    /// Whether one of them has this address.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.devices.values().flatten().any(|own| *own == address)
    }

    /// Takes over what adopted maps hold.
    pub(super) fn adopt(&mut self, written: ByDevice) {
        self.written = written;
    }

    /// The writes that follow from what the devices have, on a node with `addresses`.
    pub(super) fn writes(&mut self, addresses: &NodeAddresses) -> Vec<Write> {
        let wanted = self.wanted(addresses);
        let writes = difference(&self.written, &wanted);
        self.written = wanted;
        writes
    }

    /// The writes that bring the maps back to what was written.
    pub(super) fn audit(&self, content: &Content) -> Vec<Write> {
        difference(&content.device_addresses, &self.written)
    }

    /// The node's primary address where a device has it, else another by which the
    /// cluster knows the node, and else its first, as the kernel masquerades
    /// (`inet_select_addr` in `net/ipv4/devinet.c`).
    fn wanted(&self, addresses: &NodeAddresses) -> ByDevice {
        let mut wanted = ByDevice::new();
        let mut dropped = 0_usize;
        for (device, own) in &self.devices {
            for family in Family::ALL {
                let usable = own
                    .iter()
                    .filter(|address| Family::of(**address) == family && is_global(**address));
                let rank = |address: &&IpAddr| {
                    let is_known = addresses.own.contains(address);
                    Reverse((addresses.primary.contains(address), is_known))
                };
                let Some(address) = usable.min_by_key(rank) else {
                    continue;
                };
                if wanted.len() < DEVICE_ADDRESSES as usize {
                    wanted.insert((*device, family), *address);
                } else {
                    dropped += 1;
                }
            }
        }
        if dropped > 0 && wanted != self.written {
            warn!(
                "the map of device addresses is full: packets forwarded by {dropped} devices are \
                 masqueraded with the node's primary address"
            );
        }
        wanted
    }
}

/// Whether other machines can send to it.
fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    }
}

/// The writes that make `before` into `after`.
fn difference(before: &ByDevice, after: &ByDevice) -> Vec<Write> {
    let coming = after
        .iter()
        .filter(|(key, address)| before.get(key) != Some(address))
        .map(|(&(device, _), &address)| Write::DeviceAddress { device, address });
    let leaving = before
        .keys()
        .filter(|key| !after.contains_key(key))
        .map(|&(device, family)| Write::RemoveDeviceAddress { device, family });
    coming.chain(leaving).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(index: u32, addresses: &[&str]) -> BTreeMap<u32, Vec<IpAddr>> {
        let addresses = addresses.iter().map(|text| text.parse().unwrap());
        BTreeMap::from([(index, addresses.collect())])
    }

    fn node(own: &[&str]) -> NodeAddresses {
        NodeAddresses {
            own: own.iter().map(|text| text.parse().unwrap()).collect(),
            ..NodeAddresses::default()
        }
    }

    fn written(writes: &[Write]) -> Vec<String> {
        let text = |write: &Write| match write {
            Write::DeviceAddress { device, address } => format!("{device} {address}"),
            Write::RemoveDeviceAddress { device, family } => format!("{device} no {family:?}"),
            other => panic!("{other:?}"),
        };
        writes.iter().map(text).collect()
    }

    #[test]
    fn a_device_has_the_nodes_address_or_its_first_that_others_can_reach() {
        let mut state = DeviceAddresses::default();
        let own = ["169.254.1.1", "10.0.0.1", "192.0.2.1", "fe80::1", "fd00::1"];
        state.set(device(3, &own));
        let writes = state.writes(&node(&[]));
        assert_eq!(written(&writes), ["3 10.0.0.1", "3 fd00::1"]);
        let writes = state.writes(&node(&["192.0.2.1"]));
        assert_eq!(written(&writes), ["3 192.0.2.1"]);
        // What is configured goes before what the Node lists.
        let configured = NodeAddresses {
            primary: vec!["10.0.0.1".parse().unwrap()],
            ..node(&["10.0.0.1", "192.0.2.1"])
        };
        assert_eq!(written(&state.writes(&configured)), ["3 10.0.0.1"]);
    }

    #[test]
    fn what_devices_lose_goes() {
        let mut state = DeviceAddresses::default();
        state.set(device(3, &["10.0.0.1", "fd00::1"]));
        state.writes(&node(&[]));
        state.set(device(3, &["10.0.0.1"]));
        assert_eq!(written(&state.writes(&node(&[]))), ["3 no V6"]);
        state.set(device(4, &["fe80::1"]));
        assert_eq!(written(&state.writes(&node(&[]))), ["3 no V4"]);
        assert_eq!(state.writes(&node(&[])), []);
    }

    #[test]
    fn an_audit_finds_what_others_changed() {
        let mut state = DeviceAddresses::default();
        state.set(device(3, &["10.0.0.1"]));
        state.writes(&node(&[]));
        let stray = (4, Family::V4);
        let content = Content {
            device_addresses: BTreeMap::from([(stray, "10.0.0.9".parse().unwrap())]),
            ..Content::default()
        };
        assert_eq!(written(&state.audit(&content)), ["3 10.0.0.1", "4 no V4"]);
    }
}
