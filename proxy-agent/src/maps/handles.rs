//! Handles of a loaded object's maps, one type for each kind.

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, IterableMap as _, Map, MapData};
use aya::{Ebpf, Pod};
use proxy_ebpf::layout::Allowed;

use super::elements::{Indexed, Keyed};
use super::mapped::MappedArray;
use super::{MapError, batch};

/// A handle that is made of a map of the object.
pub(super) trait Open: Sized {
    /// Takes the map with this name and number of elements out of the object.
    fn open(object: &mut Ebpf, name: &'static str, elements: u32) -> Result<Self, MapError>;
}

/// A hash table.
pub(super) struct HashTable<K, V> {
    name: &'static str,
    map: HashMap<MapData, K, V>,
}

impl<K: Pod, V: Pod> HashTable<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.map.get(key, 0).ok()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = K> {
        self.map.keys().filter_map(Result::ok)
    }
}

impl<K: Pod, V: Pod> Open for HashTable<K, V> {
    fn open(object: &mut Ebpf, name: &'static str, _: u32) -> Result<Self, MapError> {
        let map = HashMap::try_from(take(object, name)?).map_err(failed(name))?;
        Ok(Self { name, map })
    }
}

impl<K: Pod, V: Pod> Keyed<K, V> for HashTable<K, V> {
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

/// A trie of prefixes, of which only their presence counts. A key is behind its length in
/// bits.
pub(super) struct Trie<K> {
    name: &'static str,
    map: LpmTrie<MapData, K, Allowed>,
}

impl<K: Pod> Open for Trie<K> {
    fn open(object: &mut Ebpf, name: &'static str, _: u32) -> Result<Self, MapError> {
        let map = LpmTrie::try_from(take(object, name)?).map_err(failed(name))?;
        Ok(Self { name, map })
    }
}

impl<K: Pod> Keyed<(u32, K), Allowed> for Trie<K> {
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
pub(super) struct PlainArray<V: Pod> {
    name: &'static str,
    map: Array<MapData, V>,
}

impl<V: Pod> Open for PlainArray<V> {
    fn open(object: &mut Ebpf, name: &'static str, _: u32) -> Result<Self, MapError> {
        let map = Array::try_from(take(object, name)?).map_err(failed(name))?;
        Ok(Self { name, map })
    }
}

impl<V: Pod> Indexed<V> for PlainArray<V> {
    fn get(&mut self, index: u32) -> Result<V, MapError> {
        self.map.get(&index, 0).map_err(failed(self.name))
    }

    fn set(&mut self, index: u32, value: V) -> Result<(), MapError> {
        self.map.set(index, value, 0).map_err(failed(self.name))
    }

    fn copy(&self) -> Result<Vec<V>, MapError> {
        let elements = self.map.iter().collect::<Result<_, _>>();
        elements.map_err(failed(self.name))
    }
}

impl<V: Pod> Open for MappedArray<V> {
    fn open(object: &mut Ebpf, name: &'static str, elements: u32) -> Result<Self, MapError> {
        match take(object, name)? {
            Map::Array(data) => Self::new(name, data, elements),
            _ => Err(MapError::Missing(name)),
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

fn take(object: &mut Ebpf, name: &'static str) -> Result<Map, MapError> {
    object.take_map(name).ok_or(MapError::Missing(name))
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
