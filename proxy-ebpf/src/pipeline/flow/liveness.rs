//! Notes whether endpoints answer new connections of TCP.

use crate::flow_table::Record;
use crate::layout::{Address, Counter, Liveness};
use crate::pipeline::tables::Tables;

/// Notes that the SYN of a flow was not answered.
#[inline(always)]
pub(crate) fn note_unanswered<A: Address, T: Tables<A>>(tables: &T, flow: &Record<'_, A>) {
    let Some(before) = tables.liveness(flow.backend) else {
        return;
    };
    let mut liveness = before;
    if before.generation != flow.generation {
        liveness = Liveness {
            generation: flow.generation,
            ..Liveness::default()
        };
    }
    liveness.unanswered = liveness.unanswered.saturating_add(1);
    liveness.unanswered_at = tables.now();
    tables.set_liveness(flow.backend, &liveness);
    tables.count(Counter::ConnectionRetried);
}

/// Notes that the endpoint of a flow has answered a SYN, with whatever: it is not avoided any more.
/// Written only where that is news, for all CPUs share it.
#[inline(always)]
pub(crate) fn note_answer<A: Address, T: Tables<A>>(tables: &T, reply: &Record<'_, A>, now: u32) {
    let answered = Liveness {
        generation: reply.generation,
        answered_at: now,
        ..Liveness::default()
    };
    let Some(before) = tables.liveness(reply.backend) else {
        return;
    };
    let is_known = before.generation == reply.generation
        && before.answered_at == now
        && before.unanswered | before.state == 0;
    if !is_known {
        tables.set_liveness(reply.backend, &answered);
    }
}
