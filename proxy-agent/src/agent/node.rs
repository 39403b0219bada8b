//! What the data path has to know of this node beside Services: its addresses and
//! the settings of NAT.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use proxy_ebpf::layout::{self, V4, V6, settings_flags};
use tracing::warn;

use super::device_addresses::DeviceAddresses;
use super::source_ports::SourcePorts;
use crate::config::Settings;
use crate::model::NodeAddresses;
use crate::model::object::{Family, Unanswered};
use crate::plan::{Content, Write};

/// What of the node is in the maps, and what should be.
#[derive(Debug)]
pub(super) struct NodeState {
    /// Whether programs were attached before, which an agent has left.
    pub(super) was_attached: bool,
    nat: Nat,
    source_ports: SourcePorts,
    devices: DeviceAddresses,
    /// How many addresses a map holds.
    capacity: usize,
    addresses: NodeAddresses,
    /// The addresses on which NodePorts answer in the maps.
    written: BTreeSet<IpAddr>,
    /// The settings in the maps.
    settings: Option<(layout::Settings<V4>, layout::Settings<V6>)>,
}

#[derive(Clone, Copy, Debug)]
struct Nat {
    ports: u32,
    flags: u32,
    timeouts: layout::Timeouts,
    ranges_v4: [layout::Range<V4>; layout::SERVICE_CIDRS],
    ranges_v6: [layout::Range<V6>; layout::SERVICE_CIDRS],
    /// Of each family.
    host_routes: [HostRoutes; 2],
}

/// How this host routes packets of an IP family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostRoutes {
    /// Whether what it sends to ClusterIPs leaves by a device that is served.
    pub leave_by_uplink: bool,
    /// Whether there are rules for source addresses.
    pub by_source: bool,
}

impl NodeState {
    /// A state that is not in the maps yet.
    pub(super) fn new(settings: &Settings) -> Self {
        let own = &settings.own;
        let mut state = Self {
            was_attached: false,
            nat: Nat {
                ports: 0,
                flags: 0,
                timeouts: settings.timeouts(),
                ranges_v4: Default::default(),
                ranges_v6: Default::default(),
                host_routes: Default::default(),
            },
            source_ports: SourcePorts::new(own.nat_ports),
            devices: DeviceAddresses::default(),
            capacity: own.maps.node_addresses as usize,
            addresses: NodeAddresses::default(),
            written: BTreeSet::new(),
            settings: None,
        };
        state.configure(settings);
        state
    }

    /// Takes over the addresses in adopted maps.
    pub(super) fn adopt(&mut self, content: Content) {
        self.written = content.node_addresses;
        self.devices.adopt(content.device_addresses);
    }

    /// Takes in what may change at run time.
    pub(super) fn configure(&mut self, settings: &Settings) {
        self.nat.timeouts = settings.timeouts();
        self.nat.flags = flag(settings.masquerade_all, settings_flags::MASQUERADE_ALL)
            | flag(
                settings.own.reset_gone_endpoints.is_some(),
                settings_flags::RESET_GONE,
            )
            | flag(
                settings.own.unanswered != Unanswered::Off,
                settings_flags::RETRY_UNANSWERED,
            );
    }

    /// Takes in how the host routes; whether that is new.
    pub(super) fn set_host_routes(&mut self, family: Family, routes: HostRoutes) -> bool {
        std::mem::replace(&mut self.nat.host_routes[family as usize], routes) != routes
    }

    /// Takes in where ClusterIPs are; how many ranges there is no room for.
    pub(super) fn set_service_ranges(&mut self, ranges: &BTreeSet<IpNet>) -> usize {
        let mut dropped = 0;
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for range in ranges {
            match range {
                IpNet::V4(range) => v4.push(layout::Range {
                    first: range.network().into(),
                    mask: range.netmask().into(),
                }),
                IpNet::V6(range) => v6.push(layout::Range {
                    first: range.network().into(),
                    mask: range.netmask().into(),
                }),
            }
        }
        self.nat.ranges_v4 = fixed(v4, &mut dropped);
        self.nat.ranges_v6 = fixed(v6, &mut dropped);
        dropped
    }

    /// What decides about the source ports of translated packets.
    pub(super) fn source_ports(&mut self) -> &mut SourcePorts {
        &mut self.source_ports
    }

    /// The addresses that the node's devices have.
    pub(super) fn devices(&mut self) -> &mut DeviceAddresses {
        &mut self.devices
    }

    /// Whether an address is one of the node's devices.
    pub(super) fn has_address(&self, address: IpAddr) -> bool {
        self.devices.has(address)
    }

    /// The node's addresses as they were last programmed.
    pub(super) fn addresses(&self) -> &NodeAddresses {
        &self.addresses
    }

    /// The writes that follow from `now`, and from changed settings.
    pub(super) fn writes(&mut self, now: NodeAddresses) -> Vec<Write> {
        let mut writes = Vec::new();
        if let Some(ports) = self.source_ports.choose() {
            self.nat.ports = u32::try_from(ports.len()).unwrap_or(u32::MAX);
            writes.push(Write::NatPorts { ports });
        }
        let settings = self.nat.settings(&now);
        if self.settings.replace(settings) != Some(settings) {
            writes.push(Write::SettingsV4(settings.0));
            writes.push(Write::SettingsV6(settings.1));
        }
        let node_ports = self.fitting(&now);
        let coming = node_ports.difference(&self.written);
        writes.extend(coming.map(|address| Write::NodeAddress { address: *address }));
        let leaving = self.written.difference(&node_ports);
        writes.extend(leaving.map(|address| Write::RemoveNodeAddress { address: *address }));
        self.written = node_ports;
        writes.extend(self.devices.writes(&now));
        self.addresses = now;
        writes
    }

