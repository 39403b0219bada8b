//! The handshakes of TCP sockets whose destination was translated when they connected: whether the
//! endpoints answer. The packet path sees the same of the flows that it translates.

use super::socket::{SockAddr, SocketTables};
use crate::layout::{Address, FilterBits, Retry, SocketCookie, SocketKey, SocketRecord, Tuple};
use crate::pipeline::flow::liveness::{is_in_doubt, is_retried, note_answer, note_unanswered};
use crate::pipeline::flow::retry::is_reopened;

/// What happens in the handshake of a TCP socket that connects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handshake {
    /// The first SYN is about to be sent.
    Begins,
    /// Nothing has come before the SYN is about to be sent for the second time.
    TimesOut,
    /// The peer has answered the first SYN, with whatever.
    IsAnswered,
    /// The peer has answered a later one, or another endpoint in its place.
    IsAnsweredLate,
}

/// What of a handshake that begins is to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Watch {
    /// Nothing: the socket is none of ours.
    Nothing,
    /// That it times out, or that a connection is made.
    Timeouts,
    /// Also that it is refused: the endpoint lives.
    Refusals,
}

/// What is known of a SYN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Syn<A> {
    /// Where it comes from.
    pub from: SockAddr<A>,
    /// Its sequence number.
    pub sequence: u32,
}

/// Something happens in the handshake of a socket with `peer`; what is to be told from now on.
#[inline(always)]
pub fn on_handshake<A: Address, T: SocketTables<A>>(
    what: Handshake,
    cookie: SocketCookie,
    peer: SockAddr<A>,
    syn: impl FnOnce() -> Syn<A>,
    tables: &T,
) -> Watch {
    let Some(record) = translated(cookie, peer, tables) else {
        return Watch::Nothing;
    };
    let endpoint = (record.backend, record.generation);
    match what {
        Handshake::Begins if is_in_doubt(tables, endpoint) => Watch::Refusals,
        Handshake::Begins => Watch::Timeouts,
        Handshake::TimesOut => {
            note_unanswered(tables, endpoint);
            retry(&record, peer, syn(), tables);
            Watch::Refusals
        }
        Handshake::IsAnsweredLate if is_reopened(&tuple_of(peer, syn().from), tables) => {
            Watch::Timeouts
        }
        Handshake::IsAnswered | Handshake::IsAnsweredLate => {
            note_answer(tables, endpoint, tables.now());
            Watch::Timeouts
        }
    }
}

/// Has the SYN go to another endpoint when it is sent again: the packet path looks whether it may.
#[inline(always)]
fn retry<A: Address, T: SocketTables<A>>(
    record: &SocketRecord<A>,
    peer: SockAddr<A>,
    Syn { from, sequence }: Syn<A>,
    tables: &T,
) {
    let tuple = tuple_of(peer, from);
    let retry = Retry {
        address: record.address,
        port: record.port,
        pad: 0,
        backend: record.backend,
        generation: record.generation,
        syn_end: sequence.wrapping_add(1),
    };
    tables.insert_retry(&tuple, &retry);
    // Behind it: without these bits nobody looks for it.
    tables.set_filter(FilterBits::of_destination(&peer.address));
}

/// The tuple of a socket's packets.
#[inline(always)]
fn tuple_of<A>(peer: SockAddr<A>, from: SockAddr<A>) -> Tuple<A> {
    Tuple {
        source: from.address,
        destination: peer.address,
        source_port: from.port,
        destination_port: peer.port,
    }
}

/// The record of a socket whose connection to `peer` was translated, while somebody wants to know.
#[inline(always)]
fn translated<A: Address, T: SocketTables<A>>(
    cookie: SocketCookie,
    peer: SockAddr<A>,
    tables: &T,
) -> Option<SocketRecord<A>> {
    // This is asked for each connection that the machine makes.
    if !tables.filter_matches(FilterBits::of_source(&peer.address, peer.port)) {
        return None;
    }
    tables
        .socket(&SocketKey::connected(cookie))
        .filter(|record| record.is_connected_to(&peer.address, peer.port))
        .filter(|record| is_retried(tables, record.backend))
}
