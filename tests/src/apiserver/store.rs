//! Objects, their versions, and their history.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

/// Kind, namespace and name.
pub(super) type Key = (String, String, String);

/// A change of an object.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) key: Key,
    /// The object before, if it was there.
    pub(super) before: Option<Arc<Value>>,
    /// The object after, if it is there.
    pub(super) after: Option<Arc<Value>>,
}

/// A version is older than the history.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expired;

/// All objects; one counter of versions for all of them.
#[derive(Debug, Default)]
pub(super) struct Store {
    objects: BTreeMap<Key, Arc<Value>>,
    version: u64,
    /// What happened since `oldest`, in order.
    history: Vec<Change>,
    /// The oldest version whose state can still be told.
    oldest: u64,
    /// How many changes are remembered at least; all where there is no number.
    remembered: Option<usize>,
}

fn text(object: &Value, pointer: &str) -> String {
    let text = object.pointer(pointer).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

fn key_of(object: &Value) -> Key {
    (
        text(object, "/kind"),
        text(object, "/metadata/namespace"),
        text(object, "/metadata/name"),
    )
}

/// The fields of `metadata` that the server itself writes.
const WRITTEN: [&str; 3] = ["resourceVersion", "uid", "creationTimestamp"];

impl Store {
    /// An empty store with a history of at least so many changes.
    pub(super) fn remembering(changes: Option<usize>) -> Self {
        Self {
            remembered: changes,
            ..Self::default()
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Creates or replaces an object, and returns it as it is stored.
    pub(super) fn apply(&mut self, mut object: Value) -> Arc<Value> {
        let key = key_of(&object);
        let before = self.objects.get(&key).cloned();
        if let Some(before) = &before {
            for field in WRITTEN {
                object["metadata"][field] = before["metadata"][field].clone();
            }
            if object == **before {
                return Arc::clone(before);
            }
        }
        self.version += 1;
        let metadata = &mut object["metadata"];
        if before.is_none() {
            // The version is unique, so the name of this incarnation is.
            metadata["uid"] = json!(format!("00000000-0000-4000-8000-{:012x}", self.version));
            if metadata["creationTimestamp"].is_null() {
                metadata["creationTimestamp"] = json!("2024-01-01T00:00:00Z");
            }
        }
        metadata["resourceVersion"] = json!(self.version.to_string());
        let object = Arc::new(object);
        self.objects.insert(key.clone(), Arc::clone(&object));
        self.record(key, before, Some(Arc::clone(&object)));
        object
    }

    pub(super) fn delete(&mut self, kind: &str, namespace: &str, name: &str) {
        let key = (kind.to_owned(), namespace.to_owned(), name.to_owned());
        if let Some(object) = self.objects.remove(&key) {
            self.version += 1;
            self.record(key, Some(object), None);
        }
    }

    /// Forgets the history.
    pub(super) fn compact(&mut self) {
        // A version of its own, so that whoever stands at the newest state and has
        // not heard of this is expired too, as after a restart.
        self.version += 1;
        self.oldest = self.version;
        self.history.clear();
    }

    fn record(&mut self, key: Key, before: Option<Arc<Value>>, after: Option<Arc<Value>>) {
        self.history.push(Change {
            version: self.version,
            key,
            before,
            after,
        });
        self.forget();
    }

    /// Forgets the older half of the history when it is twice as long as it need be.
    fn forget(&mut self) {
        let Some(remembered) = self.remembered else {
            return;
        };
        if self.history.len() > 2 * remembered {
            let mut forgotten = self.history.drain(..self.history.len() - remembered);
            if let Some(last) = forgotten.next_back() {
                self.oldest = last.version;
            }
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.objects.get(key).cloned()
    }

    /// The objects of a kind as they are.
    pub(super) fn iter(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects
            .iter()
            .filter(move |((of, _, _), _)| of == kind)
            .map(|(_, object)| &**object)
    }

    /// The objects of a kind as they were at a version.
    pub(super) fn list_at(
        &self,
        kind: &str,
        version: u64,
    ) -> Result<BTreeMap<Key, Arc<Value>>, Expired> {
        let mut objects: BTreeMap<Key, Arc<Value>> = self
            .objects
            .iter()
            .filter(|((of, _, _), _)| of == kind)
            .map(|(key, object)| (key.clone(), Arc::clone(object)))
            .collect();
        for change in self.since(version)?.iter().rev() {
            if change.key.0 == kind {
                match &change.before {
                    Some(before) => objects.insert(change.key.clone(), Arc::clone(before)),
                    None => objects.remove(&change.key),
                };
            }
        }
        Ok(objects)
    }

    /// What happened after a version.
    pub(super) fn since(&self, version: u64) -> Result<&[Change], Expired> {
        if version < self.oldest {
            return Err(Expired);
        }
        let start = self
            .history
            .partition_point(|change| change.version <= version);
        Ok(&self.history[start..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, label: &str) -> Value {
        json!({"kind": "Node", "metadata": {"name": name, "labels": {"a": label}}})
    }

    fn names(objects: &BTreeMap<Key, Arc<Value>>) -> Vec<String> {
        let label = |object: &Value| text(object, "/metadata/labels/a");
        objects
            .iter()
            .map(|((_, _, name), object)| format!("{name}={}", label(object)))
            .collect()
    }

    #[test]
    fn every_state_since_the_last_compaction_can_be_told() {
        let mut store = Store::default();
        store.apply(node("a", "1"));
        store.apply(node("b", "1"));
        store.apply(node("a", "2"));
        store.delete("Node", "", "b");
        let at = |store: &Store, version| store.list_at("Node", version).map(|all| names(&all));
        assert_eq!(at(&store, 0), Ok(vec![]));
        assert_eq!(at(&store, 2), Ok(vec!["a=1".into(), "b=1".into()]));
        assert_eq!(at(&store, 3), Ok(vec!["a=2".into(), "b=1".into()]));
        assert_eq!(at(&store, 4), Ok(vec!["a=2".into()]));
        store.compact();
        assert_eq!(at(&store, 4), Err(Expired));
        assert_eq!(at(&store, store.version()), Ok(vec!["a=2".into()]));
    }

    #[test]
    fn a_bounded_history_forgets_the_oldest_changes_first() {
        let mut store = Store::remembering(Some(2));
        for label in ["1", "2", "3", "4", "5"] {
            store.apply(node("a", label));
        }
        let at = |version| store.list_at("Node", version).map(|all| names(&all));
        assert_eq!(at(2), Err(Expired));
        assert_eq!(at(3), Ok(vec!["a=3".into()]));
        assert_eq!(store.since(3).map(<[_]>::len), Ok(2));
    }

    #[test]
    fn an_object_that_stays_the_same_keeps_its_version() {
        let mut store = Store::default();
        let first = store.apply(node("a", "1"));
        assert_eq!(first, store.apply(node("a", "1")));
        let second = store.apply(node("a", "2"));
        assert_eq!(first["metadata"]["uid"], second["metadata"]["uid"]);
        store.delete("Node", "", "a");
        let third = store.apply(node("a", "2"));
        assert_ne!(second["metadata"]["uid"], third["metadata"]["uid"]);
        assert_eq!(store.version(), 4);
    }
}
