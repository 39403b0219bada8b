//! From a watcher's events to changes: what is there by name, so that a new list
//! tells what has vanished.

use std::collections::HashSet;
use std::marker::PhantomData;

use kube::runtime::watcher::Event;

use super::resource::Watched;
use crate::model::object::{Change, ObjectName};

/// What is known of one kind of object.
pub(super) struct Tracker<K> {
    node_name: String,
    /// Names of what was reported and not reported as gone.
    known: HashSet<ObjectName>,
    /// While a list runs: what of `known` it has not named so far.
    missing: Option<HashSet<ObjectName>>,
    was_listed: bool,
    kind: PhantomData<fn(K)>,
}

impl<K: Watched> Tracker<K> {
    /// A tracker that knows of nothing.
    pub(super) fn new(node_name: &str) -> Self {
        Self {
            node_name: node_name.to_owned(),
            known: HashSet::new(),
            missing: None,
            was_listed: false,
            kind: PhantomData,
        }
    }

    /// The changes that an event means.
    pub(super) fn take(&mut self, event: Event<K>) -> Vec<Change> {
        match event {
            Event::Apply(object) | Event::InitApply(object) => {
                self.apply(object).into_iter().collect()
            }
            Event::Delete(object) => object
                .object_name()
                .and_then(|name| self.remove(name))
                .into_iter()
                .collect(),
            Event::Init => {
                self.missing = Some(self.known.clone());
                Vec::new()
            }
            Event::InitDone => self.end_list(),
        }
    }

    fn apply(&mut self, object: K) -> Option<Change> {
        let name = object.object_name()?;
        if let Some(missing) = &mut self.missing {
            missing.remove(&name);
        }
        match object.reduce(&self.node_name) {
            Some(change) => {
                self.known.insert(name);
                Some(change)
            }
            None => self.remove(name),
        }
    }

    fn remove(&mut self, name: ObjectName) -> Option<Change> {
        if let Some(missing) = &mut self.missing {
            missing.remove(&name);
        }
        self.known.remove(&name).then(|| K::gone(name))
    }

    /// What the list has not named is gone. A list that broke off never gets here:
    /// it begins anew, and nothing is taken for gone before one is complete.
    fn end_list(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for name in self.missing.take().unwrap_or_default() {
            changes.extend(self.remove(name));
        }
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

    fn run(tracker: &mut Tracker<Service>, events: Vec<Event<Service>>) -> Vec<String> {
        let changes: Vec<_> = events
            .into_iter()
            .flat_map(|event| tracker.take(event))
            .collect();
        short(&changes)
    }

    fn listed(names: &[&str]) -> Vec<Event<Service>> {
        let mut events = vec![Event::Init];
        events.extend(names.iter().map(|name| Event::InitApply(plain(name))));
        events.push(Event::InitDone);
        events
    }

    #[test]
    fn the_first_list_is_told_once() {
        let mut tracker = Tracker::new("here");
        assert_eq!(
            run(&mut tracker, listed(&["a", "b"])),
            ["+a", "+b", "listed"]
        );
        assert_eq!(run(&mut tracker, listed(&["a", "b"])), ["+a", "+b"]);
    }

    #[test]
    fn what_a_new_list_does_not_name_is_gone() {
        let mut tracker = Tracker::new("here");
        run(&mut tracker, listed(&["a", "b", "c"]));
        let mut changes = run(&mut tracker, listed(&["b"]));
        changes.sort();
        assert_eq!(changes, ["+b", "-a", "-c"]);
        assert_eq!(run(&mut tracker, listed(&["b"])), ["+b"]);
    }

    #[test]
    fn a_list_that_breaks_off_takes_nothing_away() {
        let mut tracker = Tracker::new("here");
        run(&mut tracker, listed(&["a", "b"]));
        let broken = vec![Event::Init, Event::InitApply(plain("b")), Event::Init];
        assert_eq!(run(&mut tracker, broken), ["+b"]);
        let rest = vec![Event::InitApply(plain("a")), Event::InitDone];
        assert_eq!(run(&mut tracker, rest), ["+a", "-b"]);
    }

    #[test]
    fn an_object_that_the_selectors_no_longer_take_is_gone_once() {
        let mut tracker = Tracker::new("here");
        run(&mut tracker, listed(&["a"]));
        let label = json!({"service.kubernetes.io/service-proxy-name": "other"});
        let other = Event::Apply(service("a", &label));
        assert_eq!(run(&mut tracker, vec![other.clone(), other]), ["-a"]);
        assert_eq!(run(&mut tracker, vec![Event::Delete(plain("a"))]), [""; 0]);
    }
}
