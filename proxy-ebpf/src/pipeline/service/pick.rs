//! Selects the endpoint of a new flow, and finds a backend in a set.

use super::affinity::known;
use super::liveness::{is_suspect, usable};
use crate::layout::{
    Address, Affinity, AffinityKey, Backend, Counter, Frontend, SourceRange, Span, Tuple,
    backend_flags, frontend_flags,
};
use crate::pipeline::flow::record::NO_BACKEND;
use crate::pipeline::packet::hash::Hash;
use crate::pipeline::packet::headers::difference;
use crate::pipeline::packet::{Headers, IpVersion};
use crate::pipeline::tables::Tables;
use crate::pipeline::verdict::Client;
use crate::verifier::{all_ones_if_zero, choose, hide_bounds};

/// Slots that one run of a program scans for the endpoint that another node has selected: the
/// verifier walks each iteration. The limit of 33 tail calls allows some 660 slots; a node runs
/// 110 Pods by default, seldom more than 250.
const SCAN_LIMIT: u32 = 20;

/// Selects a position in an endpoint set: a hash of the client's tuple. Where the frontend uses
/// consistent hashing it is the same on every node; else nobody can foresee it, and it only finds
/// the endpoint again of a flow whose records were lost.
#[inline(always)]
pub(crate) fn endpoint_selector<A: IpVersion, T: Tables<A>>(
    headers: &Headers<A>,
    frontend: &Frontend,
    tables: &T,
) -> u32 {
    let seed = if frontend.flags & frontend_flags::HASHED == 0 {
        tables.flow_seed()
    } else {
        0
    };
    client_hash(headers, frontend, seed)
}

/// The endpoint of a client's new connection to a frontend, and its index; an error is
/// the reason why there is none. `selector` says which of a set it is, with 32 bits, the first
/// of which say most; it is not the backend `except` where there are others.
#[inline(always)]
pub(crate) fn pick<A: Address, T: Tables<A>>(
    source: A,
    client: Client,
    frontend: &Frontend,
    selector: impl FnOnce() -> u32,
    except: u32,
    tables: &T,
) -> Result<(u32, Backend<A>), Counter> {
    if !is_source_allowed(source, frontend, tables) {
        return Err(Counter::SourceNotAllowed);
    }
    pick_again(source, client, frontend, selector, except, tables)
}

/// The same for a client that was allowed to use the frontend before.
#[inline(always)]
pub(crate) fn pick_again<A: Address, T: Tables<A>>(
    source: A,
    client: Client,
    frontend: &Frontend,
    selector: impl FnOnce() -> u32,
    except: u32,
    tables: &T,
) -> Result<(u32, Backend<A>), Counter> {
    let set = endpoint_set(frontend, client)?;
    select_endpoint(source, tables, frontend, set, (selector, except))
}

/// Whether this source may use the frontend.
#[inline(always)]
pub(crate) fn is_source_allowed<A: Address, T: Tables<A>>(
    source: A,
    frontend: &Frontend,
    tables: &T,
) -> bool {
    let range = SourceRange {
        service: frontend.service,
        source,
    };
    frontend.flags & frontend_flags::SOURCE_RANGES == 0 || tables.is_allowed(&range)
}

/// The endpoint that another node has chosen, and its index, if it is among the first
/// [`SCAN_LIMIT`] of a set.
#[inline(always)]
pub(crate) fn find_backend<A: Address, T: Tables<A>>(
    Span { start, len }: Span,
    chosen: &Tuple<A>,
    tables: &T,
) -> Option<(u32, Backend<A>)> {
    // Without a way out in the middle: the kernel's verifier would follow each.
    let mut found = NO_BACKEND;
    for offset in 0..SCAN_LIMIT {
        if offset >= len {
            break;
        }
        let index = tables
            .slot(start.wrapping_add(offset))
            .unwrap_or(NO_BACKEND);
        let is_chosen = tables.backend(index).is_some_and(|backend| {
            let ports = backend.port.raw() ^ chosen.destination_port.raw();
            u32::from(ports) | difference(&backend.address, &chosen.destination) == 0
        });
        if is_chosen {
            found = index;
        }
    }
    if found == NO_BACKEND {
        return None;
    }
    let backend = tables.backend(found)?;
    Some((found, backend))
}

/// The endpoints of a set behind its first [`SCAN_LIMIT`], if there are any.
#[inline(always)]
pub(crate) fn remaining_span(Span { start, len }: Span) -> Option<Span> {
    let len = len.checked_sub(SCAN_LIMIT).filter(|len| *len > 0)?;
    let start = start.wrapping_add(SCAN_LIMIT);
    Some(Span { start, len })
}

/// Endpoints that a connection may go to.
#[derive(Clone, Copy)]
pub(crate) struct Set {
    /// Where their backends' indices are.
    pub(crate) span: Span,
    /// The bit of [`backend_flags`] that its members have.
    member: u16,
}

