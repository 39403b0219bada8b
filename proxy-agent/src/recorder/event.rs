//! What an Event says.

use std::fmt;
use std::net::SocketAddr;

use k8s_openapi::api::core::v1::ObjectReference;
use proxy_ebpf::layout::SERVICE_CIDRS;

use crate::model::ServiceWarning;
use crate::model::object::ObjectName;
use crate::plan::CapacityError;

/// The API server's limit for a note, in bytes.
const MAX_NOTE_BYTES: usize = 1024;

/// An Event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// The object that it is about.
    pub regarding: Regarding,
    /// How serious it is.
    pub event_type: EventType,
    /// Why, in one word for machines.
    pub reason: &'static str,
    /// What the agent was doing, in one word for machines.
    pub action: &'static str,
    /// The same for people.
    pub note: String,
}

/// An object that Events are about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Regarding {
    /// This node.
    Node(String),
    /// A Service.
    Service(ObjectName),
}

impl fmt::Display for Regarding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(out, "node {name}"),
            Self::Service(name) => name.fmt(out),
        }
    }
}

/// How serious an Event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// All is well.
    Normal,
    /// Somebody should look at it.
    Warning,
}

impl Event {
    /// The agent starts on a node.
    pub fn starting(node_name: &str) -> Self {
        Self {
            regarding: Regarding::Node(node_name.to_owned()),
            event_type: EventType::Normal,
            reason: "Starting",
            action: "Start",
            note: format!("proxy-agent {} starts", env!("CARGO_PKG_VERSION")),
        }
    }

    /// So many ranges of ServiceCIDRs are more than the settings hold.
    pub fn ranges_dropped(node_name: &str, dropped: usize) -> Self {
        Self {
            regarding: Regarding::Node(node_name.to_owned()),
            event_type: EventType::Warning,
            reason: "TooManyServiceCIDRs",
            action: "Program",
            note: format!(
                "{dropped} ServiceCIDR ranges do not fit, {SERVICE_CIDRS} of each IP family do: \
                 packets to unassigned addresses in them are not dropped"
            ),
        }
    }

    /// This node's own processes are not served at their sockets.
    pub fn no_socket_path(node_name: &str, reason: &str) -> Self {
        let mut note = format!(
            "the host reaches Services only where its packets leave by an uplink: {reason}"
        );
        note.truncate(note.floor_char_boundary(MAX_NOTE_BYTES));
        Self {
            regarding: Regarding::Node(node_name.to_owned()),
            event_type: EventType::Warning,
            reason: "NoSocketPath",
            action: "Attach",
            note,
        }
    }

    fn warning(
        service: ObjectName,
        reason: &'static str,
        action: &'static str,
        mut note: String,
    ) -> Self {
        note.truncate(note.floor_char_boundary(MAX_NOTE_BYTES));
        Self {
            regarding: Regarding::Service(service),
            event_type: EventType::Warning,
            reason,
            action,
            note,
        }
    }

    /// The kernel did not take a frontend of a Service.
    pub fn not_programmed(service: ObjectName, error: &str) -> Self {
        Self::warning(service, "NotProgrammed", "Program", error.to_owned())
    }

    /// An endpoint of a Service does not answer new connections from a node.
    pub fn unanswered(node_name: &str, service: ObjectName, endpoint: SocketAddr) -> Self {
        let note = format!(
            "endpoint {endpoint} does not answer connections from node {node_name}; \
             new ones go to other endpoints"
        );
        Self::warning(service, "EndpointUnanswered", "Avoid", note)
    }

    /// The health check of a Service cannot be asked; reason and action are kube-proxy's.
    pub fn no_health_check(node_name: &str, service: ObjectName, reason: &str) -> Self {
        let note = format!("node {node_name}: {reason}");
        Self::warning(service, "FailedToStartServiceHealthcheck", "Listen", note)
    }
}

impl From<&ServiceWarning> for Event {
    fn from(warning: &ServiceWarning) -> Self {
        let ServiceWarning { service, reason } = warning;
        Self::warning(
            service.clone(),
            reason.name(),
            "Program",
            reason.to_string(),
        )
    }
}

impl From<&CapacityError> for Event {
    fn from(refused: &CapacityError) -> Self {
        let service = refused.port.service.clone();
        Self::warning(service, "MapFull", "Program", refused.to_string())
    }
}

impl Regarding {
    /// The namespace of its Events; that of Nodes' Events is `default`.
    pub(super) fn namespace(&self) -> &str {
        match self {
            Self::Node(_) => "default",
            Self::Service(name) => &name.namespace,
        }
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Node(name) => name,
            Self::Service(name) => &name.name,
        }
    }

    /// The reference to it.
    pub(super) fn reference(&self, uid: String) -> ObjectReference {
        let (kind, namespace) = match self {
            Self::Node(_) => ("Node", None),
            Self::Service(name) => ("Service", Some(name.namespace.to_string())),
        };
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some(kind.to_owned()),
            namespace,
            name: Some(self.name().to_owned()),
            uid: Some(uid),
            ..ObjectReference::default()
        }
    }
}

impl EventType {
    /// `type` of the object.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}
