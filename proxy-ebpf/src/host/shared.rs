//! What the maps of both IP versions share in memory.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};

use crate::layout::{ANSWERS, Answers, FilterBits, FlowSeed, NatPort, TraceListener, Traffic};

/// A call of the kernel that costs about the same wherever it is made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Call {
    /// Looks an element of an array up: some instructions.
    Array,
    /// Looks a key up in a hash table or a trie.
    Lookup,
    /// Writes an element of a hash table.
    Update,
    /// Removes one, or finds that it is not there.
    Delete,
    /// Reads the clock.
    Clock,
    /// Takes a random number.
    Random,
}

/// What both IP versions share, and the world outside.
pub struct Shared {
    /// `SLOTS`
    pub slots: RefCell<BTreeMap<u32, u32>>,
    /// `NAT_PORTS`
    pub nat_ports: RefCell<Vec<NatPort>>,
    /// `SERVICE_TRAFFIC`
    pub service_traffic: RefCell<BTreeMap<u32, Traffic>>,
    /// `FILTER`, where somebody keeps it; else each bit is set that is needed.
    pub filter: RefCell<Option<HashSet<FilterBits>>>,
    /// `FILTER` as it is in the kernel, in place of the above; empty where it is not known.
    pub filter_words: RefCell<Vec<u64>>,
    /// What was asked of the kernel, that is, of these maps and the world, and how often.
    pub calls: RefCell<BTreeMap<Call, u32>>,
    /// `COUNTERS`
    pub counters: RefCell<BTreeMap<&'static str, u64>>,
    /// The clock, in ticks.
    pub now: Cell<u32>,
    /// `ANSWERS`
    pub answers: RefCell<[Answers; ANSWERS as usize]>,
    /// What the next random number is; moves on by itself.
    pub random: Cell<u32>,
    /// `FLOW_SEED`
    pub flow_seed: Cell<FlowSeed>,
    /// `TRACE_LISTENER`
    pub trace_listener: Cell<TraceListener>,
    /// How many events `TRACE_EVENTS` has room for, of each IP version.
    pub trace_room: Cell<usize>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            slots: RefCell::default(),
            nat_ports: RefCell::default(),
            service_traffic: RefCell::default(),
            filter: RefCell::default(),
            filter_words: RefCell::default(),
            calls: RefCell::default(),
            counters: RefCell::default(),
            now: Cell::new(1),
            answers: RefCell::default(),
            random: Cell::new(1),
            flow_seed: Cell::new(0),
            trace_listener: Cell::default(),
            trace_room: Cell::new(usize::MAX),
        }
    }
}
