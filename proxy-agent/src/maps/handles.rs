//! Handles of maps, of a loaded object or pinned ones; one type for each kind, named as the table
//! of maps has them.

use std::marker::PhantomData;
use std::path::Path;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{IterableMap as _, Map, MapData};
use aya::{Ebpf, Pod};
use proxy_ebpf::layout::{Allowed, MapSpec};

use super::elements::{Indexed, Keyed};
use super::mapped::MappedArray;
use super::{MapError, batch};

/// Where maps are.
pub(super) trait MapSource {
    /// A map by its name.
    fn take(&mut self, name: &'static str) -> Result<Map, MapError>;
}

impl MapSource for Ebpf {
    fn take(&mut self, name: &'static str) -> Result<Map, MapError> {
        self.take_map(name).ok_or(MapError::Missing(name))
    }
}

/// A folder of pinned maps.
pub(super) struct PinnedFolder<'a>(pub(super) &'a Path);

impl MapSource for PinnedFolder<'_> {
    fn take(&mut self, name: &'static str) -> Result<Map, MapError> {
        MapData::from_pin(self.0.join(name))
            .and_then(Map::from_map_data)
            .map_err(|source| MapError::Open { map: name, source })
    }
}

/// A handle that is made of a map.
pub(super) trait Open: Sized {
    /// Opens a map that is there.
    fn open(from: &mut impl MapSource, spec: MapSpec) -> Result<Self, MapError>;
}

/// A hash table.
pub(super) struct Hash<K, V> {
    name: &'static str,
    map: aya::maps::HashMap<MapData, K, V>,
}

impl<K: Pod, V: Pod> Hash<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.map.get(key, 0).ok()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = K> {
        self.map.keys().filter_map(Result::ok)
    }
}

impl<K: Pod, V: Pod> Open for Hash<K, V> {
    fn open(from: &mut impl MapSource, spec: MapSpec) -> Result<Self, MapError> {
        let name = spec.name;
        let map = from.take(name)?.try_into().map_err(failed(name))?;
        Ok(Self { name, map })
    }
}

impl<K: Pod, V: Pod> Keyed<K, V> for Hash<K, V> {
    fn insert(&mut self, key: K, value: V) -> Result<(), MapError> {
        let inserted = self.map.insert(key, value, 0);
        inserted.map_err(failed(self.name))
    }

    fn remove(&mut self, key: K) -> Result<(), MapError> {
        gone(self.map.remove(&key)).map_err(failed(self.name))
    }

    fn for_each(&self, take: impl FnMut(K, V)) -> Result<(), MapError> {
        batch::for_each(self.map.map(), take).map_err(|source| MapError::Read {
            map: self.name,
            source,
        })
    }
}

impl<K: Pod, V: Pod> Hash<K, V> {
    /// How many elements there is room for.
    pub(super) fn capacity(&self) -> Result<u64, MapError> {
        let info = self.map.map().info().map_err(failed(self.name))?;
        Ok(info.max_entries().into())
    }
}

/// A map that may not be there, and then is empty.
impl<K, V, M: Keyed<K, V>> Keyed<K, V> for Option<M> {
    fn insert(&mut self, key: K, value: V) -> Result<(), MapError> {
        self.as_mut().map_or(Ok(()), |map| map.insert(key, value))
    }

    fn remove(&mut self, key: K) -> Result<(), MapError> {
        self.as_mut().map_or(Ok(()), |map| map.remove(key))
    }

    fn for_each(&self, take: impl FnMut(K, V)) -> Result<(), MapError> {
        self.as_ref().map_or(Ok(()), |map| map.for_each(take))
    }
}

/// A trie of prefixes, of which only their presence counts. A key is behind its length in
/// bits.
pub(super) struct Trie<K, V> {
    name: &'static str,
    map: LpmTrie<MapData, K, V>,
}

impl<K: Pod, V: Pod> Open for Trie<K, V> {
    fn open(from: &mut impl MapSource, spec: MapSpec) -> Result<Self, MapError> {
        let name = spec.name;
        let map = from.take(name)?.try_into().map_err(failed(name))?;
        Ok(Self { name, map })
    }
}

impl<K: Pod> Keyed<(u32, K), Allowed> for Trie<K, Allowed> {
    fn insert(&mut self, (prefix, data): (u32, K), value: Allowed) -> Result<(), MapError> {
        let inserted = self.map.insert(&Key::new(prefix, data), value, 0);
        inserted.map_err(failed(self.name))
    }

    fn remove(&mut self, (prefix, data): (u32, K)) -> Result<(), MapError> {
        gone(self.map.remove(&Key::new(prefix, data))).map_err(failed(self.name))
    }

    fn for_each(&self, mut take: impl FnMut((u32, K), Allowed)) -> Result<(), MapError> {
        for key in self.map.keys() {
            let key = key.map_err(failed(self.name))?;
            take((key.prefix_len(), key.data()), 1);
        }
        Ok(())
    }
}

/// An array that is written by system calls.
pub(super) struct Array<V> {
    name: &'static str,
    map: Map,
    _element: PhantomData<V>,
}

impl<V: Pod> Array<V> {
    fn elements(&self) -> Result<aya::maps::Array<&MapData, V>, MapError> {
        (&self.map).try_into().map_err(failed(self.name))
    }
}

impl<V: Pod> Open for Array<V> {
    fn open(from: &mut impl MapSource, spec: MapSpec) -> Result<Self, MapError> {
        let array = Self {
            name: spec.name,
            map: from.take(spec.name)?,
            _element: PhantomData,
        };
        array.elements()?;
        Ok(array)
    }
}

impl<V: Pod> Indexed<V> for Array<V> {
    fn get(&mut self, index: u32) -> Result<V, MapError> {
        self.elements()?.get(&index, 0).map_err(failed(self.name))
    }

    fn set(&mut self, index: u32, value: V) -> Result<(), MapError> {
        aya::maps::Array::try_from(&mut self.map)
            .and_then(|mut elements| elements.set(index, value, 0))
            .map_err(failed(self.name))
    }

    fn copy(&self) -> Result<Vec<V>, MapError> {
        let elements = self.elements()?;
        let elements = elements.iter().collect::<Result<_, _>>();
        elements.map_err(failed(self.name))
    }
}

impl<V: Pod> Open for MappedArray<V> {
    fn open(from: &mut impl MapSource, spec: MapSpec) -> Result<Self, MapError> {
        match from.take(spec.name)? {
            Map::Array(data) => Self::new(spec.name, data),
            _ => Err(MapError::Missing(spec.name)),
        }
    }
}

impl<V: Pod> Indexed<V> for MappedArray<V> {
    fn get(&mut self, index: u32) -> Result<V, MapError> {
        Self::get(self, index)
    }

    fn set(&mut self, index: u32, value: V) -> Result<(), MapError> {
        Self::set(self, index, value)
    }

    fn copy(&self) -> Result<Vec<V>, MapError> {
        Self::copy(self, self.len())
    }
}

fn failed(name: &'static str) -> impl FnOnce(aya::maps::MapError) -> MapError {
    move |source| MapError::Write { map: name, source }
}

/// What was not there is gone, too.
fn gone(removed: Result<(), aya::maps::MapError>) -> Result<(), aya::maps::MapError> {
    match removed {
        Err(aya::maps::MapError::KeyNotFound) => Ok(()),
        Err(aya::maps::MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        other => other,
    }
}
