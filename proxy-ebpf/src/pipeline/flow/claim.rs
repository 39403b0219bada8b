//! Inserts the records of a new flow; the reply record claims its translated tuple.

use super::owner::{TupleOwner, tuple_owner};
use super::record::{Translation, reply_key, reply_record_of};
use super::source_port::NatPorts;
use super::traffic::count_connection;
use crate::layout::{Counter, Edge, Flow, FlowKey, flow_flags};
use crate::pipeline::packet::{Headers, IpVersion};
use crate::pipeline::tables::{InsertError, InsertMode, Tables};

/// Makes the records of a new flow, which may get another source port.
#[inline(always)]
pub(crate) fn insert_records<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    nat_ports: u32,
    flow: &mut Flow<A>,
) -> Result<Translation<A>, Counter> {
    claim_tuple(headers, tables, nat_ports, flow)?;
    let key = FlowKey::new(headers.tuple, headers.protocol, Edge::Ingress);
    if tables.insert_flow(&key, flow, InsertMode::Any).is_err() {
        tables.remove_flow(&reply_key(flow, headers.protocol));
        return Err(Counter::FlowTableFull);
    }
    tables.count(Counter::FlowsCreated);
    count_connection(tables, flow);
    Ok(Translation {
        tuple: flow.tuple,
        flags: flow.flags(),
        is_deferred: false,
    })
}

/// Makes the reply record, which claims the translated tuple, with another source port
/// where another flow has the tuple or the packets leave with this node's address.
#[inline(always)]
fn claim_tuple<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
    nat_ports: u32,
    flow: &mut Flow<A>,
) -> Result<(), Counter> {
    let reply = reply_record_of(flow, &headers.tuple);
    let mut key = reply_key(flow, headers.protocol);
    let is_own = flow.flags() & flow_flags::REDIRECT == 0
        && tables.find(&key).is_none_or(|other| {
            other.tuple.is(&reply.tuple)
                || tuple_owner(&other, key.protocol, tables.now()) == TupleOwner::Expired
        });
    if !is_own {
        let ports = NatPorts::new(nat_ports, headers, tables.now());
        let port = ports
            .find(tables, &mut key, &reply.tuple)
            .ok_or(Counter::PortsExhausted)?;
        key.tuple.destination_port = port;
        flow.tuple.source_port = port;
    }
    // Whoever had the tuple goes.
    tables.remove_flow(&key);
    tables
        .insert_flow(&key, &reply, InsertMode::NoExist)
        .map_err(|error| match error {
            InsertError::Full => Counter::FlowTableFull,
            // Another CPU was faster; the client will ask again.
            InsertError::Exists => Counter::PortsExhausted,
        })
}
