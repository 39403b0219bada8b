//! The content of the maps as a packet would find it, and maps that keep a
//! picture of themselves after every single write.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use proxy_agent::maps::{FakeMaps, MapError, Maps};
use proxy_agent::plan::Write;
use proxy_ebpf::host::Memory;
use proxy_ebpf::layout::{Address, Backend, Frontend, Span, backend_flags};

/// An endpoint: address words, port, and whether it is local.
pub(crate) type Endpoint = (Vec<u32>, u16, bool);

/// A frontend's key: address words, port, protocol.
pub(crate) type Key = (Vec<u32>, u16, u8);

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

fn family<A: Address>(memory: &Memory<A>) -> View {
    memory
        .frontends
        .iter()
        .map(|(key, value)| {
            let name = (
                key.address.words().to_vec(),
                key.port.number(),
                key.protocol,
            );
            (name, served(memory, value))
        })
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
        if !found.insert(endpoint) {
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
            backend.flags & backend_flags::LOCAL != 0,
        )
    })
}

/// Maps in memory that keep a picture of themselves after every write.
#[derive(Default)]
pub(crate) struct Filmed {
    pub(crate) maps: FakeMaps,
    pub(crate) film: RefCell<Vec<(Write, View)>>,
}

impl Maps for Filmed {
    fn write(&mut self, write: &Write) -> Result<(), MapError> {
        self.maps.write(write)?;
        self.film
            .borrow_mut()
            .push((write.clone(), view(&self.maps)));
        Ok(())
    }
}
