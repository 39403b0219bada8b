//! Services and their slices, by name and by a small number.

use std::collections::HashMap;
use std::sync::Arc;

use super::claims::{Claim, Rank};
use super::desired::FrontendKind;
use super::object::ObjectName;
use super::service::ServedService;
use super::slice::Slice;

/// A number for a Service while it is known.
pub(super) type ServiceId = u32;

/// A Service, the slices that name it, or both: they arrive in any order.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: ObjectName,
    pub(super) service: Option<Box<ServedService>>,
    /// Ordered by name.
    pub(super) slices: Vec<Slice>,
}

impl Entry {
    /// Puts `slice` in the place of the one with its name, or takes it out.
    pub(super) fn replace_slice(&mut self, name: &Arc<str>, slice: Option<Slice>) {
        let place = self.slices.binary_search_by(|known| known.name.cmp(name));
        match (place, slice) {
            (Ok(at), Some(slice)) => self.slices[at] = slice,
            (Ok(at), None) => drop(self.slices.remove(at)),
            (Err(at), Some(slice)) => {
                // Most Services have one slice; growth by doubling starts at four.
                self.slices.reserve_exact(1);
                self.slices.insert(at, slice);
            }
            (Err(_), None) => {}
        }
    }
}

/// All entries.
#[derive(Debug, Default)]
pub(super) struct Store {
    entries: Vec<Option<Entry>>,
    free: Vec<ServiceId>,
    by_name: HashMap<ObjectName, ServiceId>,
}

impl Store {
    pub(super) fn id(&self, name: &ObjectName) -> Option<ServiceId> {
        self.by_name.get(name).copied()
    }

    pub(super) fn get(&self, id: ServiceId) -> Option<&Entry> {
        self.entries.get(id as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: ServiceId) -> Option<&mut Entry> {
        self.entries.get_mut(id as usize)?.as_mut()
    }

    pub(super) fn by_name(&self, name: &ObjectName) -> Option<(ServiceId, &Entry)> {
        let id = self.id(name)?;
        Some((id, self.get(id)?))
    }

    /// All entries, in no order that means anything.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ServiceId, &Entry)> {
        (0..)
            .zip(&self.entries)
            .filter_map(|(id, entry)| Some((id, entry.as_ref()?)))
    }

    /// The rank of a claim of a Service that is there.
    pub(super) fn rank(&self, claim: Claim) -> Rank {
        let entry = self.get(claim.service);
        let service = entry.and_then(|entry| entry.service.as_ref());
        Rank {
            is_written: claim.kind != FrontendKind::ClusterIp,
            created: service.map_or(i64::MAX, |service| service.created),
            name: entry.map_or_else(|| ObjectName::new("", ""), |entry| entry.name.clone()),
            port: claim.port,
            kind: claim.kind,
        }
    }

    /// Makes an entry for a name that has none.
    pub(super) fn add(&mut self, name: ObjectName) -> ServiceId {
        let entry = Some(Entry {
            name: name.clone(),
            service: None,
            slices: Vec::new(),
        });
        let id = if let Some(id) = self.free.pop() {
            self.entries[id as usize] = entry;
            id
        } else {
            self.entries.push(entry);
            ServiceId::try_from(self.entries.len() - 1).expect("fewer Services than u32 counts")
        };
        self.by_name.insert(name, id);
        id
    }

    /// Forgets an entry in which nothing is left.
    pub(super) fn remove_if_empty(&mut self, id: ServiceId) {
        let Some(place) = self.entries.get_mut(id as usize) else {
            return;
        };
        if let Some(entry) = place
            && entry.service.is_none()
            && entry.slices.is_empty()
        {
            self.by_name.remove(&entry.name);
            self.free.push(id);
            *place = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_entry_gives_back_its_number() {
        let mut store = Store::default();
        let first = store.add(ObjectName::new("n", "a"));
        let second = store.add(ObjectName::new("n", "b"));
        store.remove_if_empty(first);
        assert!(store.id(&ObjectName::new("n", "a")).is_none());
        assert!(store.get(first).is_none());
        assert_eq!(store.iter().count(), 1);
        assert_eq!(store.add(ObjectName::new("n", "c")), first);
        assert_ne!(store.add(ObjectName::new("n", "d")), second);
    }
}
