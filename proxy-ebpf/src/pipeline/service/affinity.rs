//! Session affinity: the endpoint of a client's last connection.

use super::liveness::may_be_used;
use crate::layout::{Address, AffinityKey, Backend, Frontend, ticks};
use crate::pipeline::tables::Tables;

/// The endpoint of a client's last connection, if a new one may go there, and it is not the
/// excepted one.
#[inline(always)]
pub(crate) fn known<A: Address, T: Tables<A>>(
    tables: &T,
    key: &AffinityKey<A>,
    frontend: &Frontend,
    member: u16,
    except: u32,
) -> Option<(u32, Backend<A>)> {
    let last = tables.affinity(key)?;
    let age = tables.now().wrapping_sub(last.last_seen);
    let backend = tables.backend(last.backend)?;
    let is_usable = age <= ticks::from_seconds(frontend.affinity_seconds)
        && backend.is_current(last.generation)
        && backend.service == key.service
        && backend.flags & member != 0
        && last.backend != except
        && may_be_used(tables, last.backend, &backend);
    is_usable.then_some((last.backend, backend))
}
