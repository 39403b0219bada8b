//! From what a file says to what the model gets.

use std::fmt;
use std::sync::Arc;

use crate::model::object::{Change, ObjectName};
use crate::source::{convert, select};

use super::document::ApiObject;

/// Which object it is. The order is that in which changes are reported: the
/// node first, because it decides about the endpoints of all the others.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// This node.
    Node,
    /// A ServiceCIDR.
    ServiceCidr(Arc<str>),
    /// A Service.
    Service(ObjectName),
    /// An EndpointSlice.
    EndpointSlice(ObjectName),
    /// A Pod.
    Pod(ObjectName),
}

impl Key {
    /// The change by which the object goes.
    pub fn gone(&self) -> Change {
        match self {
            Self::Node => Change::NodeGone,
            Self::ServiceCidr(name) => Change::ServiceCidrGone(name.clone()),
            Self::Service(name) => Change::ServiceGone(name.clone()),
            Self::EndpointSlice(name) => Change::EndpointSliceGone(name.clone()),
            Self::Pod(name) => Change::PodGone(name.clone()),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("the Node"),
            Self::ServiceCidr(name) => write!(f, "the ServiceCIDR {name}"),
            Self::Service(name) => write!(f, "the Service {name}"),
            Self::EndpointSlice(name) => write!(f, "the EndpointSlice {name}"),
            Self::Pod(name) => write!(f, "the Pod {name}"),
        }
    }
}

/// Which object it is, and the change by which it comes: none where the proxy
/// does not select it. `None` for other nodes.
pub fn take(object: ApiObject, node_name: &str) -> Option<(Key, Option<Change>)> {
    Some(match object {
        ApiObject::Service(object) => {
            let taken = select::takes_service(&object);
            let service = convert::service(*object)?;
            let key = Key::Service(service.name.clone());
            (key, taken.then_some(Change::Service(service)))
        }
        ApiObject::EndpointSlice(object) => {
            let name = convert::object_name(&object.metadata)?;
            let taken = select::takes_slice(&object);
            let slice = convert::slice(*object).filter(|_| taken);
            (Key::EndpointSlice(name), slice.map(Change::EndpointSlice))
        }
        ApiObject::Node(object) if select::takes_node(&object, node_name) => {
            (Key::Node, convert::node(*object).map(Change::Node))
        }
        ApiObject::Node(_) => return None,
        ApiObject::Pod(object) => {
            let name = convert::object_name(&object.metadata)?;
            let taken = select::takes_pod(&object, node_name);
            let pod = convert::pod(*object).filter(|_| taken);
            (Key::Pod(name), pod.map(Change::Pod))
        }
        ApiObject::ServiceCidr(object) => {
            let cidr = convert::service_cidr(*object)?;
            (
                Key::ServiceCidr(cidr.name.clone()),
                Some(Change::ServiceCidr(cidr)),
            )
        }
    })
}