    /// The writes that bring the maps back to what was written.
    pub(super) fn audit(&self, content: &Content) -> Vec<Write> {
        let mut repairs = Vec::new();
        let found = &content.node_addresses;
        let missing = self.written.difference(found);
        repairs.extend(missing.map(|address| Write::NodeAddress { address: *address }));
        let extra = found.difference(&self.written);
        repairs.extend(extra.map(|address| Write::RemoveNodeAddress { address: *address }));
        if let Some((v4, v6)) = self.settings
            && content.settings != (v4, v6)
        {
            repairs.extend([Write::SettingsV4(v4), Write::SettingsV6(v6)]);
        }
        repairs.extend(self.devices.audit(content));
        repairs
    }

    /// The addresses on which NodePorts answer; no more than a map holds. The primary
    /// ones come first.
    fn fitting(&self, now: &NodeAddresses) -> BTreeSet<IpAddr> {
        let is_primary = |address: &&IpAddr| now.primary.contains(address);
        let (first, others): (Vec<&IpAddr>, _) = now.node_ports.iter().partition(is_primary);
        let mut free = [self.capacity; 2];
        let fits = |address: &IpAddr| {
            let free = &mut free[usize::from(address.is_ipv6())];
            let fits = *free > 0;
            *free = free.saturating_sub(1);
            fits
        };
        let fitting: BTreeSet<IpAddr> = first
            .into_iter()
            .chain(others)
            .copied()
            .filter(fits)
            .collect();
        let dropped = now.node_ports.len() - fitting.len();
        if dropped > 0 && now.node_ports != self.addresses.node_ports {
            warn!(
                "NodePorts do not answer on {dropped} of this node's addresses, for which \
                 there is no room: set nodePortAddresses to ranges with fewer"
            );
        }
        fitting
    }
}

/// A flag, if it is set.
fn flag(is_set: bool, bit: u32) -> u32 {
    if is_set { bit } else { 0 }
}

impl HostRoutes {
    /// What programs have to know of them: bits of [`settings_flags`].
    fn flags(self) -> u32 {
        flag(self.leave_by_uplink, settings_flags::HOST_DATAGRAMS)
            | flag(self.by_source, settings_flags::ROUTES_BY_SOURCE)
    }
}

impl Nat {
    /// The settings of both families for a node with `addresses`.
    fn settings(self, addresses: &NodeAddresses) -> (layout::Settings<V4>, layout::Settings<V6>) {
        let mut v4 = V4::default();
        let mut v6 = V6::default();
        for address in &addresses.primary {
            match address {
                IpAddr::V4(address) => v4 = (*address).into(),
                IpAddr::V6(address) => v6 = (*address).into(),
            }
        }
        let [routes_v4, routes_v6] = self.host_routes.map(HostRoutes::flags);
        (
            self.of(v4, routes_v4, self.ranges_v4),
            self.of(v6, routes_v6, self.ranges_v6),
        )
    }

    fn of<A>(
        self,
        node_address: A,
        routes: u32,
        service_cidrs: [layout::Range<A>; layout::SERVICE_CIDRS],
    ) -> layout::Settings<A> {
        layout::Settings {
            node_address,
            nat_ports: self.ports,
            flags: self.flags | routes,
            service_cidrs,
            timeouts: self.timeouts,
        }
    }
}

/// The first of the ranges, as many as there is room for.
fn fixed<A: Copy + Default>(
    ranges: Vec<layout::Range<A>>,
    dropped: &mut usize,
) -> [layout::Range<A>; layout::SERVICE_CIDRS] {
    let mut fixed = [layout::Range::default(); layout::SERVICE_CIDRS];
    *dropped += ranges.len().saturating_sub(fixed.len());
    for (place, range) in fixed.iter_mut().zip(ranges) {
        *place = range;
    }
    fixed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(node_ports: &[&str]) -> NodeAddresses {
        let parse = |text: &&str| text.parse().unwrap();
        NodeAddresses {
            primary: node_ports.iter().take(1).map(parse).collect(),
            own: BTreeSet::new(),
            node_ports: node_ports.iter().map(parse).collect(),
            health_checks: BTreeSet::new(),
        }
    }

    #[test]
    fn only_what_changed_is_written() {
        let mut settings = Settings::default();
        let mut state = NodeState::new(&settings);
        // The source ports, the settings of both families, an address.
        assert_eq!(state.writes(addresses(&["192.0.2.1"])).len(), 4);
        assert_eq!(state.writes(addresses(&["192.0.2.1"])), []);

        settings.masquerade_all = true;
        state.configure(&settings);
        let writes = state.writes(addresses(&["192.0.2.1"]));
        assert_eq!(writes.len(), 2);
        assert!(matches!(writes[0], Write::SettingsV4(now) if now.flags != 0));

        let second = Write::NodeAddress {
            address: "192.0.2.2".parse().unwrap(),
        };
        let writes = state.writes(addresses(&["192.0.2.1", "192.0.2.2"]));
        assert_eq!(writes, [second]);
    }

    #[test]
    fn primary_addresses_fit_before_others() {
        let mut settings = Settings::default();
        settings.own.maps.node_addresses = 2;
        let mut state = NodeState::new(&settings);
        let now = addresses(&["192.0.2.9", "192.0.2.1", "192.0.2.2", "fd00::1"]);
        state.writes(now);
        let kept: Vec<_> = state.written.iter().map(ToString::to_string).collect();
        assert_eq!(kept, ["192.0.2.1", "192.0.2.9", "fd00::1"]);
    }
}
