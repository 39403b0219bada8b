//! Finds the frontend of a destination, and recognizes unassigned Service addresses.

use crate::layout::{Address, Counter, Frontend, FrontendKey, Range, Tuple};
use crate::pipeline::packet::{Headers, IpVersion};
use crate::pipeline::tables::Tables;
use crate::pipeline::verdict::Client;

/// The frontend under `key`, whose address is `address`: by its exact address first, then
/// as a NodePort on one of the node's addresses.
///
/// The key is changed in place: the stack of a program is small.
#[inline(always)]
pub(crate) fn find_frontend<A: Address, T: Tables<A>>(
    key: &mut FrontendKey<A>,
    address: &A,
    client: Client,
    tables: &T,
) -> Option<Frontend> {
    // Nobody's address is the zero one, under which NodePorts lie.
    if *address == A::default() {
        return None;
    }
    if let Some(frontend) = tables.frontend(key) {
        return Some(frontend);
    }
    node_port(key, address, client, tables)
}

/// The NodePort under `key` at `address`.
#[inline(always)]
pub(crate) fn node_port<A: Address, T: Tables<A>>(
    key: &mut FrontendKey<A>,
    address: &A,
    client: Client,
    tables: &T,
) -> Option<Frontend> {
    key.address = A::default();
    let frontend = tables.frontend(key)?;
    // What a packet has from or to loopback never comes by a device.
    let is_here =
        (client == Client::Host && address.is_loopback()) || tables.is_node_address(address);
    is_here.then_some(frontend)
}

/// Why a packet for no frontend is rejected or dropped: its destination is a ClusterIP or in
/// a ServiceCIDR. Passed, it would leave the node by the default route.
#[inline(always)]
pub(crate) fn unassigned_service_address<A: Address, T: Tables<A>>(
    address: &A,
    tables: &T,
) -> Option<Counter> {
    let ranges = &tables.settings()?.service_cidrs;
    let is_in_range = ranges.iter().any(|range| range.contains(address));
    // Where no range is known it is one of those that there are, or none.
    let may_be_one = is_in_range || !ranges.iter().any(Range::is_set);
    if may_be_one && tables.is_cluster_ip(address) {
        Some(Counter::NoSuchPort)
    } else {
        is_in_range.then_some(Counter::NoSuchService)
    }
}

/// Whether an address is in a range of ClusterIPs that is known.
#[inline(always)]
pub(crate) fn is_in_service_cidr<A: Address, T: Tables<A>>(address: &A, tables: &T) -> bool {
    tables
        .settings()
        .is_some_and(|it| it.service_cidrs.iter().any(|range| range.contains(address)))
}

/// Whether a packet that goes out is this node's own, or is masqueraded, from a port at which
/// Services are reached: its answers look like the first packets of their clients.
#[inline(always)]
pub(crate) fn is_from_frontend<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
) -> bool {
    let Tuple {
        source,
        source_port,
        ..
    } = &headers.tuple;
    let mut key = FrontendKey::new(*source, *source_port, headers.protocol);
    if *source == A::default() || !tables.is_node_address(source) {
        return false;
    }
    tables.frontend(&key).is_some()
        || node_port(&mut key, source, Client::Outside, tables).is_some()
}
