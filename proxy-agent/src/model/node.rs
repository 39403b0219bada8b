//! This node's addresses: which are its own, and on which NodePorts answer.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::address::{AddressClass, unusable_class};
use super::object::Family;
use super::service::unspecified;
use super::{Model, ModelSettings};

/// Which of the node's addresses answer on `NodePorts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePortAddresses {
    /// The node's primary address of each IP version.
    pub primary: bool,
    /// Those of IPv4 in these ranges.
    pub v4: Vec<Ipv4Net>,
    /// Those of IPv6 in these ranges.
    pub v6: Vec<Ipv6Net>,
}

impl Default for NodePortAddresses {
    /// Primary addresses, as in kube-proxy's mode nftables: on all addresses (the
    /// default of its other modes) `NodePorts` would also be open on networks that
    /// were not meant to see them.
    fn default() -> Self {
        Self {
            primary: true,
            v4: Vec::new(),
            v6: Vec::new(),
        }
    }
}

impl NodePortAddresses {
    /// All addresses.
    pub fn all() -> Self {
        Self {
            primary: false,
            v4: vec![Ipv4Net::default()],
            v6: vec![Ipv6Net::default()],
        }
    }

    /// Whether NodePorts answer on all addresses of a family.
    pub fn is_all(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4.iter().any(|net| net.prefix_len() == 0),
            Family::V6 => self.v6.iter().any(|net| net.prefix_len() == 0),
        }
    }

    /// Whether NodePorts answer on `address`, which may be the node's primary one.
    pub fn allow(&self, address: IpAddr, is_primary: bool) -> bool {
        let in_range = match address {
            IpAddr::V4(address) => self.v4.iter().any(|net| net.contains(&address)),
            IpAddr::V6(address) => self.v6.iter().any(|net| net.contains(&address)),
        };
        in_range || self.primary && is_primary
    }
}

/// The addresses of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeAddresses {
    /// One of each family at most: what flows get as their source that have to
    /// come back to this node.
    pub primary: Vec<IpAddr>,
    /// Those by which the cluster knows the node.
    pub own: BTreeSet<IpAddr>,
    /// Those on which NodePorts answer.
    pub node_ports: BTreeSet<IpAddr>,
    /// Those on which health checks of Services answer: where NodePorts do. The unspecified
    /// address means all of its family.
    pub health_checks: BTreeSet<IpAddr>,
}

impl Model {
    /// This node's addresses under the present settings.
    pub fn node_addresses(&self) -> NodeAddresses {
        let primary = self.primary_addresses();
        let listed = self.listed_addresses().chain(self.settings.bind_address);
        let allowed = &self.settings.node_port_addresses;
        let node_ports: BTreeSet<_> = self
            .local_addresses
            .iter()
            .chain(&primary)
            .copied()
            // No packet has them on a device of another kind than loopback.
            .filter(|address| !address.is_loopback())
            .filter(|address| allowed.allow(*address, primary.contains(address)))
            .collect();
        NodeAddresses {
            own: listed.collect(),
            primary,
            health_checks: health_check_addresses(allowed, &node_ports),
            node_ports,
        }
    }

    /// Takes in the addresses that this node's devices have.
    pub fn set_local_addresses(&mut self, addresses: BTreeSet<IpAddr>) {
        let changed: Vec<_> = self
            .local_addresses
            .symmetric_difference(&addresses)
            .copied()
            .collect();
        for address in changed {
            self.mark_external_ips_dirty(address);
            self.mark_health_checks_at_dirty(address);
        }
        self.local_addresses = addresses;
    }

    /// Takes in the addresses at which something on this host answers in the place of Services.
    pub fn set_host_frontends(&mut self, addresses: BTreeSet<IpAddr>) {
        let changed = self.host_frontends.symmetric_difference(&addresses);
        let services: BTreeSet<_> = changed
            .flat_map(|address| self.claims.services_on(*address))
            .collect();
        for service in services {
            self.mark_dirty(service);
        }
        self.host_frontends = addresses;
    }

    /// Takes in new settings; what they decide about is looked at again.
    pub fn configure(&mut self, settings: ModelSettings) {
        if settings.external_ips != self.settings.external_ips {
            self.allow_external_ips(&settings.external_ips);
        }
        if settings.bind_address != self.settings.bind_address {
            let changed = [settings.bind_address, self.settings.bind_address];
            for address in changed.into_iter().flatten() {
                self.mark_external_ips_dirty(address);
            }
            self.mark_source_ranges_dirty();
        }
        self.settings = settings;
    }

    /// Has Services claim the external IPs in these ranges, and no others.
    fn allow_external_ips(&mut self, allowed: &[IpNet]) {
        let served = self.store.iter().filter_map(|(id, entry)| {
            let service = entry.service.as_deref()?;
            let has_any = !service.external_ips().is_empty();
            has_any.then(|| (id, service.clone().with_external_ips(allowed)))
        });
        for (id, service) in served.collect::<Vec<_>>() {
            // What is refused changes also where what is served does not.
            self.mark_dirty(id);
            self.replace_service(id, Some(service));
        }
    }

    /// Whether packets to `address` are meant for this node itself.
    pub(super) fn is_node_address(&self, address: IpAddr) -> bool {
        self.local_addresses.contains(&address)
            || self.settings.bind_address == Some(address)
            || self.listed_addresses().any(|listed| listed == address)
    }

    /// The addresses that the Node object lists.
    fn listed_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let node = self.node.iter();
        node.flat_map(|node| node.addresses.iter().copied())
    }

    /// Of each family: the configured address, else the Node's first.
    fn primary_addresses(&self) -> Vec<IpAddr> {
        let configured = self.settings.bind_address.into_iter();
        let candidates: Vec<_> = configured
            .chain(self.listed_addresses())
            .filter(|address| unusable_class(*address).is_none())
            .collect();
        Family::ALL
            .into_iter()
            .filter_map(|family| {
                let of_family = |address: &&IpAddr| Family::of(**address) == family;
                candidates.iter().find(of_family).copied()
            })
            .collect()
    }
}

/// As kube-proxy listens. A link-local IPv6 address cannot be listened on without its device,
/// and no load balancer asks there.
fn health_check_addresses(
    allowed: &NodePortAddresses,
    node_ports: &BTreeSet<IpAddr>,
) -> BTreeSet<IpAddr> {
    let all = Family::ALL.into_iter();
    let all = all.filter(|family| allowed.is_all(*family));
    let some = node_ports.iter().copied().filter(|address| {
        let needs_device =
            address.is_ipv6() && unusable_class(*address) == Some(AddressClass::LinkLocal);
        !allowed.is_all(Family::of(*address)) && !needs_device
    });
    all.map(unspecified).chain(some).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(texts: &[&str]) -> BTreeSet<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn health_checks_answer_everywhere_or_where_node_ports_do_but_at_no_link_local_address() {
        let node_ports = set(&["192.0.2.1", "2001:db8::1", "fe80::1"]);
        let at = |allowed: &NodePortAddresses| health_check_addresses(allowed, &node_ports);
        assert_eq!(at(&NodePortAddresses::all()), set(&["0.0.0.0", "::"]));
        let some = NodePortAddresses {
            v6: vec![
                "2001:db8::/32".parse().unwrap(),
                "fe80::/10".parse().unwrap(),
            ],
            ..NodePortAddresses::all()
        };
        assert_eq!(at(&some), set(&["0.0.0.0", "2001:db8::1"]));
        let primary = set(&["192.0.2.1", "2001:db8::1"]);
        assert_eq!(at(&NodePortAddresses::default()), primary);
    }
}
