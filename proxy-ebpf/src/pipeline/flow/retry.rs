//! Connections that were translated at their sockets, and whose endpoint does not answer: they are
//! translated on the way, to another one.

use super::plain::Note;
use super::record::{NO_BACKEND, client_key};
use crate::layout::{Address, Edge, FilterBits, KeyParts, Retry, Tuple, flow_flags, protocol};
use crate::pipeline::packet::{Headers, IpVersion};
use crate::pipeline::tables::Tables;
use crate::pipeline::verdict::Client;
use crate::verifier::{all_ones_if_zero, hide_bounds};

/// What is known of a connection, if the packet is its SYN, sent again because nobody has answered.
#[inline(always)]
pub(crate) fn retry_of<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    tables: &T,
) -> Option<Retry<A>> {
    if !headers.is_syn() || headers.protocol != protocol::TCP {
        return None;
    }
    let retry = tables.retry(&headers.tuple)?;
    (retry.syn_end == headers.numbers.next).then_some(retry)
}

/// Whether something may be known of a connection to this destination: the program at the socket
/// sets these bits. By themselves they are set of endpoints at addresses of this host only.
#[inline(always)]
pub(crate) fn may_be_retried<A: IpVersion, T: Tables<A>>(headers: &Headers<A>, tables: &T) -> bool {
    headers.is_syn()
        && tables.filter_matches(FilterBits::of_destination(&headers.tuple.destination))
}

/// What is noted where such a connection goes to another endpoint: what the first one answers
/// after all is not taken for the other's, but seems to come from the frontend, which the client's
/// stack knows nothing of.
#[inline(always)]
pub(crate) fn late_answers<A: IpVersion>(
    headers: &Headers<A>,
    retry: &Retry<A>,
    client: Client,
) -> Note<A> {
    let travel = if client == Client::Host {
        flow_flags::REDIRECT | flow_flags::HOST_CLIENT
    } else {
        0
    };
    Note {
        tuple: Tuple {
            destination: retry.address,
            destination_port: retry.port,
            ..headers.tuple
        },
        backend: (retry.backend, retry.generation),
        flags: hide_bounds(
            flow_flags::EMBRYONIC | flow_flags::TCP | travel,
            headers.numbers.next,
        ),
    }
}

/// Where such answers are looked up.
#[inline(always)]
pub(crate) fn late_answer_key<'a, A: IpVersion>(
    headers: &'a Headers<A>,
    note: &Note<A>,
) -> KeyParts<'a, A> {
    const _: () = assert!(Edge::Ingress as u8 == 0 && Edge::Egress as u8 == 1);
    // Without a branch, which the kernel's verifier would follow to the end.
    let is_at_egress = all_ones_if_zero(note.flags & flow_flags::REDIRECT) & 1;
    KeyParts {
        edge: is_at_egress as u8,
        ..KeyParts::of_answers(&headers.tuple, protocol::TCP, Edge::Egress)
    }
}

/// Whether a connection with this tuple goes to another endpoint than its socket knows: what is
/// answered there, the packet path sees.
#[inline(always)]
pub(crate) fn is_reopened<A: Address, T: Tables<A>>(tuple: &Tuple<A>, tables: &T) -> bool {
    let key = KeyParts::of(tuple, protocol::TCP, Edge::Ingress);
    tables
        .find(&key)
        .is_some_and(|flow| flow.backend != NO_BACKEND && flow.flags() & flow_flags::PLAIN == 0)
}

/// Another connection begins with the tuple of one that was retried: that is over, and none of its
/// packets is translated any more.
#[inline(always)]
pub(crate) fn end_retried<A: IpVersion, T: Tables<A>>(headers: &Headers<A>, tables: &T) {
    if let Some(flow) = tables.find(&client_key(headers))
        && flow.backend != NO_BACKEND
    {
        flow.mark(flow_flags::PLAIN);
    }
}
