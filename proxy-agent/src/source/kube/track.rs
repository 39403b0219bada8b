//! From objects to changes: what is there by name, so that a new list shows what has
//! vanished.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;

use super::resource::WatchedResource;
use crate::model::object::{Change, ObjectName};
use crate::source::convert;

/// What is known of one kind of object.
pub(super) struct KnownObjects<K> {
    node_name: String,
    /// What was reported and not reported as gone, each with the number of the list
    /// that named it last.
    known: HashMap<ObjectName, u64>,
    /// The namespace of the last name, whose memory the next name may share.
    namespace: Arc<str>,
    /// The number of the list that runs or ran last.
    list: u64,
    was_listed: bool,
    kind: PhantomData<fn(K)>,
}

impl<K: WatchedResource> KnownObjects<K> {
    /// A tracker that knows of nothing.
    pub(super) fn new(node_name: &str) -> Self {
        Self {
            node_name: node_name.to_owned(),
            known: HashMap::new(),
            namespace: Arc::default(),
            list: 0,
            was_listed: false,
            kind: PhantomData,
        }
    }

    /// A list begins, perhaps after one that broke off.
    pub(super) fn begin_list(&mut self) {
        self.list += 1;
    }

    /// The object is there, or was changed.
    pub(super) fn apply(&mut self, object: K) -> Option<Change> {
        let name = convert::object_name(object.meta())?;
        match object.reduce(&self.node_name) {
            Some(change) => {
                // The name that the change has already: the same memory.
                let mut name = match &change {
                    Change::Service(service) => service.name.clone(),
                    Change::EndpointSlice(slice) => slice.name.clone(),
                    _ => name,
                };
                // Lists come ordered by namespace.
                if name.namespace == self.namespace {
                    name.namespace.clone_from(&self.namespace);
                } else {
                    self.namespace.clone_from(&name.namespace);
                }
                self.known.insert(name, self.list);
                Some(change)
            }
            None => self.remove(name),
        }
    }

    /// The object was deleted, or the selectors no longer take it.
    pub(super) fn delete(&mut self, object: &K) -> Option<Change> {
        convert::object_name(object.meta()).and_then(|name| self.remove(name))
    }

    fn remove(&mut self, name: ObjectName) -> Option<Change> {
        self.known.remove(&name).map(|_| K::gone(name))
    }

    /// The list is complete: what it has not named is gone. A list that broke off
    /// never gets here, and so nothing is taken for gone before one is complete.
    pub(super) fn end_list(&mut self) -> Vec<Change> {
        let list = self.list;
        let mut changes: Vec<Change> = self
            .known
            .extract_if(|_, named| *named != list)
            .map(|(name, _)| K::gone(name))
            .collect();
        if !std::mem::replace(&mut self.was_listed, true) {
            changes.extend(K::LISTED);
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use serde_json::{Value, json};

    use super::*;

    fn service(name: &str, labels: &Value) -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "default", "labels": labels},
            "spec": {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"]},
        }))
        .unwrap()
    }

    fn plain(name: &str) -> Service {
        service(name, &json!({}))
    }

    /// What changes say, in short.
    fn short(changes: &[Change]) -> Vec<String> {
        changes
            .iter()
            .map(|change| match change {
                Change::Service(service) => format!("+{}", service.name.name),
                Change::ServiceGone(name) => format!("-{}", name.name),
                Change::ServicesListed => "listed".to_owned(),
                other => format!("{other:?}"),
            })
            .collect()
    }

    fn apply(tracker: &mut KnownObjects<Service>, names: &[&str]) -> Vec<String> {
        let changes: Vec<_> = names
            .iter()
            .filter_map(|name| tracker.apply(plain(name)))
            .collect();
        short(&changes)
    }

    /// A whole list.
    fn list(tracker: &mut KnownObjects<Service>, names: &[&str]) -> Vec<String> {
        tracker.begin_list();
        let mut changes = apply(tracker, names);
        changes.extend(short(&tracker.end_list()));
        changes
    }

    #[test]
    fn the_first_list_is_reported_once() {
        let mut tracker = KnownObjects::new("here");
        assert_eq!(list(&mut tracker, &["a", "b"]), ["+a", "+b", "listed"]);
        assert_eq!(list(&mut tracker, &["a", "b"]), ["+a", "+b"]);
    }

    #[test]
    fn what_a_new_list_does_not_name_is_gone() {
        let mut tracker = KnownObjects::new("here");
        list(&mut tracker, &["a", "b", "c"]);
        apply(&mut tracker, &["d"]);
        let mut changes = list(&mut tracker, &["b"]);
        changes.sort();
        assert_eq!(changes, ["+b", "-a", "-c", "-d"]);
        assert_eq!(list(&mut tracker, &["b"]), ["+b"]);
    }

    #[test]
    fn a_list_that_breaks_off_takes_nothing_away() {
        let mut tracker = KnownObjects::new("here");
        list(&mut tracker, &["a", "b"]);
        tracker.begin_list();
        assert_eq!(apply(&mut tracker, &["b"]), ["+b"]);
        assert_eq!(list(&mut tracker, &["a"]), ["+a", "-b"]);
    }

    #[test]
    fn what_a_list_names_and_a_change_then_deletes_is_gone_once() {
        let mut tracker = KnownObjects::new("here");
        list(&mut tracker, &["a"]);
        tracker.begin_list();
        apply(&mut tracker, &["a"]);
        let gone = tracker.delete(&plain("a"));
        assert_eq!(short(gone.as_slice()), ["-a"]);
        assert!(tracker.end_list().is_empty());
    }

    #[test]
    fn an_object_that_the_selectors_no_longer_take_is_gone_once() {
        let mut tracker = KnownObjects::new("here");
        list(&mut tracker, &["a"]);
        let label = json!({"service.kubernetes.io/service-proxy-name": "other"});
        let gone = tracker.apply(service("a", &label));
        assert_eq!(short(gone.as_slice()), ["-a"]);
        assert!(tracker.apply(service("a", &label)).is_none());
        assert!(tracker.delete(&plain("a")).is_none());
    }
}
