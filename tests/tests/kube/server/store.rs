//! Objects, their versions, and what happened.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::selector::Selector;

/// A change of an object.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) kind: String,
    /// The object before, if it was there.
    pub(crate) before: Option<Value>,
    /// The object after, if it is there.
    pub(crate) after: Option<Value>,
}

/// Objects by kind, namespace and name; one counter of versions for all.
#[derive(Debug)]
pub(crate) struct Store {
    objects: BTreeMap<(String, String, String), Value>,
    version: u64,
    history: Vec<Change>,
    /// Watches that begin before this are too old.
    oldest: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            version: 1,
            history: Vec::new(),
            oldest: 0,
        }
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

impl Store {
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn apply(&mut self, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let key = (
            text(&object, "/kind").to_owned(),
            text(&object, "/metadata/namespace").to_owned(),
            text(&object, "/metadata/name").to_owned(),
        );
        let before = self.objects.insert(key.clone(), object.clone());
        self.record(key.0, before, Some(object));
    }

    pub(crate) fn delete(&mut self, kind: &str, (namespace, name): (&str, &str)) {
        let key = (kind.to_owned(), namespace.to_owned(), name.to_owned());
        if let Some(mut object) = self.objects.remove(&key) {
            self.version += 1;
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.record(key.0, Some(object), None);
        }
    }

    pub(crate) fn compact(&mut self) {
        self.version += 1;
        self.oldest = self.version;
        self.history.clear();
    }

    fn record(&mut self, kind: String, before: Option<Value>, after: Option<Value>) {
        self.history.push(Change {
            version: self.version,
            kind,
            before,
            after,
        });
    }

    /// The objects of a kind that a selector takes, in order of their names.
    pub(crate) fn list(&self, kind: &str, selector: &Selector) -> Vec<Value> {
        self.objects
            .iter()
            .filter(|((of, _, _), object)| of == kind && selector.takes(object))
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// What happened to a kind after a version; `None` where that was forgotten.
    pub(crate) fn since(&self, kind: &str, version: u64) -> Option<Vec<Change>> {
        (version >= self.oldest).then(|| {
            self.history
                .iter()
                .filter(|change| change.version > version && change.kind == kind)
                .cloned()
                .collect()
        })
    }
}
