//! Flow records as agents of layout 5 had them: in two hash tables that evicted the least
//! recently used, for unestablished and for established flows.
#![expect(unsafe_code, reason = "keys and values as the bytes that they are")]

use std::path::Path;

use aya::maps::MapData;
use proxy_ebpf::flow_table::NewRecord;
use proxy_ebpf::layout::{Address, Edge, FlowKey, KeyParts, Timeouts, Tuple, flow_flags};

use super::MapError;
use super::batch::for_each_raw;
use super::flow_table::OpenFlowTable;

/// The version of that layout.
pub(super) const VERSION: u32 = 5;

/// Value of `FLOWS_*` and `OPENING_*`; the keys were as they are.
#[derive(Clone, Copy)]
#[repr(C)]
struct OldFlow<A> {
    tuple: Tuple<A>,
    backend: u32,
    generation: u32,
    service: u32,
    last_seen: u32,
    flags: u32,
    packets: u32,
}

/// Set in the flags of the records in `OPENING_*`.
const OLD_EMBRYONIC: u32 = flow_flags::EMBRYONIC;
const BOTH_FINS: u32 = flow_flags::FIN | flow_flags::CLIENT_FIN;

/// Flags that mean the same.
const KEPT: u32 = flow_flags::REDIRECT
    | flow_flags::HAIRPIN
    | flow_flags::REPLY
    | flow_flags::RESET
    | flow_flags::SEEN_REPLY
    | flow_flags::CLOSED
    | flow_flags::NETFILTER
    | flow_flags::DSR;

/// The tables of one IP version.
pub(super) struct OldFlowTables {
    names: [&'static str; 2],
    maps: [MapData; 2],
}

impl OldFlowTables {
    /// Those that are pinned in a folder.
    pub(super) fn open(folder: &Path, names: [&'static str; 2]) -> Result<Self, MapError> {
        let open = |name| {
            MapData::from_pin(folder.join(name))
                .map_err(|source| MapError::Write { map: name, source })
        };
        Ok(Self {
            names,
            maps: [open(names[0])?, open(names[1])?],
        })
    }

    /// Copies the records that are not there.
    pub(super) fn copy_to<A: Address>(&self, new: &OpenFlowTable<A>) -> Result<(), MapError> {
        for (name, map) in self.names.iter().zip(&self.maps) {
            let sizes = [size_of::<FlowKey<A>>(), size_of::<OldFlow<A>>()];
            let copied = for_each_raw(map, sizes, |key, value| {
                // SAFETY: they have the sizes of what they are read as, which is plain data.
                let (key, flow) = unsafe {
                    (
                        key.as_ptr().cast::<FlowKey<A>>().read_unaligned(),
                        value.as_ptr().cast::<OldFlow<A>>().read_unaligned(),
                    )
                };
                new.insert(&NewRecord {
                    key: key.by_parts(),
                    tuple: KeyParts::of(&flow.tuple, 0, Edge::Ingress),
                    backend: flow.backend,
                    generation: flow.generation,
                    service: flow.service,
                    packets: flow.packets,
                    client_end: 0,
                    flags: converted(flow.flags) | flow_flags::of_protocol(key.protocol),
                    now: flow.last_seen,
                });
            });
            copied.map_err(|source| MapError::Read { map: name, source })?;
        }
        Ok(())
    }
}

/// What the settings of that layout lack at their end: how long flows are remembered.
pub(super) fn timeouts() -> Vec<u8> {
    let Timeouts {
        tcp_established,
        tcp_close_wait,
        udp,
        udp_stream,
    } = Timeouts::DEFAULT;
    let words = [tcp_established, tcp_close_wait, udp, udp_stream];
    words.into_iter().flat_map(u32::to_ne_bytes).collect()
}

/// The flags of a record. Numbers of TCP were not known: a handshake that is under way goes on
/// as an established connection, and of one end's FIN alone nothing is known.
fn converted(flags: u32) -> u32 {
    let closed = if flags & BOTH_FINS == BOTH_FINS {
        flow_flags::CLOSED
    } else {
        0
    };
    let answered = if flags & OLD_EMBRYONIC == 0 {
        flow_flags::SEEN_REPLY
    } else {
        0
    };
    let answered = if flags & flow_flags::REPLY == 0 {
        0
    } else {
        answered
    };
    flags & KEPT | closed | answered
}
