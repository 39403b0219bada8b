//! The Pods of this node whose sockets are left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::object::{ObjectName, Pod};

/// The Pods, by name.
#[derive(Debug, Default)]
pub(super) struct Pods {
    uids: BTreeMap<ObjectName, Arc<str>>,
    is_changed: bool,
}

impl Pods {
    pub(super) fn put(&mut self, pod: Pod) {
        let Pod { name, uid } = pod;
        let before = self.uids.insert(name, uid.clone());
        self.is_changed |= before != Some(uid);
    }

    pub(super) fn remove(&mut self, name: &ObjectName) {
        self.is_changed |= self.uids.remove(name).is_some();
    }

    /// Their ids, if these are others than at the last call.
    pub(super) fn take_change(&mut self) -> Option<BTreeSet<Arc<str>>> {
        std::mem::take(&mut self.is_changed).then(|| self.uids.values().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, uid: &str) -> Pod {
        Pod {
            name: ObjectName {
                namespace: "default".into(),
                name: name.into(),
            },
            uid: uid.into(),
        }
    }

    #[test]
    fn only_changes_are_reported() {
        let mut pods = Pods::default();
        assert_eq!(pods.take_change(), None);
        pods.put(pod("a", "1"));
        pods.put(pod("b", "2"));
        assert_eq!(pods.take_change(), Some(["1".into(), "2".into()].into()));
        pods.put(pod("a", "1"));
        assert_eq!(pods.take_change(), None);
        // Deleted and made anew under its name.
        pods.put(pod("a", "3"));
        assert_eq!(pods.take_change(), Some(["3".into(), "2".into()].into()));
        pods.remove(&pod("b", "2").name);
        pods.remove(&pod("b", "2").name);
        assert_eq!(pods.take_change(), Some(["3".into()].into()));
        assert_eq!(pods.take_change(), None);
    }
}
