//! Sources that no client can have.

use super::frontend::is_in_service_cidr;
use crate::layout::{Address, Tuple};
use crate::pipeline::packet::headers::is_same;
use crate::pipeline::tables::Tables;
use crate::pipeline::verdict::Client;

/// Whether a packet with this tuple comes from where no client can be: not a host's address, this
/// node's own, the frontend's own, or a Service's. A flow for it would give it an address of this
/// node.
#[inline(always)]
pub(crate) fn is_martian<A: Address, T: Tables<A>>(
    tuple: &Tuple<A>,
    client: Client,
    tables: &T,
) -> bool {
    let source = &tuple.source;
    if !source.is_unicast() || is_same(source, &tuple.destination) {
        return true;
    }
    client != Client::Host && (is_own_address(source, tables) || is_in_service_cidr(source, tables))
}

/// Whether an address is this node's.
#[inline(always)]
pub(crate) fn is_own_address<A: Address, T: Tables<A>>(address: &A, tables: &T) -> bool {
    tables.is_node_address(address)
        || tables
            .settings()
            .is_some_and(|settings| is_same(&settings.node_address, address))
}
