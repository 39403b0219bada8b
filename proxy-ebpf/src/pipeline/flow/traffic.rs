//! Counts connections and packets by Service port and by backend.

use crate::flow_table::Record;
use crate::layout::{Address, NewFlow, Traffic};
use crate::pipeline::tables::Tables;

/// The first packets of a record are counted one by one, later ones in batches: short flows
/// are counted exactly, and long ones seldom write to memory that all CPUs share.
const BATCH: u32 = 64;

/// Counts a new connection, and its first packet.
#[inline(always)]
pub(crate) fn count_connection<A: Address, T: Tables<A>>(tables: &T, flow: &NewFlow<A>) {
    let traffic = Traffic {
        connections: 1,
        packets: 1,
    };
    tables.add_traffic(flow.service, flow.backend, traffic);
}

/// Counts a packet that a record translates; not for an endpoint that is gone, whose
/// number may be another's.
#[inline(always)]
pub(crate) fn count_packet<A: Address, T: Tables<A>>(tables: &T, flow: &Record<'_, A>) {
    let packets = flow.packets.get().wrapping_add(1);
    flow.packets.set(packets);
    let due = if packets <= BATCH {
        1
    } else if packets.is_multiple_of(BATCH) {
        BATCH
    } else {
        return;
    };
    let is_current = tables
        .backend(flow.backend)
        .is_some_and(|backend| backend.is_current(flow.generation));
    if is_current {
        let traffic = Traffic {
            connections: 0,
            packets: due.into(),
        };
        tables.add_traffic(flow.service, flow.backend, traffic);
    }
}
