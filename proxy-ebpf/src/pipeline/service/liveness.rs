//! Which endpoints new connections may go to: not those that do not answer.

use crate::layout::{Address, Backend, Counter, Liveness, backend_flags, liveness_state};
use crate::pipeline::tables::Tables;
use crate::verifier::{all_ones_if_zero, choose, hide_bounds};

/// Whether a backend may be avoided now, as few are: only then [`usable`] has to be asked.
#[inline(always)]
pub(super) const fn is_suspect<A>(backend: &Backend<A>) -> bool {
    backend.flags & backend_flags::SUSPECT != 0
}

/// Whether the next connection of a client may go to the backend of its last one, which is suspect.
#[inline(always)]
pub(super) fn may_be_used<A: Address, T: Tables<A>>(tables: &T, index: u32) -> bool {
    let liveness = tables.liveness(index);
    liveness.is_none_or(|it| it.state == liveness_state::USED)
}

/// The backend that a new connection goes to where a suspect one of a set is selected, which is
/// said by its bit of [`backend_flags`]: that one, or another one of the set while it is avoided, if
/// that still serves the Service port.
#[inline(always)]
pub(super) fn usable<A: Address, T: Tables<A>>(
    tables: &T,
    index: u32,
    (service, member): (u32, u32),
    selector: u32,
) -> u32 {
    let Some(liveness) = tables.liveness(index) else {
        return index;
    };
    let [one, other, local, other_local] = liveness.instead;
    // Without branches, of which the kernel's verifier would follow each to the end.
    let is_cluster = all_ones_if_zero(member ^ u32::from(backend_flags::IN_CLUSTER_SET));
    let is_one = all_ones_if_zero(selector & 1);
    let of_cluster = choose(is_one, one, other);
    let instead = choose(is_cluster, of_cluster, choose(is_one, local, other_local));
    let is_avoided = all_ones_if_zero(liveness.state ^ liveness_state::AVOIDED);
    let has_instead = !all_ones_if_zero(instead);
    let other = choose(is_avoided & has_instead, instead.wrapping_sub(1), index);
    if liveness.state == liveness_state::TRIAL {
        let avoided = Liveness {
            state: liveness_state::AVOIDED,
            ..liveness
        };
        tables.set_liveness(index, &avoided);
        tables.count(Counter::EndpointTried);
    }
    choose(serves(tables, other, service), other, index)
}

/// All bits, if the backend at `index` serves a Service port: the agent says where connections go
/// instead ten times a second only, and the backend may be another one's by now.
#[inline(always)]
fn serves<A: Address, T: Tables<A>>(tables: &T, index: u32, service: u32) -> u32 {
    let backend = tables.backend(index);
    let difference = backend.map_or(1, |it| (it.service ^ service) | (!it.generation & 1));
    all_ones_if_zero(hide_bounds(difference, service))
}
