//! Session affinity: the endpoint of a client's last connection.

use super::liveness::{is_suspect, may_be_used};
use crate::layout::{Address, AffinityKey, Frontend, ticks};
use crate::pipeline::flow::record::NO_BACKEND;
use crate::pipeline::tables::Tables;

/// The backend of a client's last connection, if a new one may go there and it is not the excepted
/// one; else [`NO_BACKEND`].
#[inline(always)]
pub(crate) fn known<A: Address, T: Tables<A>>(
    tables: &T,
    key: &AffinityKey<A>,
    frontend: &Frontend,
    member: u16,
    except: u32,
) -> u32 {
    let Some(last) = tables.affinity(key) else {
        return NO_BACKEND;
    };
    let age = tables.now().wrapping_sub(last.last_seen);
    let Some(backend) = tables.backend(last.backend) else {
        return NO_BACKEND;
    };
    let is_usable = age <= ticks::from_seconds(frontend.affinity_seconds)
        && backend.is_current(last.generation)
        && backend.service == key.service
        && backend.flags & member != 0
        && last.backend != except
        && (!is_suspect(&backend) || may_be_used(tables, last.backend));
    if is_usable { last.backend } else { NO_BACKEND }
}
