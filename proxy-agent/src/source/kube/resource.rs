//! The kinds of object that are watched, and the selectors that go to the server.

use std::fmt::Debug;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::Resource;
use serde::de::DeserializeOwned;

use crate::model::object::{Change, ObjectName};
use crate::source::{convert, select};

/// A kind of object that is watched.
pub(super) trait WatchedResource:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static
{
    /// What the log calls them.
    const PLURAL: &'static str;
    /// Label selector.
    const LABELS: Option<&'static str>;
    /// What says that the first list is complete.
    const LISTED: Option<Change>;
    /// Whether there are servers that do not have the kind.
    const IS_OPTIONAL: bool = false;

    /// Field selector.
    fn fields(node_name: &str) -> Option<String>;
    /// The object as the model wants it; `None` where it is none of ours.
    fn reduce(self, node_name: &str) -> Option<Change>;
    /// The news that it is gone.
    fn gone(name: ObjectName) -> Change;
}

impl WatchedResource for Service {
    const PLURAL: &'static str = "services";
    const LABELS: Option<&'static str> = Some("!service.kubernetes.io/service-proxy-name");
    const LISTED: Option<Change> = Some(Change::ServicesListed);

    fn fields(_: &str) -> Option<String> {
        Some("spec.clusterIP!=None".to_owned())
    }

    fn reduce(self, _: &str) -> Option<Change> {
        let is_ours = select::takes_service(&self);
        is_ours
            .then(|| convert::service(self))?
            .map(Change::Service)
    }

    fn gone(name: ObjectName) -> Change {
        Change::ServiceGone(name)
    }
}

impl WatchedResource for EndpointSlice {
    const PLURAL: &'static str = "endpointslices";
    const LABELS: Option<&'static str> = Some("!service.kubernetes.io/headless");
    const LISTED: Option<Change> = Some(Change::EndpointSlicesListed);

    fn fields(_: &str) -> Option<String> {
        None
    }

    fn reduce(self, _: &str) -> Option<Change> {
        let is_ours = select::takes_slice(&self);
        is_ours
            .then(|| convert::slice(self))?
            .map(Change::EndpointSlice)
    }

    fn gone(name: ObjectName) -> Change {
        Change::EndpointSliceGone(name)
    }
}

impl WatchedResource for Node {
    const PLURAL: &'static str = "nodes";
    const LABELS: Option<&'static str> = None;
    const LISTED: Option<Change> = Some(Change::NodeListed);

    fn fields(node_name: &str) -> Option<String> {
        Some(format!("metadata.name={node_name}"))
    }

    fn reduce(self, node_name: &str) -> Option<Change> {
        let is_ours = select::takes_node(&self, node_name);
        is_ours.then(|| convert::node(self))?.map(Change::Node)
    }

    fn gone(_: ObjectName) -> Change {
        Change::NodeGone
    }
}

impl WatchedResource for ServiceCIDR {
    const PLURAL: &'static str = "servicecidrs";
    const LABELS: Option<&'static str> = None;
    const LISTED: Option<Change> = None;
    // Stable since Kubernetes 1.33.
    const IS_OPTIONAL: bool = true;

    fn fields(_: &str) -> Option<String> {
        None
    }

    fn reduce(self, _: &str) -> Option<Change> {
        convert::service_cidr(self).map(Change::ServiceCidr)
    }

    fn gone(name: ObjectName) -> Change {
        Change::ServiceCidrGone(name.name)
    }
}

impl WatchedResource for Pod {
    const PLURAL: &'static str = "pods";
    const LABELS: Option<&'static str> = Some("proxy-agent/socket-path=off");
    const LISTED: Option<Change> = None;

    fn fields(node_name: &str) -> Option<String> {
        Some(format!("spec.nodeName={node_name}"))
    }

    fn reduce(self, node_name: &str) -> Option<Change> {
        let is_ours = select::takes_pod(&self, node_name);
        is_ours.then(|| convert::pod(self))?.map(Change::Pod)
    }

    fn gone(name: ObjectName) -> Change {
        Change::PodGone(name)
    }
}
