//! Notes whether endpoints answer new connections, and flows of UDP. An endpoint is a backend's index and the
//! generation that the connection knows.

use crate::flow_table::Record;
use crate::layout::{Address, Counter, Liveness, backend_flags, flow_flags, settings_flags};
use crate::pipeline::tables::Tables;
use crate::verifier::{all_ones_if_zero, choose};

/// Whether connections that the backend at an index does not answer are noted, and go to another
/// one: the Service says so, or the settings where it does not.
#[inline(always)]
pub(crate) fn is_retried<A: Address, T: Tables<A>>(tables: &T, backend: u32) -> bool {
    const _: () = assert!(backend_flags::RETRIED as u32 == settings_flags::RETRY_UNANSWERED);
    let of_all = tables.settings().map_or(0, |settings| settings.flags);
    let own = tables
        .backend(backend)
        .map_or(0, |backend| u32::from(backend.flags));
    // Without a branch, which the kernel's verifier would follow to the end.
    let says_none = all_ones_if_zero(own & u32::from(backend_flags::SAYS_UNANSWERED));
    choose(says_none, of_all, own) & settings_flags::RETRY_UNANSWERED != 0
}

/// Notes that the SYN of a connection was not answered.
#[inline(always)]
pub(crate) fn note_unanswered<A: Address, T: Tables<A>>(tables: &T, endpoint: (u32, u32)) {
    note_silence(tables, endpoint, Counter::ConnectionRetried);
}

/// Notes that an ICMP error says of a flow of UDP that nobody can reach its endpoint, where nothing
/// was answered. Anybody can send one who knows the flow's tuple: as with a SYN that is sent again,
/// each flow counts once, and an answer undoes them all.
#[inline(always)]
pub(crate) fn note_unreachable<A: Address, T: Tables<A>>(tables: &T, reply: &Record<'_, A>) {
    const STATE: u32 = flow_flags::REPLY
        | flow_flags::TCP
        | flow_flags::SCTP
        | flow_flags::SEEN_REPLY
        | flow_flags::UNANSWERED;
    if reply.flags() & STATE == flow_flags::REPLY && is_retried(tables, reply.backend) {
        reply.mark(flow_flags::UNANSWERED);
        let endpoint = (reply.backend, reply.generation);
        note_silence(tables, endpoint, Counter::FlowUnreachable);
    }
}

#[inline(always)]
fn note_silence<A: Address, T: Tables<A>>(
    tables: &T,
    (backend, generation): (u32, u32),
    counter: Counter,
) {
    let Some(before) = tables.liveness(backend) else {
        return;
    };
    let mut liveness = before;
    if before.generation != generation {
        liveness = Liveness {
            generation,
            ..Liveness::default()
        };
    }
    liveness.unanswered = liveness.unanswered.saturating_add(1);
    liveness.unanswered_at = tables.now();
    tables.set_liveness(backend, &liveness);
    tables.count(counter);
}

/// Notes that the endpoint of a connection has answered a SYN, with whatever, or a datagram: it is not avoided any
/// more. Written only where that is news, for all CPUs share it.
#[inline(always)]
pub(crate) fn note_answer<A: Address, T: Tables<A>>(
    tables: &T,
    (backend, generation): (u32, u32),
    now: u32,
) {
    let answered = Liveness {
        generation,
        answered_at: now,
        ..Liveness::default()
    };
    let Some(before) = tables.liveness(backend) else {
        return;
    };
    let is_known = before.generation == generation
        && before.answered_at == now
        && before.unanswered | before.state == 0;
    if !is_known {
        tables.set_liveness(backend, &answered);
    }
}

/// Whether connections to an endpoint were not answered, since it has answered one, or it is
/// avoided: then any answer is news.
#[inline(always)]
pub(crate) fn is_in_doubt<A: Address, T: Tables<A>>(
    tables: &T,
    (backend, generation): (u32, u32),
) -> bool {
    tables
        .liveness(backend)
        .is_some_and(|it| it.generation == generation && it.unanswered | it.state != 0)
}
