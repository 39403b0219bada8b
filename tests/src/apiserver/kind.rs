//! The kinds of object, and where they are.

use super::store::Key;

/// A kind of object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// `kind`
    pub(super) name: &'static str,
    /// `apiVersion`
    pub(super) version: &'static str,
    /// The last part of its path.
    pub(super) plural: &'static str,
    pub(super) is_namespaced: bool,
    /// What field selectors can name.
    pub(super) fields: &'static [&'static str],
}

impl Kind {
    /// The path before the namespace.
    fn root(&self) -> String {
        let api = if self.version == "v1" { "api" } else { "apis" };
        format!("/{api}/{}/", self.version)
    }
}

const KINDS: &[Kind] = &[
    Kind {
        name: "Service",
        version: "v1",
        plural: "services",
        is_namespaced: true,
        fields: &[
            "metadata.name",
            "metadata.namespace",
            "spec.clusterIP",
            "spec.type",
        ],
    },
    Kind {
        name: "Pod",
        version: "v1",
        plural: "pods",
        is_namespaced: true,
        fields: &["metadata.name", "metadata.namespace", "spec.nodeName"],
    },
    Kind {
        name: "Node",
        version: "v1",
        plural: "nodes",
        is_namespaced: false,
        fields: &["metadata.name", "spec.unschedulable"],
    },
    Kind {
        name: "Event",
        version: "v1",
        plural: "events",
        is_namespaced: true,
        fields: &["metadata.name", "metadata.namespace", "reason", "type"],
    },
    Kind {
        name: "EndpointSlice",
        version: "discovery.k8s.io/v1",
        plural: "endpointslices",
        is_namespaced: true,
        fields: &["metadata.name", "metadata.namespace"],
    },
    Kind {
        name: "ServiceCIDR",
        version: "networking.k8s.io/v1",
        plural: "servicecidrs",
        is_namespaced: false,
        fields: &["metadata.name"],
    },
    Kind {
        name: "Event",
        version: "events.k8s.io/v1",
        plural: "events",
        is_namespaced: true,
        fields: &["metadata.name", "metadata.namespace", "reason", "type"],
    },
];

/// What a path names: all objects of a kind, those of a namespace, or one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) kind: &'static Kind,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
}

impl Place {
    /// Where the object `name` of this place is stored.
    pub(super) fn key(&self, name: &str) -> Key {
        let namespace = self.namespace.clone().unwrap_or_default();
        (self.kind.name.to_owned(), namespace, name.to_owned())
    }

    pub(super) fn of(path: &str) -> Option<Self> {
        KINDS.iter().find_map(|kind| {
            let rest = path.strip_prefix(&kind.root())?;
            let mut parts = rest.split('/');
            let mut part = parts.next()?;
            let mut namespace = None;
            if part == "namespaces" && kind.is_namespaced {
                namespace = Some(parts.next()?.to_owned());
                part = parts.next()?;
            }
            let name = parts.next().map(ToOwned::to_owned);
            let is_whole = parts.next().is_none();
            let is_named_in_full = name.is_none() || namespace.is_some() || !kind.is_namespaced;
            (part == kind.plural && is_whole && is_named_in_full).then_some(Self {
                kind,
                namespace,
                name,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        let of = |path: &str| {
            Place::of(path).map(|place| (place.kind.name, place.namespace, place.name))
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(of("/api/v1/services"), Some(("Service", None, None)));
        assert_eq!(
            of("/api/v1/namespaces/a/services/b"),
            Some(("Service", text("a"), text("b")))
        );
        assert_eq!(of("/api/v1/nodes/b"), Some(("Node", None, text("b"))));
        assert_eq!(
            of("/apis/discovery.k8s.io/v1/endpointslices"),
            Some(("EndpointSlice", None, None))
        );
        for bad in [
            "/apis/v1/services",
            "/api/v1/endpointslices",
            "/api/v1/services/a",
            "/api/v1/namespaces/a/nodes",
            "/api/v1/nodes/a/status",
            "/api/v1",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