/// The set that this client's connection picks from; never empty.
#[inline(always)]
pub(crate) fn endpoint_set(frontend: &Frontend, client: Client) -> Result<Set, Counter> {
    let cluster = Set {
        span: frontend.cluster,
        member: backend_flags::IN_CLUSTER_SET,
    };
    if frontend.cluster.len == 0 {
        return Err(Counter::NoEndpoints);
    }
    let is_inside = frontend.flags & frontend_flags::EXTERNAL != 0 && client != Client::Outside;
    if frontend.flags & frontend_flags::LOCAL_POLICY == 0 || is_inside {
        return Ok(cluster);
    }
    if frontend.local.len == 0 {
        return Err(Counter::NoLocalEndpoints);
    }
    Ok(Set {
        span: frontend.local,
        member: backend_flags::IN_LOCAL_SET,
    })
}

/// The endpoint of a new connection: with affinity the one of the client's last
/// connection, if that is not too long ago and the endpoint is still in the set; else
/// any one. The affinity lasts for its time from each new connection on.
#[inline(always)]
fn select_endpoint<A: Address, T: Tables<A>>(
    client: A,
    tables: &T,
    frontend: &Frontend,
    set: Set,
    (selector, except): (impl FnOnce() -> u32, u32),
) -> Result<(u32, Backend<A>), Counter> {
    let key = AffinityKey {
        client,
        service: frontend.service,
    };
    let has_affinity = frontend.affinity_seconds != 0;
    let mut index = NO_BACKEND;
    let mut selected = 0;
    if has_affinity {
        index = known(tables, &key, frontend, set.member, except);
    }
    if index == NO_BACKEND {
        selected = selector();
        index = select_slot(tables, set.span, (selected, except));
    }
    let mut backend = tables.backend(index).ok_or(Counter::NoEndpoints)?;
    if is_suspect(&backend) {
        let member = hide_bounds(u32::from(set.member), selected);
        index = usable(tables, index, (frontend.service, member), selected);
        index = hide_bounds(index, selected);
        backend = tables.backend(index).ok_or(Counter::NoEndpoints)?;
    }
    if has_affinity {
        let affinity = Affinity {
            backend: index,
            generation: backend.generation,
            last_seen: tables.now(),
        };
        tables.set_affinity(&key, &affinity);
    }
    Ok((index, backend))
}

/// The one of the set that `selector` says; another one if that is `except`.
#[inline(always)]
fn select_slot<A: Address, T: Tables<A>>(
    tables: &T,
    set: Span,
    (selector, except): (u32, u32),
) -> u32 {
    let mut index = slot_at(tables, set, offset_of(set, selector));
    if index == except {
        index = draw_again(tables, set, selector, except);
    }
    hide_bounds(index, selector)
}

/// Another one of the set than `except`, which `selector` says, if one is found.
#[inline(always)]
fn draw_again<A: Address, T: Tables<A>>(tables: &T, set: Span, selector: u32, except: u32) -> u32 {
    // The next one of a set; in a table for consistent hashing that may be the same.
    let next = slot_at(
        tables,
        set,
        offset_of(set, selector).wrapping_add(1) % set.len,
    );
    let again = Hash::new(selector).word(except).finish();
    let other = slot_at(tables, set, offset_of(set, again));
    // Without a branch, which the kernel's verifier would follow to the end.
    choose(all_ones_if_zero(next ^ except), other, next)
}

/// The position in a set that `selector` says.
#[inline(always)]
fn offset_of(set: Span, selector: u32) -> u32 {
    ((u64::from(selector) * u64::from(set.len)) >> 32) as u32
}

/// The backend index at a position in a set, if there is one.
#[inline(always)]
fn slot_at<A: Address, T: Tables<A>>(tables: &T, set: Span, offset: u32) -> u32 {
    let index = tables.slot(set.start.wrapping_add(offset));
    hide_bounds(index.unwrap_or(NO_BACKEND), offset)
}

/// A number that follows from the tuple, without the address at which the client asks:
/// for a NodePort that is each node's own. With affinity a client's connections are to
/// stay together, so that its port does not count.
#[inline(always)]
fn client_hash<A: IpVersion>(headers: &Headers<A>, frontend: &Frontend, seed: u32) -> u32 {
    let tuple = &headers.tuple;
    let client_port = if frontend.affinity_seconds == 0 {
        tuple.source_port.number()
    } else {
        0
    };
    let ports = u32::from(client_port) << 16 | u32::from(tuple.destination_port.number());
    let mut hash = Hash::new(seed ^ u32::from(headers.protocol)).word(ports);
    for word in tuple.source.words() {
        hash = hash.word(u32::from_be(*word));
    }
    hash.finish()
}
