//! The API server as the source of objects.
//!
//! Three watches, each with its own list, its own backoff and its own idea of what
//! is there ([`track`]). kube's watcher resumes broken streams, lists again where
//! the server has forgotten too much, and gives up a stream that has gone silent;
//! here its events become [`Change`]s, and what vanished while nobody watched is
//! reported as gone.

mod client;
mod resource;
mod track;

use std::path::PathBuf;
use std::time::Duration;

use futures::stream::{BoxStream, select_all};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, InitialListStrategy};
use kube::runtime::{WatchStreamExt as _, watcher::watcher};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::model::object::Change;

use client::connect;
use resource::Watched;
use track::Tracker;

/// How to reach the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubeSettings {
    /// A kubeconfig file; the pod's service account where there is none.
    pub kubeconfig: Option<PathBuf>,
    /// The server's address, in place of the configured one. This proxy is what
    /// makes the Service `kubernetes` reachable, so it cannot depend on it.
    pub master: Option<String>,
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
    /// The client cannot be built, mostly for a bad certificate.
    #[error("cannot set up the client of the API server")]
    Client(#[source] Box<kube::Error>),
}

/// The longest that a watch runs before it is begun anew where it stopped; a stream
/// that went silent is noticed five seconds later.
const WATCH_SECONDS: u32 = 240;

/// How many changes that are there at once go into one batch.
const BATCH: usize = 1024;

/// How long the server may take to say its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends the objects of the API server and then what changes, until nobody listens
/// any more. Trouble with the server is waited out, with backoff and jitter.
///
/// # Errors
///
/// The configuration cannot be used.
pub async fn watch(
    settings: &KubeSettings,
    node_name: &str,
    changes: mpsc::Sender<Vec<Change>>,
) -> Result<(), KubeError> {
    let client = connect(settings).await?;
    let strategy = list_strategy(&client).await;
    let mut all = select_all([
        follow::<Service>(&client, node_name, &strategy),
        follow::<EndpointSlice>(&client, node_name, &strategy),
        follow::<Node>(&client, node_name, &strategy),
    ])
    .ready_chunks(BATCH);
    while let Some(batch) = all.next().await {
        let batch: Vec<Change> = batch.into_iter().flatten().collect();
        if !batch.is_empty() && changes.send(batch).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Streaming lists, where the server has them by default: since 1.32
/// (`WatchList` among Kubernetes' feature gates). A server that cannot be asked is
/// listed page by page, which all of them can do.
async fn list_strategy(client: &Client) -> InitialListStrategy {
    let version = tokio::time::timeout(VERSION_TIMEOUT, client.apiserver_version()).await;
    let has_streaming = match version {
        Ok(Ok(version)) => {
            info!(version = version.git_version, "reached the API server");
            let digits = |text: &str| text.trim_end_matches('+').parse::<u32>().unwrap_or(0);
            (digits(&version.major), digits(&version.minor)) >= (1, 32)
        }
        Ok(Err(error)) => {
            warn!("the API server is not reached yet: {error}");
            false
        }
        Err(_) => {
            warn!("the API server does not answer yet");
            false
        }
    };
    if has_streaming {
        InitialListStrategy::StreamingList
    } else {
        InitialListStrategy::ListWatch
    }
}

/// Changes of one kind of object, without end.
fn follow<K: Watched>(
    client: &Client,
    node_name: &str,
    strategy: &InitialListStrategy,
) -> BoxStream<'static, Vec<Change>> {
    let config = watcher::Config {
        label_selector: K::LABELS.map(str::to_owned),
        field_selector: K::fields(node_name),
        timeout: Some(WATCH_SECONDS),
        initial_list_strategy: strategy.clone(),
        ..watcher::Config::default()
    };
    let mut tracker = Tracker::new(node_name);
    watcher(Api::<K>::all(client.clone()), config)
        .inspect_err(|error| warn!("{}: {}", K::PLURAL, chain(error)))
        .default_backoff()
        .filter_map(move |event| {
            let changes = event.ok().map(|event| tracker.take(event));
            std::future::ready(changes)
        })
        .boxed()
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    text
}
