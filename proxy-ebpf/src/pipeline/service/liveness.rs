//! Which endpoints new connections may go to: not those that do not answer.

use crate::layout::{Address, Backend, Counter, liveness_state};
use crate::pipeline::tables::Tables;

/// Whether a new connection may go to a backend.
#[inline(always)]
pub(super) fn may_be_used<A: Address, T: Tables<A>>(
    tables: &T,
    index: u32,
    backend: &Backend<A>,
) -> bool {
    let Some(mut liveness) = tables.liveness(index) else {
        return true;
    };
    if liveness.state == liveness_state::USED || liveness.generation != backend.generation {
        return true;
    }
    if liveness.state != liveness_state::TRIAL {
        return false;
    }
    liveness.state = liveness_state::AVOIDED;
    tables.set_liveness(index, &liveness);
    tables.count(Counter::EndpointTried);
    true
}

/// Whether new connections go to a backend; one that is only to be tried is not counted.
#[inline(always)]
pub(super) fn is_used<A: Address, T: Tables<A>>(tables: &T, index: u32) -> bool {
    let backend = tables.backend(index).map_or(0, |it| it.generation);
    tables
        .liveness(index)
        .is_none_or(|it| it.state == liveness_state::USED || it.generation != backend)
}
