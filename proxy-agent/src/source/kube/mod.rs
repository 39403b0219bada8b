//! The API server as the source of objects.
//!
//! Four watches (`reflector`), and one of Pods where that is wanted, each with its own list, its
//! own backoff and its own idea of what is there (`track`), over one `client` that is made
//! anew where its credentials may have changed. An error of the server changes nothing here: what
//! was reported stays reported until a complete list or a watch says otherwise.

mod client;
mod measured;
mod pace;
mod reflector;
mod resource;
mod track;
mod watch_error;

use std::path::PathBuf;

use futures::FutureExt as _;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use tokio::sync::mpsc;

use crate::model::object::Change;

pub(crate) use client::Connection;
pub use measured::{RequestMetrics, ServerContact};
pub(crate) use pace::Backoff;
pub use pace::RetryPolicy;
use reflector::Reflector;
pub(crate) use watch_error::WatchError;

/// How to reach the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubeSettings {
    /// A kubeconfig file; the pod's service account where there is none.
    pub kubeconfig: Option<PathBuf>,
    /// The server's address, in place of the configured one. This proxy is what
    /// makes the Service `kubernetes` reachable, so it cannot depend on it.
    pub master: Option<String>,
    /// Whether Pods are watched that want their sockets left alone.
    pub pods: bool,
}

/// Why the API server cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum KubeError {
    /// The kubeconfig file is not usable.
    #[error("cannot use the kubeconfig file {}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    /// No kubeconfig, and not in a pod.
    #[error("no --kubeconfig is given, and this is no pod with a service account")]
    InCluster(#[source] kube::config::InClusterError),
    /// The address is none.
    #[error("--master {master:?} is no address such as https://192.0.2.1:6443")]
    Master {
        /// What was given.
        master: String,
    },
    /// The kubeconfig wants a proxy in between.
    #[error("the kubeconfig's proxy-url {proxy} is not supported")]
    Proxy {
        /// The proxy.
        proxy: String,
    },
    /// The client cannot be built, mostly for a bad certificate.
    #[error("cannot set up the client of the API server")]
    Client(#[source] Box<kube::Error>),
    /// The runtime stops.
    #[error("interrupted while setting up the client of the API server")]
    Interrupted,
}

/// The most changes that go into one batch.
const BATCH: usize = 1024;

/// Sends the objects of the API server and then what changes, until the receiver
/// is dropped. After an error it tries again, with backoff and jitter.
///
/// # Errors
///
/// The configuration cannot be used.
pub async fn watch(
    settings: &KubeSettings,
    node_name: &str,
    requests: RequestMetrics,
    changes: mpsc::Sender<Vec<Change>>,
) -> Result<(), KubeError> {
    let policy = RetryPolicy::default();
    watch_with_policy(settings, policy, node_name, requests, changes).await
}

/// [`watch`] with another patience than the default one.
///
/// # Errors
///
/// The configuration cannot be used.
pub async fn watch_with_policy(
    settings: &KubeSettings,
    pace: RetryPolicy,
    node_name: &str,
    requests: RequestMetrics,
    changes: mpsc::Sender<Vec<Change>>,
) -> Result<(), KubeError> {
    let connection = Connection::open(settings, requests).await?;
    let (sender, receiver) = mpsc::channel(BATCH);
    let services = Reflector::<Service>::new(&connection, node_name, pace, sender.clone());
    let slices = Reflector::<EndpointSlice>::new(&connection, node_name, pace, sender.clone());
    let cidrs = Reflector::<ServiceCIDR>::new(&connection, node_name, pace, sender.clone());
    let nodes = Reflector::<Node>::new(&connection, node_name, pace, sender.clone());
    let mut followers = vec![
        services.run().boxed(),
        slices.run().boxed(),
        nodes.run().boxed(),
        cidrs.run().boxed(),
    ];
    if settings.pods {
        let pods = Reflector::<Pod>::new(&connection, node_name, pace, sender);
        followers.push(pods.run().boxed());
    }
    let followers = join_all(followers);
    tokio::select! {
        () = changes.closed() => {}
        () = merge(receiver, &changes) => {}
        _ = followers => {}
    }
    Ok(())
}

/// Sends what there is at a moment as one batch. Where nobody takes batches, changes
/// wait here, then the followers do, and then the server.
async fn merge(mut receiver: mpsc::Receiver<Change>, changes: &mpsc::Sender<Vec<Change>>) {
    let mut batch = Vec::new();
    while receiver.recv_many(&mut batch, BATCH).await > 0 {
        if changes.send(std::mem::take(&mut batch)).await.is_err() {
            return;
        }
    }
}
