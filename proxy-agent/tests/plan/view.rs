//! The content of the maps as a packet would find it, and maps that keep a
//! picture of themselves after every single write.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use proxy_agent::maps::{FakeMaps, MapError, Maps, Readable};
use proxy_agent::plan::{Content, Write, WrittenElement};
use proxy_ebpf::host::Memory;
use proxy_ebpf::layout::backend_flags::{
    AVOIDABLE, IN_CLUSTER_SET, IN_LOCAL_SET, LOCAL, RETRIED, SAYS_UNANSWERED,
};
use proxy_ebpf::layout::{Address, Backend, Frontend, FrontendKey, Span, frontend_flags};

/// An endpoint: address words, port, and whether it is local.
pub(crate) type Endpoint = (Vec<u32>, u16, bool);

/// A frontend's key: address words, port, protocol.
pub(crate) type Key = (Vec<u32>, u16, u8);

/// Spans of this length and longer are tables for consistent hashing, where endpoints
/// have many slots.
const SMALLEST_TABLE: u32 = 2039;

/// What a packet to a frontend would find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    flags: u32,
    affinity_seconds: u32,
    pub(crate) cluster: BTreeSet<Endpoint>,
    pub(crate) local: BTreeSet<Endpoint>,
}

/// All frontends; an error names what no packet may ever find.
pub(crate) type View = BTreeMap<Key, Result<Served, String>>;

/// What both families' packets would find.
pub(crate) fn view(maps: &FakeMaps) -> View {
    let mut view = family(&maps.v4);
    view.extend(family(&maps.v6));
    view
}

/// The endpoints that count as serving, whether or not a set names them.
pub(crate) fn living(maps: &FakeMaps) -> Vec<Endpoint> {
    let mut living: Vec<Endpoint> = maps.v4.backends.values().filter_map(endpoint).collect();
    living.extend(maps.v6.backends.values().filter_map(endpoint));
    living.sort();
    living
}

/// What is in the maps beside the sets, when nothing is under way: it changes before the
/// sets or behind them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Beside {
    /// Of each frontend with affinity, each living endpoint with the sets that it says
    /// it is in.
    members: BTreeMap<Key, BTreeSet<(Endpoint, u16)>>,
    /// Of each frontend, each living endpoint with what it says of connections that are not answered.
    unanswered: BTreeMap<Key, BTreeSet<(Endpoint, u16)>>,
    /// The ranges of sources that each restricted frontend lets in.
    ranges: BTreeMap<Key, BTreeSet<(u32, Vec<u32>)>>,
    /// How many ranges there are in all, so that none is left behind.
    all_ranges: usize,
}

/// What is beside the sets.
pub(crate) fn beside(maps: &FakeMaps) -> Beside {
    let mut beside = Beside::default();
    beside.take_in(&maps.v4);
    beside.take_in(&maps.v6);
    beside
}

impl Beside {
    fn take_in<A: Address>(&mut self, memory: &Memory<A>) {
        self.all_ranges += memory.source_ranges.len();
        for (key, value) in &memory.frontends {
            if value.affinity_seconds != 0 {
                let members = flags(memory, value, IN_CLUSTER_SET | IN_LOCAL_SET);
                self.members.insert(key_of(key), members);
            }
            let unanswered = flags(memory, value, SAYS_UNANSWERED | RETRIED | AVOIDABLE);
            self.unanswered.insert(key_of(key), unanswered);
            if value.flags & frontend_flags::SOURCE_RANGES != 0 {
                let own = memory.source_ranges.iter();
                let own = own.filter(|(_, range)| range.service == value.service);
                let ranges = own.map(|(prefix, range)| (*prefix, range.source.words().to_vec()));
                self.ranges.insert(key_of(key), ranges.collect());
            }
        }
    }

    /// Whether each endpoint says what the sets say.
    pub(crate) fn agrees_with(&self, view: &View) -> bool {
        self.members.iter().all(|(key, members)| {
            let Some(Ok(served)) = view.get(key) else {
                return false;
            };
            members.iter().all(|(endpoint, sets)| {
                (sets & IN_CLUSTER_SET != 0) == served.cluster.contains(endpoint)
                    && (sets & IN_LOCAL_SET != 0) == served.local.contains(endpoint)
            })
        })
    }
}

