//! Which frontend a destination is.

use super::{Client, Tables};
use crate::layout::{Address, Counter, Frontend, FrontendKey};

/// The frontend that `destination` is: by its exact address first, then as a NodePort on
/// one of the node's addresses. `None` if it is none; an error is the reason why nothing
/// may go there all the same.
#[inline(always)]
pub(super) fn find_frontend<A: Address, T: Tables<A>>(
    destination: &FrontendKey<A>,
    client: Client,
    tables: &T,
) -> Result<Option<Frontend>, Counter> {
    // Nobody's address is the zero one, under which NodePorts lie.
    if destination.address == A::default() {
        return Ok(None);
    }
    let exact = tables.frontend(destination);
    match exact.or_else(|| node_port(destination, client, tables)) {
        Some(frontend) => Ok(Some(frontend)),
        None => leads_nowhere(&destination.address, tables).map_or(Ok(None), Err),
    }
}

/// The NodePort that `destination` is.
#[inline(always)]
pub(super) fn node_port<A: Address, T: Tables<A>>(
    destination: &FrontendKey<A>,
    client: Client,
    tables: &T,
) -> Option<Frontend> {
    let key = FrontendKey {
        address: A::default(),
        ..*destination
    };
    let frontend = tables.frontend(&key)?;
    // What a packet has from or to loopback never comes by a device.
    let is_here = (client == Client::Host && destination.address.is_loopback())
        || tables.is_node_address(&destination.address);
    is_here.then_some(frontend)
}

/// Why a packet that is for no frontend must not go on: its destination is a ClusterIP,
/// or could become one. It would leave the node by a default route.
#[inline(always)]
fn leads_nowhere<A: Address, T: Tables<A>>(address: &A, tables: &T) -> Option<Counter> {
    let ranges = tables.settings().service_ranges;
    if !ranges.iter().any(|range| range.contains(address)) {
        None
    } else if tables.is_cluster_ip(address) {
        Some(Counter::NoSuchPort)
    } else {
        Some(Counter::NoSuchService)
    }
}

/// Whether the client is told that nobody could answer. Every other reason looks like a
/// loss, which may pass.
#[inline(always)]
pub(super) fn is_refusal(reason: Counter) -> bool {
    matches!(reason, Counter::NoEndpoints | Counter::NoSuchPort)
}
