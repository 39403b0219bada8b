//! What the node should serve at a destination, for whoever compares that with the maps.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// What the node should serve at a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DesiredReport {
    /// Whether the maps may lag behind it: changes are on their way.
    pub is_pending: bool,
    /// The frontend there; none where no Service should be reached.
    pub frontend: Option<DesiredFrontend>,
}

/// A frontend that the node should serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DesiredFrontend {
    /// The Service port, as `SERVICE_NAMES` has it.
    pub service: String,
    /// `ClusterIP`, `NodePort`, `External` or `Host`.
    pub kind: String,
    /// `Cluster` or `Local`.
    pub traffic_policy: String,
    /// The endpoints, those that do not serve included; by address and port.
    pub endpoints: Vec<DesiredEndpoint>,
}

/// An endpoint of the Service port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DesiredEndpoint {
    /// Address and port.
    pub endpoint: SocketAddr,
    /// Whether it is on this node.
    pub local: bool,
    /// `candidate` where new connections go to it under the policy Cluster; else why not.
    pub under_cluster: String,
    /// The same under the policy Local.
    pub under_local: String,
}