/// The endpoints of a frontend's Service port, with those of these flags that they have.
fn flags<A: Address>(memory: &Memory<A>, value: &Frontend, mask: u16) -> BTreeSet<(Endpoint, u16)> {
    let backends = memory.backends.values();
    backends
        .filter(|backend| backend.service == value.service)
        .filter_map(|backend| Some((endpoint(backend)?, backend.flags & mask)))
        .collect()
}

fn key_of<A: Address>(key: &FrontendKey<A>) -> Key {
    (
        key.address.words().to_vec(),
        key.port.number(),
        key.protocol,
    )
}

fn family<A: Address>(memory: &Memory<A>) -> View {
    memory
        .frontends
        .iter()
        .map(|(key, value)| (key_of(key), served(memory, value)))
        .collect()
}

fn served<A: Address>(memory: &Memory<A>, value: &Frontend) -> Result<Served, String> {
    Ok(Served {
        flags: value.flags,
        affinity_seconds: value.affinity_seconds,
        cluster: set(memory, value, value.cluster)?,
        local: set(memory, value, value.local)?,
    })
}

fn set<A: Address>(
    memory: &Memory<A>,
    value: &Frontend,
    span: Span,
) -> Result<BTreeSet<Endpoint>, String> {
    let slots = memory.shared.slots.borrow();
    let mut found = BTreeSet::new();
    for position in span.start..span.start + span.len {
        let index = slots
            .get(&position)
            .ok_or_else(|| format!("slot {position} was never written"))?;
        let backend = memory
            .backends
            .get(index)
            .ok_or_else(|| format!("backend {index} was never written"))?;
        if backend.service != value.service {
            return Err(format!("backend {index} belongs to another Service"));
        }
        let endpoint =
            endpoint(backend).ok_or_else(|| format!("backend {index} does not serve any more"))?;
        if !found.insert(endpoint) && span.len < SMALLEST_TABLE {
            return Err(format!("backend {index} is in the set twice"));
        }
    }
    Ok(found)
}

fn endpoint<A: Address>(backend: &Backend<A>) -> Option<Endpoint> {
    backend.is_current(backend.generation).then(|| {
        (
            backend.address.words().to_vec(),
            backend.port.number(),
            backend.flags & LOCAL != 0,
        )
    })
}

/// Maps in memory that keep a picture of themselves after every write.
#[derive(Default)]
pub(crate) struct Filmed {
    pub(crate) maps: FakeMaps,
    pub(crate) film: RefCell<Vec<(Write, View)>>,
    /// How many writes are still made; what comes then is lost.
    pub(crate) left: Cell<Option<usize>>,
    /// How many writes were tried.
    pub(crate) tried: Cell<usize>,
    pub(crate) fault: RefCell<Fault>,
}

/// What a map refuses.
#[derive(Clone, Debug, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// The write with this number, and then as the next.
    Write(usize),
    /// Whatever is written to this element.
    Element(WrittenElement),
}

impl Filmed {
    /// Whether this write fails.
    fn refuses(&self, write: &Write) -> bool {
        let number = self.tried.replace(self.tried.get() + 1);
        let mut fault = self.fault.borrow_mut();
        if matches!(*fault, Fault::Write(at) if at == number) {
            *fault = Fault::Element(write.element());
        }
        matches!(*fault, Fault::Element(element) if element == write.element())
    }
}

impl Filmed {
    /// Maps that hold something already.
    pub(crate) fn of(maps: FakeMaps) -> Self {
        Self {
            maps,
            ..Self::default()
        }
    }
}

impl Maps for Filmed {
    fn write(&mut self, write: &Write) -> Result<(), MapError> {
        if self.refuses(write) {
            return Err(MapError::Read {
                map: "any",
                source: std::io::ErrorKind::OutOfMemory.into(),
            });
        }
        if let Some(left) = self.left.get() {
            let Some(left) = left.checked_sub(1) else {
                return Ok(());
            };
            self.left.set(Some(left));
        }
        self.maps.write(write)?;
        self.film
            .borrow_mut()
            .push((write.clone(), view(&self.maps)));
        Ok(())
    }
}

impl Readable for Filmed {
    fn read(&mut self) -> Result<Content, MapError> {
        self.maps.read()
    }
}
